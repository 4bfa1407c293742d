import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase, type Db } from '../../server/src/db/database.ts'
import { startEmbeddedPostgres } from '../../server/src/db/embedded-postgres.ts'
import { startServer, type ServerProcess } from './processes.ts'

/** What the benchmarks run against: PostgreSQL with full durability, the server, the bare server. */
export type World = {
  readonly db: Db
  readonly databaseUrl: string
  readonly tollgate: ServerProcess
  readonly bare: ServerProcess
  /** A new organization with a key. */
  newCustomer(): Promise<Customer>
  close(): Promise<void>
}

export type Customer = { readonly organizationId: string; readonly apiKey: string }

export const OPERATOR_KEY = 'operator-key-of-the-benchmarks'

/** Another server on a database of a world. */
export function startTollgate(databaseUrl: string): Promise<ServerProcess> {
  return startServer('./tollgate-server.ts', [databaseUrl, OPERATOR_KEY])
}

export async function openWorld(): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'tollgate-bench-'))
  // As root, PostgreSQL runs under nobody, which passes through here.
  chmodSync(directory, 0o711)
  const postgres = await startEmbeddedPostgres({ directory: join(directory, 'postgres') })
  const db = openDatabase({ connectionString: postgres.url })
  const tollgate = await startTollgate(postgres.url)
  const bare = await startServer('./bare-server.ts')
  let customers = 0

  async function post(path: string, body: unknown): Promise<Record<string, unknown>> {
    const response = await fetch(`http://127.0.0.1:${tollgate.port}${path}`, {
      method: 'POST',
      headers: { 'x-api-key': OPERATOR_KEY, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
    return (await response.json()) as Record<string, unknown>
  }

  return {
    db,
    databaseUrl: postgres.url,
    tollgate,
    bare,
    async newCustomer() {
      customers += 1
      const organizationId = `bench_${customers}`
      await post('/api/v1/organizations', { id: organizationId, name: organizationId, email: 'bench@example.com' })
      const { key } = await post(`/api/v1/organizations/${organizationId}/api-keys`, { name: 'bench', scopes: ['read', 'write'] })
      return { organizationId, apiKey: String(key) }
    },
    async close() {
      await Promise.all([tollgate.stop(), bare.stop()])
      await db.close()
      await postgres.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

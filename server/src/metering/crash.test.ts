import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CRASH_CATALOG } from '../../test/crash-catalog.ts'
import { createCatalogRegistry, storeCatalogVersion, type CatalogRegistry } from '../catalog/registry.ts'
import { openDatabase, type Db } from '../db/database.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../db/embedded-postgres.ts'
import { migrate } from '../db/migrate.ts'
import { systemClock } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { MICRO } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'
import { createMetering } from './metering.ts'
import { ensurePartitions } from './partitions.ts'
import { openUsageConnections } from './write/pipeline.ts'

const QUOTA = 3_000
/** Against standing still, not a measure: a busy machine takes tens of times as long as an idle one. */
const PATIENCE_MS = 300_000
const WRITER = fileURLToPath(new URL('../../test/usage-writer.ts', import.meta.url))

// A PostgreSQL of its own with full durability: it is killed here, and what it acknowledged has to be there.
const directory = mkdtempSync(join(tmpdir(), 'tollgate-crash-'))
// As root, PostgreSQL runs under nobody, which passes through here.
chmodSync(directory, 0o711)
let postgres: EmbeddedPostgres
let db: Db
let catalogs: CatalogRegistry

beforeAll(async () => {
  postgres = await startEmbeddedPostgres({ directory: join(directory, 'postgres') })
  db = openDatabase({ connectionString: postgres.url })
  await migrate(db)
  await ensurePartitions(db, systemClock.now())
  catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, CRASH_CATALOG, systemClock.now()))
})

afterAll(async () => {
  await db.close()
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
})

async function newOrganization(id: string): Promise<string> {
  await db.query(`insert into organizations (id, name, email, created_at) values ($1, $1, 'a@example.com', now())`, [id])
  return id
}

type Told = Map<string, boolean>
type Writer = { readonly process: ChildProcessWithoutNullStreams; readonly ended: Promise<unknown> }

/** Starts a writer for the keys that were not told yet; `told` fills as it answers. */
function startWriter(organizationId: string, keys: readonly string[], told: Told): Writer {
  const version = String(catalogs.current.version)
  const child = spawn(process.execPath, [WRITER, postgres.url, organizationId, version, '48'], { stdio: 'pipe' })
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [key, outcome] = line.split(' ')
    if (outcome !== undefined) told.set(key!, outcome === 'allowed')
  })
  child.stderr.pipe(process.stderr)
  child.stdin.end(keys.filter((key) => !told.has(key)).join('\n'))
  return { process: child, ended: once(child, 'close') }
}

/** What is stored is what was told: nothing lost, nothing doubled, nothing beyond the quota. */
async function expectExactly(organizationId: string, told: Told): Promise<void> {
  const { rows } = await db.query<{ key: string; allowed: boolean }>(
    'select idempotency_key as key, refusal is null as allowed from usage_events where organization_id = $1',
    [organizationId],
  )
  const stored = new Map(rows.map(({ key, allowed }) => [key, allowed]))
  expect(rows).toHaveLength(stored.size)
  expect([...told].filter(([key, allowed]) => stored.get(key) !== allowed)).toEqual([])
  const allowed = rows.filter((row) => row.allowed).length
  const grants = await db.query<{ used: bigint }>('select used from grants where organization_id = $1', [organizationId])
  expect(grants.rows).toEqual([{ used: BigInt(allowed) * MICRO }])
  expect(await listImbalances(db, 10)).toEqual([])
}

test(
  'SIGKILL of two writers in the middle of load: every answer that was given is counted once, and the quota holds',
  async () => {
    const organizationId = await newOrganization('killed')
    const told: Told = new Map()
    const keysOf = (name: string): string[] => Array.from({ length: 2_000 }, (_, index) => `${name}-${index}`)
    const all = [keysOf('a'), keysOf('b')]
    for (const killAfter of [300, 900, 1_700, 2_600]) {
      const writers = all.map((keys) => startWriter(organizationId, keys, told))
      await expect.poll(() => told.size, { timeout: PATIENCE_MS, interval: 2 }).toBeGreaterThan(killAfter)
      for (const writer of writers) writer.process.kill('SIGKILL')
      await Promise.all(writers.map((writer) => writer.ended))
      await expectExactly(organizationId, told)
    }
    await Promise.all(all.map((keys) => startWriter(organizationId, keys, told).ended))
    expect(told.size).toBe(4_000)
    expect([...told.values()].filter(Boolean)).toHaveLength(QUOTA)
    await expectExactly(organizationId, told)
  },
  PATIENCE_MS,
)

test(
  'PostgreSQL killed in the middle of load: answered, or refused with database_unavailable alone, and repeats make it exact',
  async () => {
    const organizationId = await newOrganization('restarted')
    const connections = openUsageConnections({ connectionString: postgres.url, size: 2 })
    const metering = createMetering({ connections, catalogs, clock: systemClock, graceDays: 3 })
    const told: Told = new Map()
    const keys = Array.from({ length: 4_000 }, (_, index) => `k-${index}`)
    const others: unknown[] = []
    // By what was told, not by time: each kill is in the middle of the load, however fast that goes.
    const killAfter = [500, 2_000, Infinity]

    async function consumeNext(): Promise<void> {
      for (let key = keys.shift(); key !== undefined; key = keys.shift()) {
        const request = {
          organizationId,
          meter: 'calls',
          quantity: MICRO,
          idempotencyKey: key,
          occurredAt: null,
          properties: null,
        }
        try {
          told.set(key, (await metering.ask({ verb: 'consume', ...request })).allowed)
          if (told.size > killAfter[0]!) {
            killAfter.shift()
            process.kill(postgres.pid(), 'SIGKILL')
          }
        } catch (error) {
          if (!(error instanceof DomainError && error.code === 'database_unavailable')) others.push(error)
          keys.push(key)
        }
      }
    }

    await Promise.all(Array.from({ length: 64 }, consumeNext))
    await metering.stop()
    await connections.close()
    expect(others).toEqual([])
    expect(killAfter).toEqual([Infinity])
    expect([...told.values()].filter(Boolean)).toHaveLength(QUOTA)
    await expectExactly(organizationId, told)
  },
  PATIENCE_MS,
)

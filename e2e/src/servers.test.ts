import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDatabase, type Db } from '../../server/src/db/database.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../server/src/db/embedded-postgres.ts'
import { createCaller } from './http.ts'
import { createPlace, ROOT, waitUntil } from './process.ts'

const OPERATOR_KEY = 'operator-key-of-the-four-servers'
const SERVERS = 4
const KEYS = 4_000
/** Of CRASH_CATALOG; fewer than the keys, so that the last ones are refused. */
const QUOTA = 3_000
const WORKERS = 24
const KILLS = 6

type Server = { readonly url: string; readonly child: ChildProcess; readonly ended: Promise<unknown> }
type Told = { readonly allowed: boolean; readonly id: string }

let place: Awaited<ReturnType<typeof createPlace>>
let postgres: EmbeddedPostgres
let db: Db
const servers: Server[] = []

beforeAll(async () => {
  place = await createPlace()
  postgres = await startEmbeddedPostgres({ directory: join(place.dataDir, 'postgres') })
  db = openDatabase({ connectionString: postgres.url })
  // All at once on an empty database: one makes the tables, the others wait for it.
  servers.push(...(await Promise.all(Array.from({ length: SERVERS }, startServer))))
})

afterAll(async () => {
  for (const { child } of servers) child.kill('SIGKILL')
  await Promise.all(servers.map(({ ended }) => ended))
  await db.close()
  await postgres.stop()
  await place.remove()
})

async function startServer(): Promise<Server> {
  const child = spawn(process.execPath, [join(ROOT, 'e2e/src/counting-server.ts'), postgres.url, OPERATOR_KEY], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'close')
  const line = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), ended.then(() => null)])
  if (line === null) throw new Error('A server ended before it was ready.')
  return { url: String(line[0]), child, ended }
}

async function makeCustomer(): Promise<{ organizationId: string; key: string }> {
  const operator = createCaller(servers[0]!.url, OPERATOR_KEY)
  const organization = await operator.post('/api/v1/organizations', { name: 'Counted', email: 'counted@example.com' })
  const organizationId = String(organization.body['id'])
  const key = await operator.post(`/api/v1/organizations/${organizationId}/api-keys`, { name: 'test', scopes: ['write'] })
  return { organizationId, key: String(key.body['key']) }
}

/** Asks one server after another, with the same key, until one answers: a dead one does not, a waiting one says 503. */
async function consumeSomewhere(apiKey: string, key: string): Promise<Told> {
  for (;;) {
    const caller = createCaller(servers[randomInt(servers.length)]!.url, apiKey)
    const use = { meter: 'calls', quantity: 1, idempotency_key: key }
    const answer = await caller.post('/api/v1/usage/consume', use).catch(() => null)
    if (answer?.status === 200) return { allowed: answer.body['allowed'] === true, id: String(answer.body['id']) }
    if (answer !== null && answer.status !== 503) throw new Error(`${answer.status}: ${JSON.stringify(answer.body)}`)
  }
}

test('four servers on one database, random ones killed in the middle of load: nothing lost, nothing doubled, no overshoot', async () => {
  const { organizationId, key: apiKey } = await makeCustomer()
  const told = new Map<string, Told>()
  const keys = Array.from({ length: KEYS }, (_, index) => `key-${index}`)
  const work = async (): Promise<void> => {
    for (let key = keys.shift(); key !== undefined; key = keys.shift()) told.set(key, await consumeSomewhere(apiKey, key))
  }
  const working = Promise.all(Array.from({ length: WORKERS }, work))
  for (let kill = 1; kill <= KILLS; kill += 1) {
    await waitUntil('more answers', 60_000, () => told.size >= (kill * KEYS) / (KILLS + 2))
    const at = randomInt(servers.length)
    servers[at]!.child.kill('SIGKILL')
    await servers[at]!.ended
    servers[at] = await startServer()
  }
  await working
  await expectExactly(organizationId, told)
  // Every server gives the first answer again.
  for (const [key, first] of [...told].slice(-40)) expect(await consumeSomewhere(apiKey, key)).toEqual(first)
  await expectExactly(organizationId, told)
})

async function expectExactly(organizationId: string, told: ReadonlyMap<string, Told>): Promise<void> {
  const { rows } = await db.query<{ key: string; id: string; allowed: boolean }>(
    'select idempotency_key as key, id, refusal is null as allowed from usage_events where organization_id = $1',
    [organizationId],
  )
  expect(rows).toHaveLength(KEYS)
  expect(rows.filter(({ key, id, allowed }) => told.get(key)?.id !== id || told.get(key)?.allowed !== allowed)).toEqual([])
  expect(rows.filter((row) => row.allowed)).toHaveLength(QUOTA)
  const sums = await db.query<{ used: number; hours: number }>(
    `select (select sum(used) / 1000000 from grants where organization_id = $1)::int as used,
      (select sum(quantity) / 1000000 from usage_hourly where organization_id = $1)::int as hours`,
    [organizationId],
  )
  expect(sums.rows).toEqual([{ used: QUOTA, hours: QUOTA }])
}

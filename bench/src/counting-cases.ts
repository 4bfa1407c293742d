import type { LoopResult } from './closed-loop.ts'
import type { Measured } from './figures.ts'
import { storedUses } from './http-cases.ts'
import type { InProcessTask } from './in-process.ts'
import { runTask } from './processes.ts'
import type { RawInsertTask } from './raw-inserts.ts'
import type { RedisTask } from './redis-counting.ts'
import type { RedisServer } from './redis-server.ts'
import type { RowUpdateTask } from './row-updates.ts'
import type { World } from './world.ts'

const PROCESSES = 2
/** Calls in flight in each process, as many as one event loop of a busy host has. */
const IN_FLIGHT = 256
let runs = 0

function perSecondOf(results: readonly LoopResult[]): Measured {
  return { value: results.reduce((sum, { perSecond }) => sum + perSecond, 0) }
}

/** Several processes consume from the same organizations; what was answered is compared with what is stored. */
export async function consumeInProcess(world: World, organizationIds: readonly string[], seconds: number): Promise<Measured> {
  const before = await storedInAll(world, organizationIds)
  const results = await Promise.all(
    Array.from({ length: PROCESSES }, () => {
      const task: InProcessTask = {
        databaseUrl: world.databaseUrl,
        organizationIds,
        inFlight: IN_FLIGHT,
        seconds,
        run: `in-process ${(runs += 1)}`,
      }
      return runTask<LoopResult>('./in-process.ts', task)
    }),
  )
  const answered = results.reduce((sum, { allowed }) => sum + allowed, 0)
  const stored = (await storedInAll(world, organizationIds)) - before
  if (stored !== answered) throw new Error(`${answered} uses were answered, ${stored} are stored.`)
  return perSecondOf(results)
}

async function storedInAll(world: World, organizationIds: readonly string[]): Promise<number> {
  if (organizationIds.length === 1) return storedUses(world, organizationIds[0]!)
  const { rows } = await world.db.query<{ events: number; grants: number }>(
    `select (select count(*)::int from usage_events where organization_id = any ($1) and refusal is null) as events,
      (select coalesce(sum(used) / 1000000, 0)::int from grants where organization_id = any ($1)) as grants`,
    [organizationIds],
  )
  const { events, grants } = rows[0]!
  if (events !== grants) throw new Error(`The sums differ: ${JSON.stringify(rows[0])}.`)
  return events
}

/** Organizations made for the benchmark alone, without keys. */
export async function makeOrganizations(world: World, count: number): Promise<readonly string[]> {
  const { rows } = await world.db.query<{ id: string }>(
    `insert into organizations (id, name, email, created_at)
     select 'crowd_' || gen_random_uuid(), 'crowd', 'bench@example.com', now() from generate_series(1, $1) returning id`,
    [count],
  )
  return rows.map(({ id }) => id)
}

/** Rows for the reference, one per balance. */
export async function makeBalances(world: World, count: number): Promise<readonly string[]> {
  await world.db.query(
    'create table if not exists bench_balances (id text primary key, used bigint not null, amount bigint not null) with (fillfactor = 60)',
  )
  const { rows } = await world.db.query<{ id: string }>(
    `insert into bench_balances select gen_random_uuid()::text, 0, 1000000000 from generate_series(1, $1) returning id`,
    [count],
  )
  return rows.map(({ id }) => id)
}

export async function updateRows(world: World, balances: readonly string[], seconds: number): Promise<Measured> {
  const task: RowUpdateTask = { databaseUrl: world.databaseUrl, balances, inFlight: IN_FLIGHT, seconds }
  return perSecondOf(await Promise.all(Array.from({ length: PROCESSES }, () => runTask<LoopResult>('./row-updates.ts', task))))
}

/** The same in Redis; every run begins with nothing, so that memory does not grow from run to run. */
export async function consumeInRedis(redis: RedisServer, seconds: number): Promise<Measured> {
  await redis.empty()
  const results = await Promise.all(
    Array.from({ length: PROCESSES }, (_, index) => {
      const task: RedisTask = { url: redis.url, balances: ['hot'], inFlight: IN_FLIGHT, seconds, run: `redis ${index}` }
      return runTask<LoopResult>('./redis-counting.ts', task)
    }),
  )
  if (results.some(({ requests, allowed }) => requests !== allowed)) throw new Error('Redis refused what fits.')
  return perSecondOf(results)
}

/** The table into which the reference inserts: blocks of usage events without partitions, each of one event, with the same indexes. */
export async function makeRawTable(world: World): Promise<void> {
  await world.db.query('create table if not exists bench_events (like usage_event_blocks including all)')
}

export async function insertRaw(world: World, organizationId: string, seconds: number): Promise<Measured> {
  const task: RawInsertTask = { databaseUrl: world.databaseUrl, organizationId, seconds, run: `raw ${(runs += 1)}` }
  return perSecondOf([await runTask<LoopResult>('./raw-inserts.ts', task)])
}

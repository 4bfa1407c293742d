import type { Measured } from './figures.ts'
import type { LoadResult } from './http-load.ts'
import type { LoadTask } from './load-process.ts'
import { runTask } from './processes.ts'
import type { Customer, World } from './world.ts'

export const CONNECTIONS = 64
const BATCH_CONNECTIONS = 8
const BATCH_ITEMS = 100
let runs = 0

type Load = {
  readonly server: 'tollgate' | 'bare'
  readonly kind: 'get' | 'single' | 'check' | 'batch'
  readonly seconds: number
}

async function load(world: World, customer: Customer, { server, kind, seconds }: Load): Promise<LoadResult> {
  const task: LoadTask = {
    port: world[server].port,
    path: {
      get: '/',
      single: '/api/v1/usage/consume',
      check: '/api/v1/usage/check?meter=calls&quantity=1',
      batch: '/api/v1/usage/batch',
    }[kind],
    apiKey: customer.apiKey,
    connections: kind === 'batch' ? BATCH_CONNECTIONS : CONNECTIONS,
    seconds,
    body: kind === 'batch' ? { kind, items: BATCH_ITEMS } : { kind: kind === 'check' ? 'get' : kind },
    meter: 'calls',
    run: `run${(runs += 1)}`,
  }
  const result = await runTask<LoadResult>('./load-process.ts', task)
  if (result.failures > 0) throw new Error(`${result.failures} answers of ${server} were not 200.`)
  return result
}

function measuredOf(result: LoadResult, items = 1): Measured {
  return {
    value: (result.requests * items) / result.seconds,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    loadMicros: result.cpuMicros,
  }
}

/** Runs `work` and compares what was answered with what is stored afterwards: the benchmark fails when they differ. */
async function compared(world: World, customer: Customer, work: () => Promise<LoadResult>): Promise<LoadResult> {
  const before = await storedUses(world, customer.organizationId)
  const result = await work()
  const stored = (await storedUses(world, customer.organizationId)) - before
  if (stored !== result.counted) throw new Error(`${result.counted} uses were answered, ${stored} are stored.`)
  return result
}

/** What events, hourly sums and the grant say; they have to agree. */
export async function storedUses(world: Pick<World, 'db'>, organizationId: string): Promise<number> {
  const { rows } = await world.db.query<{ events: number; hours: number; grants: number }>(
    `select (select count(*)::int from usage_events where organization_id = $1 and refusal is null) as events,
      (select coalesce(sum(quantity) / 1000000, 0)::int from usage_hourly where organization_id = $1) as hours,
      (select coalesce(sum(used) / 1000000, 0)::int from grants where organization_id = $1) as grants`,
    [organizationId],
  )
  const { events, hours, grants } = rows[0]!
  if (events !== hours || hours !== grants) throw new Error(`The sums differ: ${JSON.stringify(rows[0])}.`)
  return events
}

export async function consumeOverHttp(world: World, customer: Customer, seconds: number): Promise<Measured> {
  return measuredOf(await compared(world, customer, () => load(world, customer, { server: 'tollgate', kind: 'single', seconds })))
}

export async function postBare(world: World, customer: Customer, seconds: number): Promise<Measured> {
  return measuredOf(await load(world, customer, { server: 'bare', kind: 'single', seconds }))
}

/** Asks; nothing is stored, and that is compared too. */
export async function checkOverHttp(world: World, customer: Customer, seconds: number): Promise<Measured> {
  const before = await storedUses(world, customer.organizationId)
  const result = await load(world, customer, { server: 'tollgate', kind: 'check', seconds })
  if ((await storedUses(world, customer.organizationId)) !== before) throw new Error('A check was stored.')
  return measuredOf(result)
}

export async function getBare(world: World, customer: Customer, seconds: number): Promise<Measured> {
  return measuredOf(await load(world, customer, { server: 'bare', kind: 'get', seconds }))
}

export async function batchOverHttp(world: World, customer: Customer, seconds: number): Promise<Measured> {
  const result = await compared(world, customer, () => load(world, customer, { server: 'tollgate', kind: 'batch', seconds }))
  return measuredOf(result, BATCH_ITEMS)
}

import type { Customer, World } from './world.ts'

/** One reading, of a customer with ten million events in the month and of one with ten thousand. */
export type ReportRow = {
  readonly path: string
  readonly medianMs: number
  readonly referenceMs: number
  readonly ratio: number
  readonly holds: boolean
}

const LARGE = 10_000_000
const SMALL = 10_000
const WANTED_RATIO = 1.5
export const MONTH = '2026-01-01T00:00:00Z'
const HOURS = 31 * 24

export const SPAN = `period=calendar_month&at=${MONTH}`
const PATHS = [
  `report?${SPAN}`,
  `report?${SPAN}&grain=day`,
  `report?${SPAN}&grain=hour&limit=1000`,
  `report?${SPAN}&meter=tokens&group_by=model`,
  `report?${SPAN}&meter=tokens&group_by=model,endpoint`,
  `report?${SPAN}&meter=tokens&group_by=model,endpoint&grain=day&limit=1000`,
  `report?${SPAN}&meter=tokens&group_by=endpoint&filter=model:model_1`,
] as const

type Reporting = { readonly rounds: number; readonly print: (line: string) => void }

/** Asks for a month's use of a large and a small customer in turns. */
export async function runReport(world: World, { rounds, print }: Reporting): Promise<readonly ReportRow[]> {
  const [large, small] = [await world.newCustomer(), await world.newCustomer()]
  await seedMonth(world, large, LARGE)
  await seedMonth(world, small, SMALL)
  await world.db.query('vacuum analyze')
  await world.db.query('checkpoint')
  const reports: ReportRow[] = []
  for (const path of PATHS) reports.push(await compare(world, { path, large, small, rounds, print }))
  return reports
}

/**
 * Events all through a month, of twelve combinations of two properties, and the sums of them that the program keeps. Written by
 * SQL, since what is measured is reading.
 */
export async function seedMonth({ db }: World, { organizationId }: Customer, events: number): Promise<void> {
  await db.query(
    `insert into usage_event_blocks (organization_id, recorded_at, id, verb, idempotency_key, meter, quantity, occurred_at, dated, properties,
       counted, drawn, overage, balance, plan_key, period, period_start, period_end, after_used, after_overage, after_reserved)
     select $1, t, gen_random_uuid(), 'track', 'seed ' || n, 'tokens', q, t, false,
       jsonb_build_object('model', 'model_' || n % 4, 'endpoint', '/endpoint_' || n % 3), q, q, 0, 'tokens', 'free', 'calendar_month', $3,
       $3::timestamptz + interval '1 month', 0, 0, 0
     from generate_series(1, $2::bigint) as n,
       lateral (select date_trunc('milliseconds', $3::timestamptz + n::float8 / ($2 + 1) * interval '${HOURS} hours') as t, (n % 100 + 1) * 1000000 as q) as x`,
    [organizationId, events, MONTH],
  )
  await db.query(
    `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage)
     select organization_id, meter, date_trunc('hour', occurred_at), count(*), sum(counted), sum(drawn), 0 from usage_events
     where organization_id = $1 group by 1, 2, 3`,
    [organizationId],
  )
  await db.query(
    `insert into usage_groups (organization_id, meter, month, digest, number, labels)
     select $1, 'tokens', $2::timestamptz::date, sha256(convert_to(labels::text, 'UTF8')), row_number() over (), labels
     from (select distinct properties as labels from usage_events where organization_id = $1) as combinations`,
    [organizationId, MONTH],
  )
  await db.query(
    `insert into usage_grouped (organization_id, meter, span, starts_at, month, group_number, events, quantity, drawn, overage)
     select e.organization_id, e.meter, span, date_trunc(span, e.occurred_at), g.month, g.number, count(*), sum(counted), sum(drawn), 0
     from usage_events e join usage_groups g on g.organization_id = e.organization_id and g.labels = e.properties
     cross join (values ('hour'), ('day')) as spans (span)
     where e.organization_id = $1 group by 1, 2, 3, 4, 5, 6`,
    [organizationId],
  )
  const { rows } = await db.query<{ events: number; groups: number }>(
    `select (select sum(events)::int from usage_hourly where organization_id = $1) as events,
       (select sum(events)::int from usage_grouped where organization_id = $1 and span = 'day') as groups`,
    [organizationId],
  )
  if (rows[0]!.events !== events || rows[0]!.groups !== events) throw new Error(`Seeded ${JSON.stringify(rows[0])} of ${events}.`)
}

type Comparing = Reporting & { readonly path: string; readonly large: Customer; readonly small: Customer }

async function compare(world: World, { path, large, small, rounds, print }: Comparing): Promise<ReportRow> {
  const [own, reference]: [number[], number[]] = [[], []]
  for (let round = -3; round < rounds; round += 1) {
    const [ownMs, referenceMs] = [await timeOf(world, large, path), await timeOf(world, small, path)]
    if (round < 0) continue
    own.push(ownMs)
    reference.push(referenceMs)
  }
  const [medianMs, referenceMs] = [medianOf(own), medianOf(reference)]
  const ratio = Number((medianMs / referenceMs).toFixed(2))
  const holds = ratio <= WANTED_RATIO
  print(
    `${path.padEnd(100)}${medianMs.toFixed(1).padStart(7)} ms   at 10,000 events ${referenceMs.toFixed(1).padStart(7)} ms   ratio ${ratio}${holds ? '' : '   ABOVE'}`,
  )
  return { path, medianMs, referenceMs, ratio, holds }
}

function medianOf(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!
}

function ask({ tollgate }: World, { apiKey }: Customer, path: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${tollgate.port}/api/v1/usage/${path}`, { headers: { 'x-api-key': apiKey } })
}

async function timeOf(world: World, customer: Customer, path: string): Promise<number> {
  const began = performance.now()
  const response = await ask(world, customer, path)
  const text = await response.text()
  const took = performance.now() - began
  if (!response.ok || !text.includes('"tokens"')) throw new Error(`${path} answered ${response.status}: ${text}`)
  return took
}

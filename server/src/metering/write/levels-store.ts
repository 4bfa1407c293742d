import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import type { EndedLevel } from '../decide/carried.ts'
import type { MeterName } from './readings-store.ts'

const COLUMNS = `r.organization_id as "organizationId", r.grant_id as "grantId", r.meter, r.level, r.level_at as "levelAt",
  r.level_properties as properties, r.carry_at as "endedAt",
  exists (select from corrected_events c where c.organization_id = r.organization_id and c.retracted) as "hasRetractions"`

/** What was told last of a level in a period that is over, and is not carried on yet. */
export type StandingReading = Omit<EndedLevel, 'now'> & {
  /** Whether the organization has taken any use back: one that was carried on before may be among them. */
  readonly hasRetractions: boolean
}

/** One that is to be carried on, by the terms that its organization has now. */
export type StandingLevel = StandingReading & {
  readonly now: Instant
  /** null for want of an account. */
  readonly catalogVersion: number | null
}

/** The last level of each meter that is to be carried on at a time. */
export async function listDueLevels(
  client: Queryable,
  meters: readonly (MeterName & { readonly now: Instant })[],
): Promise<readonly StandingReading[]> {
  const { rows } = await client.query<StandingReading>(
    `select distinct on (r.organization_id, r.meter) ${COLUMNS}
     from unnest($1::text[], $2::text[], $3::timestamptz[]) as m (organization_id, meter, now)
     join meter_readings r on r.organization_id = m.organization_id and r.meter = m.meter and r.carry_at <= m.now
     order by r.organization_id, r.meter, r.carry_at desc, r.level_at desc`,
    [meters.map((name) => name.organizationId), meters.map((name) => name.meter), meters.map(({ now }) => now)],
  )
  return rows
}

/** What stands when a period is over, by the organization's own clock. */
export async function listEndedLevels(
  db: Queryable,
  { now, organizationId, limit }: { now: Instant; organizationId: string | null; limit: number },
): Promise<readonly StandingLevel[]> {
  const columns = `${COLUMNS}, a.catalog_version as "catalogVersion"`
  const { rows } = await db.query<StandingLevel>(
    `select ${columns}, $1::timestamptz as now from meter_readings r join organizations o on o.id = r.organization_id
       left join accounts a on a.organization_id = o.id
     where r.carry_at <= $1 and o.test_clock_now is null and ($2::text is null or r.organization_id = $2)
     union all
     select ${columns}, o.test_clock_now from organizations o join meter_readings r on r.organization_id = o.id
       left join accounts a on a.organization_id = o.id
     where o.test_clock_now is not null and r.carry_at <= o.test_clock_now and ($2::text is null or o.id = $2)
     order by 7 limit $3`,
    [now, organizationId, limit],
  )
  return rows
}

export type CarriedKey = { readonly organizationId: string; readonly idempotencyKey: string }

/**
 * The uses by which levels were carried into the same periods before, though what told them was taken back since. `stem` is what their keys
 * begin with, `own` the key of what is carried now.
 */
export async function findRetractedCarries(
  db: Queryable,
  carries: readonly { readonly organizationId: string; readonly meter: string; readonly stem: string; readonly own: string }[],
): Promise<readonly CarriedKey[]> {
  const { rows } = await db.query<CarriedKey>(
    `select distinct k.organization_id as "organizationId", k.idempotency_key as "idempotencyKey"
     from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as c (organization_id, meter, stem, own)
     join corrected_events gone on gone.organization_id = c.organization_id and gone.retracted
     join usage_keys told on told.organization_id = gone.organization_id and told.idempotency_key = gone.idempotency_key
     join usage_events e on e.organization_id = told.organization_id and e.recorded_at = told.recorded_at
       and e.idempotency_key = told.idempotency_key and e.meter = c.meter
     join usage_keys k on k.organization_id = c.organization_id and k.idempotency_key <> c.own
       and k.idempotency_key = c.stem || to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ':' || e.quantity
     left join corrected_events done on done.organization_id = k.organization_id and done.idempotency_key = k.idempotency_key
     where done.retracted is not true`,
    [
      carries.map(({ organizationId }) => organizationId),
      carries.map(({ meter }) => meter),
      carries.map(({ stem }) => stem),
      carries.map(({ own }) => own),
    ],
  )
  return rows
}

/** One that was told anew meanwhile is carried anew. */
export async function markCarried(db: Queryable, levels: readonly StandingReading[]): Promise<void> {
  await db.query(
    `update meter_readings r set carry_at = null
     from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[]) as c (organization_id, grant_id, meter, at, level)
     where r.organization_id = c.organization_id and r.grant_id = c.grant_id and r.meter = c.meter and r.level_at = c.at
       and r.level = c.level`,
    [
      levels.map((level) => level.organizationId),
      levels.map((level) => level.grantId),
      levels.map((level) => level.meter),
      levels.map((level) => level.levelAt),
      levels.map((level) => level.level),
    ],
  )
}

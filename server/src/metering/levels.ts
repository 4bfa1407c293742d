import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Queryable } from '../db/database.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { Metering } from './metering.ts'
import { isLevel } from './readings.ts'
import { LATEST_MS } from './rules.ts'
import type { RecordRequest, UsageProperties } from './usage.ts'

/** What was told last of a level in a period that is over. */
export type EndedLevel = {
  readonly organizationId: string
  readonly grantId: string
  readonly meter: string
  readonly level: Quantity
  readonly levelAt: Instant
  readonly properties: UsageProperties | null
  readonly endedAt: Instant
  /** The organization's own time. */
  readonly now: Instant
}

/**
 * The use by which a level stands in the next period as well: as if it had been told again when that began. Pure.
 * Whatever is told of the next period counts beside it by the meter's own rule: `latest` goes by the later one, `max` by the
 * larger. The key names what is carried, so that it is counted once, and anew when something earlier is told late.
 */
export function carriedUse({ organizationId, meter, level, levelAt, properties, endedAt, now }: EndedLevel): RecordRequest {
  const earliest = new Date(now.getTime() - LATEST_MS)
  return {
    verb: 'track',
    organizationId,
    meter,
    quantity: level,
    idempotencyKey: `level:${meter}:${endedAt.toISOString()}:${levelAt.toISOString()}:${level}`,
    // After a longer pause of this server than late use may have, the periods before that stay without it.
    occurredAt: endedAt < earliest ? earliest : endedAt,
    properties,
  }
}

export type LevelsContext = {
  readonly db: Queryable
  readonly clock: Clock
  readonly catalogs: CatalogRegistry
  readonly metering: Pick<Metering, 'submit'>
  /** Called with a level that could not be carried, and is not tried again. */
  readonly onLevelLost?: (level: EndedLevel, error: Error) => void
}

const LEVELS_AT_ONCE = 200

/**
 * Carries the levels of periods that are over into those that follow (KF-1: agents and users are paid per month, whether or not
 * the host tells them again). Each becomes an event like any other, so that balances, bills and reports know it.
 * @param organizationId only this one's; all by default
 */
export async function carryLevels(context: LevelsContext, organizationId: string | null = null): Promise<void> {
  for (;;) {
    const ended = await listEndedLevels(context.db, { now: context.clock.now(), organizationId, limit: LEVELS_AT_ONCE })
    if (ended.length === 0) return
    await carry(context, ended)
  }
}

async function carry(context: LevelsContext, ended: readonly EndedLevel[]): Promise<void> {
  const { meters } = context.catalogs.current.catalog
  const standing = ended.filter(({ meter }) => {
    const found = meters.get(meter)
    return found !== undefined && isLevel(found)
  })
  const outcomes = await context.metering.submit(standing.map(carriedUse))
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.kind === 'error') context.onLevelLost?.(standing[index]!, outcome.error)
  }
  await markCarried(context.db, ended)
}

/** What stands when a period is over, by the organization's own clock. */
async function listEndedLevels(
  db: Queryable,
  { now, organizationId, limit }: { now: Instant; organizationId: string | null; limit: number },
): Promise<readonly EndedLevel[]> {
  const columns = `r.organization_id as "organizationId", r.grant_id as "grantId", r.meter, r.level, r.level_at as "levelAt",
    r.level_properties as properties, r.carry_at as "endedAt"`
  const { rows } = await db.query<EndedLevel>(
    `select ${columns}, $1::timestamptz as now from meter_readings r join organizations o on o.id = r.organization_id
     where r.carry_at <= $1 and o.test_clock_now is null and ($2::text is null or r.organization_id = $2)
     union all
     select ${columns}, o.test_clock_now from organizations o join meter_readings r on r.organization_id = o.id
     where o.test_clock_now is not null and r.carry_at <= o.test_clock_now and ($2::text is null or o.id = $2)
     order by 7 limit $3`,
    [now, organizationId, limit],
  )
  return rows
}

/** One that was told anew meanwhile is carried anew. */
async function markCarried(db: Queryable, levels: readonly EndedLevel[]): Promise<void> {
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

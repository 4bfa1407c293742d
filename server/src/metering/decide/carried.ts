import type { Instant } from '../../lib/clock.ts'
import type { Quantity } from '../../lib/quantity.ts'
import type { RecordRequest, UsageProperties, UsageRequest } from '../usage.ts'
import { CARRIED, LATEST_MS } from './rules.ts'

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

/** With what the keys of a level that is carried from a period begin. */
export const stemOf = ({ meter, endedAt }: Pick<EndedLevel, 'meter' | 'endedAt'>): string =>
  `${CARRIED}${meter}:${endedAt.toISOString()}:`

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
    idempotencyKey: `${stemOf({ meter, endedAt })}${levelAt.toISOString()}:${level}`,
    // After a longer pause of this server than late use may have, the periods before that stay without it.
    occurredAt: endedAt < earliest ? earliest : endedAt,
    properties,
  }
}

/** Whether a use carries a level on. */
export function isCarried(request: UsageRequest): boolean {
  return 'idempotencyKey' in request && request.idempotencyKey.startsWith(CARRIED)
}

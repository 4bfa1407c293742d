import type { Instant } from '../lib/clock.ts'
import { hourOf } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { UsageEvent } from './usage.ts'

/** What is summed up, and what every report is made of. */
export type UsageSums = {
  readonly events: number
  readonly quantity: Quantity
  readonly drawn: Quantity
  readonly overage: Quantity
}

export type HourlyChange = UsageSums & { readonly organizationId: string; readonly meter: string; readonly hour: Instant }

/**
 * The moment at which an event counts: when it happened, but within the period that it was booked to. A use that is told
 * after its period was forgotten, or by a clock that runs ahead, so counts where its grants say it does.
 */
export function countsAt({ occurredAt, after: { periodStart, periodEnd } }: Pick<UsageEvent, 'occurredAt' | 'after'>): Instant {
  if (occurredAt < periodStart) return periodStart
  return periodEnd !== null && occurredAt >= periodEnd ? new Date(periodEnd.getTime() - 1) : occurredAt
}

/**
 * The hour that an event is summed up in; the first hour of a period begins with the period. So the hours from a period's
 * start to its end hold exactly the period's use, also of a cycle that begins at 12:34:56.
 */
export function hourOfEvent(event: Pick<UsageEvent, 'occurredAt' | 'after'>): Instant {
  const hour = hourOf(countsAt(event))
  return hour < event.after.periodStart ? event.after.periodStart : hour
}

/** Whether an event adds to what was used: a refusal and a hold do not. */
export function isUse({ refusal, verb }: Pick<UsageEvent, 'refusal' | 'verb'>): boolean {
  return refusal === null && verb !== 'reserve'
}

/** Sums events by organization, meter and hour. */
export function hourlyChangesOf(events: readonly UsageEvent[]): HourlyChange[] {
  const changes = new Map<string, HourlyChange>()
  for (const event of events) {
    if (!isUse(event)) continue
    const hour = hourOfEvent(event)
    const name = `${event.organizationId}\n${event.meter}\n${hour.getTime()}`
    changes.set(name, { organizationId: event.organizationId, meter: event.meter, hour, ...added(changes.get(name), event) })
  }
  return [...changes.values()]
}

function added(sums: UsageSums | undefined, event: UsageEvent): UsageSums {
  return {
    // A correction is not a use more or less, it changes what one counts.
    events: (sums?.events ?? 0) + (event.verb === 'correct' ? 0 : 1),
    quantity: (sums?.quantity ?? 0n) + event.counted,
    drawn: (sums?.drawn ?? 0n) + event.drawn,
    overage: (sums?.overage ?? 0n) + event.overage,
  }
}

import type { Queryable } from '../db/database.ts'
import type { Statement } from '../db/row-stream.ts'
import type { Instant } from '../lib/clock.ts'
import { hasValues, wantedValues } from '../metering/decide/property-values.ts'
import type { UsageEvent } from '../metering/usage.ts'
import { EVENT_COLUMNS, eventOf, type EventRow } from '../metering/write/store.ts'
import { hourFrom } from './spans.ts'

/** An event's place in the order in which events were recorded. */
export type EventPlace = { readonly recordedAt: Instant; readonly id: string }

export type EventPage = {
  readonly after: EventPlace | null
  /** null is all. */
  readonly limit: number | null
}

export type EventQuery = EventPage & {
  readonly organizationId: string
  /** null is every meter. */
  readonly meter: string | null
  readonly start: Instant
  readonly end: Instant
  readonly timeZone: string
  /** What was recorded before cannot count in the span: it need not be looked at. */
  readonly recordedFrom: Instant | null
  /** Only uses with these values, and corrections: what a meter with such a filter is summed up from. null is every event. */
  readonly uses: Readonly<Record<string, readonly string[]>> | null
}

// The moment at which an event counts (`countsAt` in metering/decide/rollups.ts).
const COUNTS_AT = `least(greatest(e.occurred_at, e.period_start), coalesce(e.period_end - interval '1 millisecond', 'infinity'))`

/**
 * The events that count in a span, refusals and holds too, in the order in which they were recorded. The rows are `EventRow`s.
 * They are those whose hours (`spansOfEvent` in metering/decide/rollups.ts) begin in it: an hour begins on the clock, or with its period.
 * Told by the bounds of hours, which are the same for all events, so that the hour of each need not be worked out.
 */
export function eventsStatement(query: EventQuery): Statement {
  const { organizationId, meter, start, end, timeZone, recordedFrom, uses, after, limit } = query
  return {
    text: `select ${EVENT_COLUMNS} from usage_events e
      where e.organization_id = $1 and ($2::text is null or e.meter = $2)
        and (${COUNTS_AT} >= $11 or e.period_start >= $3) and ${COUNTS_AT} < $5 and e.period_start < $4
        and ($6::timestamptz is null or e.recorded_at >= $6)
        and ($7::timestamptz is null or e.recorded_at >= $7 and (e.recorded_at, e.id) > ($7, $8::uuid))
        and ($10::jsonb is null or e.refusal is null and e.verb <> 'reserve' and (e.corrects is not null
          or ${hasValues('$10')}))
      order by e.recorded_at, e.id limit $9`,
    values: [
      organizationId,
      meter,
      start,
      end,
      hourFrom(timeZone, end),
      recordedFrom,
      after?.recordedAt ?? null,
      after?.id ?? null,
      limit,
      uses && wantedValues(Object.entries(uses)),
      hourFrom(timeZone, start),
    ],
  }
}

export async function listEvents(db: Queryable, { text, values }: Statement): Promise<readonly UsageEvent[]> {
  return (await db.query<EventRow>(text, [...values])).rows.map(eventOf)
}

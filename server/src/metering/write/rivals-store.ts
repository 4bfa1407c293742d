import type { Meter } from '../../catalog/catalog.ts'
import type { Queryable } from '../../db/database.ts'
import type { Draw } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import { hasValues, propertyOf, textOfValue, wantedValues } from '../decide/property-values.ts'
import type { CorrectedEvent, UsageEvent } from '../usage.ts'
import { drawsOf, EVENT_COLUMNS, eventOf, PLAN_GRANT, type EventRow, type StoredDraw } from './store.ts'

type RivalRow = EventRow & {
  readonly left: bigint | null
  readonly leftDraws: readonly StoredDraw[] | null
  readonly retracted: boolean | null
}

/** Which of the others decides. */
export type RivalOrder = 'max' | 'latest' | 'unique'

type RivalQuery = {
  readonly event: UsageEvent
  readonly meter: Meter
  readonly without: readonly string[]
  readonly by: RivalOrder
  readonly recorded: RecordedSpan | null
}

/** When the uses of a period may have been recorded. */
export type RecordedSpan = { readonly from: Instant; readonly until: Instant | null }

/**
 * The uses of a period that decide what a meter comes to without some of them: of `max` the largest of the others, of each level the
 * last (`../levels.ts`), of `unique` another use of the same value and the one that it was counted by. Looks through the organization's events of the
 * meter in that time, which only a correction of such a meter does. Beside 200,000 events of 25 earlier
 * months it reads 4 pages; looking through all of them it read 5,715.
 * @param without the keys of what is taken back
 * @param recorded null where it is not known: all events are looked through
 */
export async function findRivals(
  tx: Queryable,
  { event, meter, without, by, recorded }: RivalQuery,
): Promise<readonly CorrectedEvent[]> {
  const { organizationId, after, properties } = event
  const uniqueBy = by === 'unique' ? meter.uniqueBy : null
  const value = uniqueBy === null ? undefined : propertyOf(properties, uniqueBy)
  const order = {
    max: 'e.quantity desc, e.recorded_at, e.id',
    latest: 'e.occurred_at desc, e.recorded_at desc, e.id desc',
    unique: '(coalesce(c.counted, e.counted) > 0) desc, coalesce(c.retracted, false), e.recorded_at, e.id',
  }
  const { rows } = await tx.query<RivalRow>(
    `select ${EVENT_COLUMNS}, c.counted as left, c.draws as "leftDraws", c.retracted
     from usage_events e left join corrected_events c on c.organization_id = e.organization_id and c.idempotency_key = e.idempotency_key
     where e.organization_id = $1 and e.meter = $2 and e.balance = $3 and ${PLAN_GRANT} = $4 and e.verb in ('track', 'consume')
       and e.recorded_at >= coalesce($9, '-infinity'::timestamptz) and e.recorded_at < coalesce($10, 'infinity'::timestamptz)
       and e.refusal is null and not e.idempotency_key = any ($5)
       and ${hasValues('$6')} and ${hasValues('$7')}
       and (not coalesce(c.retracted, false) or ($8 and c.counted > 0))
     order by ${order[by]} limit 2`,
    [
      organizationId,
      meter.key,
      after.balanceKey,
      after.planGrantId,
      without,
      wantedValues(meter.filter),
      wantedValues(uniqueBy === null || value === undefined ? [] : [[uniqueBy, [textOfValue(value)]]]),
      by === 'unique',
      recorded?.from ?? null,
      recorded?.until ?? null,
    ],
  )
  return rows.map(({ left, leftDraws, retracted, ...row }) => {
    const use = eventOf(row)
    const draws: readonly Draw[] = leftDraws === null ? use.draws : drawsOf(leftDraws)
    return { event: use, counted: left ?? use.counted, draws, retracted: retracted ?? false }
  })
}

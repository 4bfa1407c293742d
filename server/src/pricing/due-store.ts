import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { SECOND_MS } from '../lib/period.ts'
import { countedOf, isCountedFor, OLDEST_GRANT_MS, reportedOf } from './span-store.ts'

/** Of a span: that it takes reports of use. */
const IS_TAKING = `span.kind = 'usage' and span.state <> 'closed'`

/**
 * Organizations whose reports are due: that were not looked at for the window, or whose period is over or ends soon; those first that were not
 * looked at for longest. What is asked for lies in indexes: of 66,000 whose use is billed, reading all took 0.9 s on a busy machine. A span in real time
 * that is closing has ended, by Stripe's clock, so its end finds it; a test clock may be heard of later than what it brought.
 */
export async function listOrganizationsToReport(
  db: Queryable,
  query: { readonly before: Instant; readonly now: Instant; readonly limit: number },
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `with soon as (
       select span.organization_id, span.collected_at from billing_spans span
       where ${IS_TAKING} and span.ends_at < $2::timestamptz + interval '10 minutes'
         and not exists (select from organizations o where o.id = span.organization_id and o.test_clock_now is not null)
       union all
       select span.organization_id, span.collected_at from organizations o join billing_spans span on span.organization_id = o.id
       where ${IS_TAKING} and o.test_clock_now is not null
         and (span.state = 'closing' or span.ends_at < o.test_clock_now + interval '10 minutes')
     )
     select organization_id as id from (
       select organization_id, collected_at from billing_spans span where ${IS_TAKING} and span.collected_at < $1
       union all
       select organization_id, collected_at from soon where collected_at < $2::timestamptz - interval '45 seconds'
     ) due
     group by organization_id order by min(collected_at) limit $3`,
    [query.before, query.now, query.limit],
  )
  return rows.map(({ id }) => id)
}

/**
 * Of organizations, those for which collecting (`collectUse`) may find something: what grants have counted is not what was taken into
 * reports, be it more or less; or a report was made that never left before its span was closed. Of the others there is nothing to send.
 */
export async function listWithUseToReport(
  db: Queryable,
  { organizationIds, now }: { readonly organizationIds: readonly string[]; readonly now: Instant },
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select o.id from organizations o
     cross join lateral (select coalesce(o.test_clock_now, $2) - make_interval(secs => $3) as at) oldest
     where o.id = any($1) and (
       exists (
         select from billing_spans line join usage_prices price on price.stripe_price_id = line.stripe_price_id
         join grants g on g.organization_id = line.organization_id and g.balance = line.balance
         where line.organization_id = o.id and line.kind = 'usage' and line.state <> 'closed' and g.expires_at > oldest.at
           and ${isCountedFor('price.reports')} and ${countedOf('price.reports')} > ${reportedOf('price.reports')}
       ) or exists (
         select from grants g join lateral (
           select distinct reports from reported_grants known where known.organization_id = g.organization_id and known.grant_id = g.id
         ) known on ${countedOf('known.reports')} < ${reportedOf('known.reports')}
         where g.organization_id = o.id and g.expires_at > oldest.at
       ) or exists (
         select from meter_events event
         join billing_spans span on span.organization_id = event.organization_id and span.id = event.span_id
         where event.organization_id = o.id and event.state = 'pending' and event.attempts = 0 and span.state = 'closed'
       )
     )
     order by o.id`,
    [organizationIds, now, OLDEST_GRANT_MS / SECOND_MS],
  )
  return rows.map(({ id }) => id)
}

/** Notes that organizations have nothing to send until now. One whose spans somebody else holds is looked at again. */
export async function passOver(
  db: Queryable,
  { organizationIds, now }: { readonly organizationIds: readonly string[]; readonly now: Instant },
): Promise<void> {
  await db.query(
    `update billing_spans span set collected_at = $2
     from (
       select organization_id, id from billing_spans
       where organization_id = any($1) and kind = 'usage' and state <> 'closed' for update skip locked
     ) free
     where span.organization_id = free.organization_id and span.id = free.id`,
    [organizationIds, now],
  )
}

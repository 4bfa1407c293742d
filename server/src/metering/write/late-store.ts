import type { Queryable } from '../../db/database.ts'
import type { KnownLine } from '../decide/late.ts'
import type { KnownLateUse, LateChange } from '../decide/late-book.ts'

/** The times in which organizations' use was billed, in their order. Of what lies further back than use may be told, some is left out. */
export async function findBilledTimes(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, readonly KnownLine[]>> {
  const { rows } = await db.query<KnownLine & { readonly organizationId: string }>(
    `select span.organization_id as "organizationId", span.id, span.balance as "balanceKey", span.starts_at as "startsAt",
       span.ends_at as "endsAt", span.state,
       span.included is not null and price.reports = 'overage' and price.formula = 'sum' as "isChanged"
     from unnest($1::text[]) as asked (id) cross join lateral (
       select * from billing_spans s where s.organization_id = asked.id and s.kind = 'usage' order by s.starts_at desc limit 500
     ) as span
     join usage_prices price on price.stripe_price_id = span.stripe_price_id
     order by span.starts_at, span.id`,
    [organizationIds],
  )
  return Map.groupBy(rows, ({ organizationId }) => organizationId)
}

/** Of a row of `late_use`. */
export const CHANGED_LINE = `late.room, late.room_before as "roomBefore", late.room_after as "roomAfter", late.drawn,
  late.drawn_elsewhere as "drawnElsewhere", late.passed, late.passed_elsewhere as "passedElsewhere", late.told`

/** What changes of plan have left of lines for what is told late, in the order of the lines. */
export async function findLateUse(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, readonly KnownLateUse[]>> {
  const { rows } = await db.query<KnownLateUse & { readonly organizationId: string }>(
    `select late.organization_id as "organizationId", late.span_id as "lineId", late.grant_id as "grantId", span.starts_at as "startsAt",
       ${CHANGED_LINE}
     from late_use late join billing_spans span on span.organization_id = late.organization_id and span.id = late.span_id
     where late.organization_id = any($1) order by span.starts_at, span.id`,
    [organizationIds],
  )
  return Map.groupBy(rows, ({ organizationId }) => organizationId)
}

/**
 * Keeps what was told late of lines that changes have ended. What they count more is on a line of its own at once, which begins now: no open line
 * bills it, and the price of the plan that stands does not apply. What they count less is taken back by whoever collects (`pricing/`).
 */
export async function addLateUse(
  tx: Queryable,
  changes: readonly (LateChange & { readonly organizationId: string })[],
): Promise<void> {
  await tx.query(
    `with news as (
       select * from jsonb_to_recordset($1) as n ("organizationId" text, "lineId" text, "grantId" text, room bigint,
         "roomBefore" bigint, "roomAfter" bigint, drawn bigint, "drawnElsewhere" bigint, passed bigint, "passedElsewhere" bigint, told bigint,
         counted bigint, at timestamptz)
     ), kept as (
       insert into late_use as late (organization_id, span_id, grant_id, room, room_before, room_after, drawn, drawn_elsewhere, passed,
         passed_elsewhere, told, counted, billed)
       select "organizationId", "lineId", "grantId", room, "roomBefore", "roomAfter", drawn, "drawnElsewhere", passed, "passedElsewhere",
         told, counted, greatest(counted, 0) from news
       on conflict (organization_id, span_id, grant_id) do update set told = late.told + excluded.told,
         counted = late.counted + excluded.counted, billed = late.billed + excluded.billed
     ), priced as (
       update grants g set priced_overage = nullif(greatest(coalesce(g.priced_overage, 0) + own.counted, 0), 0)
       from (select "organizationId", "grantId", sum(counted)::bigint as counted from news group by 1, 2) own
       where g.organization_id = own."organizationId" and g.id = own."grantId"
     ), lines as (
       insert into billing_spans as span (organization_id, id, kind, late_of, subscription_id, item_id, stripe_price_id, starts_at, ends_at,
         whole, period_start, period_end, unit_amount_minor, quantity, balance, state, collected_at)
       select line.organization_id, line.id || ':late:' || (
           select count(*) from billing_spans made
           where made.organization_id = line.organization_id and made.late_of = line.id and made.kind = 'late' and made.state <> 'open'
         ), 'late', line.id, present.subscription_id, line.item_id, line.stripe_price_id, begun.at,
         greatest(present.ends_at, begun.at + interval '1 second'), false, present.period_start, present.period_end, 0, risen.counted,
         line.balance, 'open', begun.at
       from (
         select "organizationId", "lineId", sum(counted)::bigint as counted, max(at) as at from news where counted > 0 group by 1, 2
       ) risen
       cross join lateral (select date_trunc('second', risen.at) as at) begun
       join billing_spans line on line.organization_id = risen."organizationId" and line.id = risen."lineId"
       cross join lateral (
         select * from billing_spans s
         where s.organization_id = line.organization_id and s.kind = 'usage' and s.balance = line.balance and s.state <> 'closed'
         order by s.starts_at desc limit 1
       ) present
       on conflict (organization_id, id) do update set quantity = span.quantity + excluded.quantity
       returning organization_id, id, late_of
     )
     insert into reported_grants as r (organization_id, grant_id, reports, span_id, late, counted)
     select lines.organization_id, news."grantId", 'overage', lines.id, true, news.counted
     from news join lines on lines.organization_id = news."organizationId" and lines.late_of = news."lineId" where news.counted > 0
     on conflict (organization_id, grant_id, reports, span_id, late) do update set counted = r.counted + excluded.counted`,
    [JSON.stringify(changes.map(rowOf))],
  )
}

/** JSON has no integers of that size. */
function rowOf(change: LateChange & { readonly organizationId: string }) {
  return Object.fromEntries(
    Object.entries(change).map(([name, value]) => [name, typeof value === 'bigint' ? value.toString() : value]),
  )
}

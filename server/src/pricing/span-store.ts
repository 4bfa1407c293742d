import type { Queryable } from '../db/database.ts'
import { rowsTogether, together } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { LINE_METADATA, PRICE_OF_LINE } from '../stripe/gateway/invoice-items.ts'
import type { BillingItem, BillingSpan, CountedGrant } from './spans.ts'

const COLUMNS = `span.organization_id as "organizationId", span.id, span.kind, span.subscription_id as "subscriptionId", span.item_id as "itemId",
  span.stripe_price_id as "priceId", span.starts_at as "startsAt", span.ends_at as "endsAt", span.whole,
  span.period_start as "periodStart", span.period_end as "periodEnd", span.unit_amount_minor as "unitAmountMinor", span.quantity,
  span.balance as "balanceKey", span.state, span.reports, span.last_report_at as "lastReportAt", span.invoice_id as "invoiceId", span.included,
  span.late_of as "lateOf", span.amount_minor as "amountMinor"`

type SpanRow = Omit<BillingSpan, 'included'> & {
  readonly organizationId: string
  readonly included: { readonly amount: string | null; readonly used: string; readonly grantIds: readonly string[] } | null
}

function spanOf(stored: SpanRow): BillingSpan {
  const { included, organizationId: _, ...row } = stored
  if (included === null) return { ...row, included }
  const { amount, used, grantIds } = included
  return { ...row, included: { amount: amount === null ? null : BigInt(amount), used: BigInt(used), grantIds } }
}

function includedOf({ included }: BillingSpan): SpanRow['included'] {
  if (included === null) return null
  const { amount, used, grantIds } = included
  return { amount: amount?.toString() ?? null, used: used.toString(), grantIds }
}

const UNFINISHED = `select ${COLUMNS} from billing_spans span where organization_id = any($1) and state <> 'closed' and kind <> 'late'
  order by organization_id, starts_at, id`

/**
 * The spans of an organization that are not closed, locked for the rest of the transaction: whoever reports or follows the
 * subscription holds them.
 */
export async function lockUnfinishedSpans(tx: Queryable, organizationId: string): Promise<readonly BillingSpan[]> {
  return (await lockUnfinishedRows(tx, organizationId)).map(spanOf)
}

const lockUnfinishedRows = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<SpanRow>(`${UNFINISHED} for update`, [organizationIds])
  return rows
})

/** The same without a lock, for reading. */
export async function listUnfinishedSpans(db: Queryable, organizationId: string): Promise<readonly BillingSpan[]> {
  const { rows } = await db.query<SpanRow>(UNFINISHED, [[organizationId]])
  return rows.map(spanOf)
}

/** Spans by their ids. */
export async function listSpansById(
  db: Queryable,
  { organizationId, ids }: { readonly organizationId: string; readonly ids: readonly string[] },
): Promise<readonly BillingSpan[]> {
  const { rows } = await db.query<SpanRow>(
    `select ${COLUMNS} from billing_spans span where organization_id = $1 and id = any($2)`,
    [organizationId, ids],
  )
  return rows.map(spanOf)
}

/** What was told late of lines, as lines of their own, in their order. */
export async function listLateLines(
  db: Queryable,
  { organizationId, lateOf }: { readonly organizationId: string; readonly lateOf: readonly string[] },
): Promise<readonly BillingSpan[]> {
  const { rows } = await db.query<SpanRow>(
    `select ${COLUMNS} from billing_spans span where organization_id = $1 and late_of = any($2) and kind = 'late' order by starts_at, id`,
    [organizationId, lateOf],
  )
  return rows.map(spanOf)
}

/** Locks spans for the rest of the transaction, closed ones too. */
export async function lockSpans(
  tx: Queryable,
  { organizationId, ids }: { readonly organizationId: string; readonly ids: readonly string[] },
): Promise<void> {
  await tx.query('select from billing_spans where organization_id = $1 and id = any($2) order by starts_at, id for update', [
    organizationId,
    ids,
  ])
}

/** A span by its id. */
export async function findSpan(
  db: Queryable,
  { organizationId, id }: { readonly organizationId: string; readonly id: string },
): Promise<BillingSpan | null> {
  const { rows } = await db.query<SpanRow>(`select ${COLUMNS} from billing_spans span where organization_id = $1 and id = $2`, [
    organizationId,
    id,
  ])
  return rows[0] ? spanOf(rows[0]) : null
}

/** Spans that touch a time. */
export async function listSpans(
  db: Queryable,
  organizationId: string,
  { start, end }: { readonly start: Instant; readonly end: Instant },
): Promise<readonly BillingSpan[]> {
  const { rows } = await db.query<SpanRow>(
    `select ${COLUMNS} from billing_spans span where organization_id = $1 and starts_at < $3 and (ends_at > $2 or starts_at >= $2)
     order by kind = 'late', kind, starts_at, balance, id`,
    [organizationId, start, end],
  )
  return rows.map(spanOf)
}

/** The spans of a subscription's use that are on no invoice, not even a draft. One that a change ended in the second in which it began is on none. */
export async function listUninvoicedSpans(
  db: Queryable,
  { organizationId, subscriptionId }: { readonly organizationId: string; readonly subscriptionId: string },
): Promise<readonly BillingSpan[]> {
  const { rows } = await db.query<SpanRow>(
    `select ${COLUMNS} from billing_spans span where organization_id = $1 and subscription_id = $2
       and (kind = 'late' or (kind = 'usage' and state <> 'closing')) and invoice_id is null and ends_at > starts_at order by starts_at, balance, id`,
    [organizationId, subscriptionId],
  )
  return rows.map(spanOf)
}

/** Until when each subscription has spans that are over. */
export async function readEndedUntil(tx: Queryable, organizationId: string): Promise<ReadonlyMap<string, Instant>> {
  return new Map((await listEnds(tx, organizationId)).map(({ id, endsAt }) => [id, endsAt]))
}

const listEnds = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<{ organizationId: string; id: string; endsAt: Instant }>(
    `select organization_id as "organizationId", subscription_id as id, max(ends_at) as "endsAt" from billing_spans
     where organization_id = any($1) and state <> 'open' and kind <> 'late' group by organization_id, subscription_id`,
    [organizationIds],
  )
  return rows
})

/** What bills now: items of subscriptions that are charged. A trial, a paused or an ended subscription bills nothing. */
export const listBillingItems: (db: Queryable, organizationId: string) => Promise<readonly BillingItem[]> = rowsTogether(
  async (db, organizationIds) => {
    const { rows } = await db.query<BillingItem & { organizationId: string }>(
      `select item.organization_id as "organizationId", item.subscription_id as "subscriptionId", item.id as "itemId", item.price_id as "priceId",
       coalesce(item.quantity, 0) as quantity, coalesce(item.unit_amount_minor, 0) as "unitAmountMinor", usage.balance as "balanceKey", item.current_period_start as "periodStart",
       item.current_period_end as "periodEnd",
       coalesce(subscription.cycle_anchor, item.current_period_start) as anchor
     from stripe_subscriptions subscription
     join stripe_subscription_items item
       on item.organization_id = subscription.organization_id and item.subscription_id = subscription.id
     left join usage_prices usage on usage.stripe_price_id = item.price_id
     where subscription.organization_id = any($1) and subscription.status in ('active', 'past_due', 'unpaid')
       and (item.usage_type = 'licensed' or usage.stripe_price_id is not null)
     order by item.id`,
      [organizationIds],
    )
    return rows
  },
)

export async function saveSpans(
  tx: Queryable,
  { organizationId, now }: { readonly organizationId: string; readonly now: Instant },
  spans: readonly BillingSpan[],
): Promise<void> {
  if (spans.length === 0) return
  // Of one that is there twice the last counts: a statement writes no row twice.
  const rows = [...new Map(spans.map((span) => [span.id, span])).values()].map((span) => ({
    ...span,
    organizationId,
    now,
    quantity: span.quantity.toString(),
    unitAmountMinor: span.unitAmountMinor.toString(),
    included: includedOf(span),
  }))
  await upsertSpans(tx, rows)
}

/** Spans of one organization each. */
const upsertSpans = together(async (tx, spans: readonly (readonly object[])[]) => {
  await tx.query(
    `insert into billing_spans (organization_id, id, kind, subscription_id, item_id, stripe_price_id, starts_at, ends_at, whole,
       quantity, balance, state, reports, last_report_at, collected_at, invoice_id, period_start, period_end,
       unit_amount_minor, included)
     select "organizationId", id, kind, "subscriptionId", "itemId", "priceId", "startsAt", "endsAt", whole, quantity, "balanceKey", state,
       reports, "lastReportAt", now, "invoiceId", "periodStart", "periodEnd", "unitAmountMinor", nullif(included, 'null')
     from jsonb_to_recordset($1) as row ("organizationId" text, id text, kind text, "subscriptionId" text, "itemId" text, "priceId" text,
       "startsAt" timestamptz, "endsAt" timestamptz, whole boolean, quantity bigint, "balanceKey" text, state text, reports integer,
       "lastReportAt" timestamptz, now timestamptz, "invoiceId" text, "periodStart" timestamptz, "periodEnd" timestamptz,
       "unitAmountMinor" bigint, included jsonb)
     on conflict (organization_id, id) do update set
       (ends_at, quantity, state, reports, last_report_at, collected_at, invoice_id, included) =
       (excluded.ends_at, excluded.quantity, excluded.state, excluded.reports, excluded.last_report_at, excluded.collected_at,
        excluded.invoice_id, excluded.included)`,
    [JSON.stringify(spans.flat())],
  )
  return spans.map(() => undefined)
})

/** Late use reaches 35 days back, and a closed period may be as long before it: older grants do not change any more. */
export const OLDEST_GRANT_MS = 70 * DAY_MS

/** Of a grant `g`: what it has counted of what is billed. */
export function countedOf(reports: string): string {
  return `(case ${reports} when 'use' then g.used - coalesce(g.free_used, 0) else 0 end + g.overage - coalesce(g.free_overage, 0))`
}

/** Of a grant `g`: whether that is ever billed. */
export function isCountedFor(reports: string): string {
  return `((${reports} = 'use' or g.kind = 'plan') and exists (
    select from billing_spans span where span.organization_id = g.organization_id and span.kind = 'usage'
      and span.balance = g.balance and span.starts_at < g.expires_at and span.ends_at > g.starts_at
  ))`
}

/** Of a grant `g`: how much of it was taken into reports. */
export function reportedOf(reports: string): string {
  return `(
    select coalesce(sum(r.counted), 0)::bigint from reported_grants r
    where r.organization_id = g.organization_id and r.grant_id = g.id and r.reports = ${reports}
  )`
}

/**
 * What the grants of balances have counted of what is billed, and how much of that was taken into reports. `use` is all that was
 * drawn, from whatever grant; `overage` is what went beyond the plan's allowance; neither holds what is free. Grants of a time in which
 * nothing billed their balance (before a subscription, in a trial) are left out: what is told into them later is as free as what was told then.
 */
export async function listCountedGrants(
  tx: Queryable,
  query: {
    readonly organizationId: string
    readonly balanceKeys: readonly string[]
    readonly reports: 'overage' | 'use'
    readonly now: Instant
  },
): Promise<readonly CountedGrant[]> {
  const { rows } = await tx.query<CountedGrant>(
    `select g.id as "grantId", g.balance as "balanceKey", g.starts_at as "startsAt",
       nullif(g.expires_at, 'infinity') as "expiresAt", ${countedOf('$3')} as counted, ${reportedOf('$3')} as reported
     from grants g
     where g.organization_id = $1 and g.balance = any($2) and g.expires_at > $4 and ${isCountedFor('$3')}
     order by g.id`,
    [query.organizationId, query.balanceKeys, query.reports, new Date(query.now.getTime() - OLDEST_GRANT_MS)],
  )
  return rows
}

/** Where what grants have counted was reported. */
export type ReportedIn = {
  readonly organizationId: string
  readonly reports: 'overage' | 'use'
  readonly spanId: string
  readonly late: boolean
}

/** Writes down that what grants have counted is reported. */
export async function markReported(
  tx: Queryable,
  { organizationId, reports, spanId, late }: ReportedIn,
  grants: readonly CountedGrant[],
): Promise<void> {
  await tx.query(
    `insert into reported_grants as r (organization_id, grant_id, reports, span_id, late, counted)
     select $1, grant_id, $2, $3, $4, counted from unnest($5::text[], $6::bigint[]) as g (grant_id, counted)
     on conflict (organization_id, grant_id, reports, span_id, late) do update set counted = r.counted + excluded.counted`,
    [
      organizationId,
      reports,
      spanId,
      late,
      grants.map(({ grantId }) => grantId),
      grants.map(({ counted, reported }) => counted - reported),
    ],
  )
}

/** Makes free what grants have counted and nothing has billed. */
export async function freeCounted(
  tx: Queryable,
  { organizationId, reports }: Pick<ReportedIn, 'organizationId' | 'reports'>,
  grants: readonly CountedGrant[],
): Promise<void> {
  await tx.query(
    `update grants g
     set free_used = nullif(coalesce(g.free_used, 0) + part.used, 0),
       free_overage = nullif(coalesce(g.free_overage, 0) + c.counted - part.used, 0),
       -- What an earlier plan had priced and nobody billed is free as well.
       priced_overage = nullif(least(coalesce(g.priced_overage, 0), billed.overage), 0),
       priced_minor = case when billed.overage > 0 then g.priced_minor end
     from unnest($3::text[], $4::bigint[]) as c (grant_id, counted)
     join grants own on own.organization_id = $1 and own.id = c.grant_id
     cross join lateral (
       select case $2 when 'use' then least(c.counted, own.used - coalesce(own.free_used, 0)) else 0 end as used
     ) as part
     cross join lateral (
       select own.overage - coalesce(own.free_overage, 0) - (c.counted - part.used) as overage
     ) as billed
     where g.organization_id = $1 and g.id = c.grant_id`,
    [organizationId, reports, grants.map(({ grantId }) => grantId), grants.map(({ counted, reported }) => counted - reported)],
  )
}

/** Spans whose period is over and whose invoice has been finalized take no more reports; answers those that were closed. */
export async function closeSettledSpans(tx: Queryable, organizationId: string, now: Instant): Promise<readonly BillingSpan[]> {
  return (await closeSettled(tx, { organizationId, now })).map(spanOf)
}

const closeSettled = together(async (tx, asked: readonly { readonly organizationId: string; readonly now: Instant }[]) => {
  const { rows } = await tx.query<SpanRow>(
    `update billing_spans span set state = 'closed', invoice_id = invoice.id
     from (
       select asked.id as organization_id, asked.now, closing.id as span_id, own.id, own.status
       from unnest($1::text[], $2::timestamptz[]) as asked (id, now)
       join billing_spans closing on closing.organization_id = asked.id and closing.kind = 'usage' and closing.state = 'closing'
       left join lateral (${INVOICE_OF_SPAN}) own on true
     ) invoice
     where span.organization_id = invoice.organization_id and span.id = invoice.span_id
       -- An invoice that does not come within four days (Stripe finalizes after three at the latest) will not.
       and (invoice.status <> 'draft' or (invoice.id is null and span.ends_at < invoice.now - interval '4 days'))
     returning ${COLUMNS}`,
    [asked.map(({ organizationId }) => organizationId), asked.map(({ now }) => now)],
  )
  const closed = Map.groupBy(rows, ({ organizationId }) => organizationId)
  return asked.map(({ organizationId }) => closed.get(organizationId) ?? [])
})

/** Of a `line` of an invoice: that it bills a span. An item for late use names its own. */
export const IS_LINE_OF = (span: string): string => `case ${span}.kind
  when 'late' then line #>> '{metadata,${LINE_METADATA}}' = ${span}.id
  else ${PRICE_OF_LINE} = ${span}.stripe_price_id and line #> '{metadata,${LINE_METADATA}}' is null end`

// The invoice that bills a span has a line of its price for its time; whatever else was invoiced about then is not it. Our clock and
// Stripe's differ by seconds, so times are compared by how much they share. Where Stripe leaves the line of a period out, it is the
// period's own invoice. A line that came again after its invoice was voided (`subscriptions/pending-items.ts`) is on the later one.
const INVOICE_OF_SPAN = `
  select invoice.id, invoice.status
  from stripe_invoices invoice cross join lateral (
    select max(least(to_timestamp((line -> 'period' ->> 'end')::bigint), closing.ends_at)
      - greatest(to_timestamp((line -> 'period' ->> 'start')::bigint), closing.starts_at)) as shared
    from jsonb_array_elements(invoice.data -> 'lines' -> 'data') line
    where ${IS_LINE_OF('closing')}
  ) line
  where invoice.organization_id = closing.organization_id
    and (invoice.subscription_id = closing.subscription_id or closing.kind = 'late')
    and invoice.created_at >= closing.starts_at - interval '1 minute'
    and (line.shared > interval '0' or (closing.state = 'closing' and invoice.billing_reason = 'subscription_cycle'
      and invoice.created_at >= closing.ends_at - interval '1 minute'))
  order by coalesce(line.shared, interval '0') desc, invoice.status = 'void', invoice.created_at, invoice.id limit 1`

/** Names the invoice of spans that a change has ended, once it is there; where that was voided, the one on which its lines came again, unless both are from before `since`. */
export async function linkInvoices(tx: Queryable, organizationId: string, since: Instant): Promise<void> {
  await linkTogether(tx, { organizationId, since })
}

const linkTogether = together(async (tx, asked: readonly { readonly organizationId: string; readonly since: Instant }[]) => {
  await tx.query(
    `update billing_spans span set invoice_id = invoice.id
     from (
       select asked.id as organization_id, closing.id as span_id, own.id, own.status
       from unnest($1::text[], $2::timestamptz[]) as asked (id, since)
       join billing_spans closing on closing.organization_id = asked.id and closing.kind <> 'base' and closing.state = 'closed'
         -- What a pause or a plan without a price of use ended in a year may wait for its invoice for the rest of that.
         and (closing.invoice_id is null and (closing.ends_at > asked.since or closing.quantity > 0) or exists (
           select from stripe_invoices void
           where void.organization_id = closing.organization_id and void.id = closing.invoice_id and void.status = 'void'
             and greatest(closing.ends_at, void.created_at) > asked.since))
       cross join lateral (${INVOICE_OF_SPAN}) own
     ) invoice
     where span.organization_id = invoice.organization_id and span.id = invoice.span_id and invoice.status <> 'draft'
       and span.invoice_id is distinct from invoice.id`,
    [asked.map(({ organizationId }) => organizationId), asked.map(({ since }) => since)],
  )
  return asked.map(() => undefined)
})

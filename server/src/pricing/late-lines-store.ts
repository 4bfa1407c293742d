import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { ChangedLine } from '../metering/decide/told-late.ts'
import { CHANGED_LINE } from '../metering/write/late-store.ts'
import { LINE_METADATA } from '../stripe/gateway/invoice-items.ts'
import type { BillingSpan } from './spans.ts'

type Owned = { readonly organizationId: string }

/** The allowance that a line which a change ends has billed, and which goes on under other terms. */
export type ChangedAllowance = Omit<ChangedLine, 'passed' | 'passedElsewhere' | 'told'> & {
  readonly grantId: string
  readonly balanceKey: string
}

/** What can be drawn of grants `g`; null is without end. */
const roomOf = (which: string): string => `case when bool_or(g.amount is null) filter (where ${which}) then null
  else coalesce(sum(greatest(g.amount - g.used - g.reserved - g.revoked, 0)) filter (where ${which}), 0)::bigint end`

/** The allowances of balances that stand now, with what can still be drawn of each balance, and what use of their period has drawn. */
export async function listStandingAllowances(
  tx: Queryable,
  query: Owned & { readonly balanceKeys: readonly string[]; readonly now: Instant },
): Promise<readonly ChangedAllowance[]> {
  const { rows } = await tx.query<ChangedAllowance>(
    `select plan.balance as "balanceKey", plan.id as "grantId", plan.used as drawn, coalesce(plan.used_elsewhere, 0) as "drawnElsewhere",
       greatest(plan.amount - plan.used - plan.reserved - plan.revoked, case when plan.amount is not null then 0 end) as room,
       others.before as "roomBefore", others.after as "roomAfter"
     from (
       select distinct on (balance) * from grants
       where organization_id = $1 and balance = any($2) and kind = 'plan' and starts_at <= $3 and expires_at > $3
       order by balance, starts_at desc
     ) plan
     cross join lateral (
       select ${roomOf('g.first')} as before, ${roomOf('not g.first')} as after
       from (
         select *, (priority, expires_at, created_at, id) < (plan.priority, plan.expires_at, plan.created_at, plan.id) as first from grants
         where organization_id = $1 and balance = plan.balance and kind <> 'plan' and meters is null and starts_at <= $3 and expires_at > $3
       ) g
     ) others`,
    [query.organizationId, query.balanceKeys, query.now],
  )
  return rows
}

/** What is known already of lines that changes have ended, of allowances, in the order of the lines. */
export async function listChangedLines(
  tx: Queryable,
  { organizationId, grantIds }: Owned & { readonly grantIds: readonly string[] },
): Promise<readonly (ChangedLine & { readonly grantId: string })[]> {
  const { rows } = await tx.query<ChangedLine & { grantId: string }>(
    `select late.grant_id as "grantId", ${CHANGED_LINE}
     from late_use late join billing_spans span on span.organization_id = late.organization_id and span.id = late.span_id
     where late.organization_id = $1 and late.grant_id = any($2) order by span.starts_at, span.id`,
    [organizationId, grantIds],
  )
  return rows
}

export async function insertChangedLines(
  tx: Queryable,
  organizationId: string,
  lines: readonly (Omit<ChangedLine, 'told'> & { readonly spanId: string; readonly grantId: string })[],
): Promise<void> {
  await tx.query(
    `insert into late_use (organization_id, span_id, grant_id, room, room_before, room_after, drawn, drawn_elsewhere, passed, passed_elsewhere)
     select $1, * from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
     on conflict do nothing`,
    [
      organizationId,
      lines.map(({ spanId }) => spanId),
      lines.map(({ grantId }) => grantId),
      lines.map(({ room }) => room),
      lines.map(({ roomBefore }) => roomBefore),
      lines.map(({ roomAfter }) => roomAfter),
      lines.map(({ drawn }) => drawn),
      lines.map(({ drawnElsewhere }) => drawnElsewhere),
      lines.map(({ passed }) => passed),
      lines.map(({ passedElsewhere }) => passedElsewhere),
    ],
  )
}

/** What of a line's late use was taken back, and is still billed by lines of late use. */
export type FallenLate = { readonly spanId: string; readonly grantId: string; readonly quantity: Quantity }

/** Nearly always none, which an index says. */
export async function listFallenLate(db: Queryable, organizationId: string): Promise<readonly FallenLate[]> {
  const { rows } = await db.query<FallenLate>(
    `select span_id as "spanId", grant_id as "grantId", billed - counted as quantity from late_use
     where organization_id = $1 and counted < billed order by span_id, grant_id`,
    [organizationId],
  )
  return rows
}

/** Notes that lines of late use bill no more than is counted. */
export async function settleFallenLate(tx: Queryable, organizationId: string): Promise<void> {
  await tx.query('update late_use set billed = counted where organization_id = $1 and counted < billed', [organizationId])
}

/** Takes off a line of late use that is not asked for yet. */
export async function lowerLateLine(
  tx: Queryable,
  { organizationId, spanId, quantity }: Owned & { readonly spanId: string; readonly quantity: Quantity },
): Promise<void> {
  await tx.query('update billing_spans set quantity = quantity - $3 where organization_id = $1 and id = $2', [
    organizationId,
    spanId,
    quantity,
  ])
}

/** How long what is told late after a first item is put together into one more. */
const TOGETHER_MS = DAY_MS
/** So long before the period ends it is not. */
const ENDING_MS = 2 * HOUR_MS

/**
 * Of a line `late` and its organization `o`: that its item is to be asked for: it is the first in a day, the period is about to end, or it was asked
 * for and nobody knows whether it was made.
 */
const IS_DUE = `late.kind = 'late' and late.state <> 'closed' and (
    late.state = 'closing' or late.period_end < coalesce(o.test_clock_now, $2) + make_interval(secs => $4)
    or not exists (
      select from billing_spans made
      where made.organization_id = late.organization_id and made.late_of = late.late_of and made.kind = 'late' and made.state <> 'open'
        and made.starts_at > coalesce(o.test_clock_now, $2) - make_interval(secs => $3)
    )
  )`

/** Organizations with late use to be asked for; in no order, so that those that keep failing do not stand before everybody else. */
export async function listLateChargers(
  db: Queryable,
  { now, limit }: { readonly now: Instant; readonly limit: number },
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select late.organization_id as id from billing_spans late join organizations o on o.id = late.organization_id
     where ${IS_DUE} group by late.organization_id order by random() limit $1`,
    [limit, now, TOGETHER_MS / 1_000, ENDING_MS / 1_000],
  )
  return rows.map(({ id }) => id)
}

/** The ids of an organization's lines of late use whose items are to be asked for. */
export async function listLateToCharge(
  db: Queryable,
  { organizationId, now, isEnding }: Owned & { readonly now: Instant; readonly isEnding: boolean },
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select late.id from billing_spans late join organizations o on o.id = late.organization_id
     where late.organization_id = $1 and ${IS_DUE} order by late.starts_at, late.id`,
    // Where the period is about to end, all of them.
    [organizationId, now, isEnding ? 0 : TOGETHER_MS / 1_000, isEnding ? FOREVER_S : ENDING_MS / 1_000],
  )
  return rows.map(({ id }) => id)
}

const FOREVER_S = 4_000 * (DAY_MS / 1_000)

/** Fixes what a line of late use comes to, before its item is asked for. What comes to nothing needs none. */
export async function fixLateLine(
  tx: Queryable,
  { organizationId, id, amountMinor }: Owned & { readonly id: string; readonly amountMinor: number },
): Promise<void> {
  await tx.query(
    `with fixed as (
       update billing_spans set amount_minor = $3::bigint, state = case when $3::bigint = 0 then 'closed' else 'closing' end
       where organization_id = $1 and id = $2 and state = 'open' returning organization_id, id
     )
     update grants g set priced_minor = nullif(greatest(coalesce(g.priced_minor, 0) + $3::bigint, 0), 0)
     from (select r.organization_id, min(r.grant_id) as id from reported_grants r join fixed on r.organization_id = fixed.organization_id
       and r.span_id = fixed.id where r.counted <> 0 group by 1) own
     where g.organization_id = own.organization_id and g.id = own.id`,
    [organizationId, id, amountMinor],
  )
}

/** Forgets a line of late use of which all was taken back before it was asked for. */
export async function deleteEmptyLateLine(tx: Queryable, { organizationId, id }: Owned & { readonly id: string }): Promise<void> {
  await tx.query(
    `with gone as (
       delete from billing_spans where organization_id = $1 and id = $2 and kind = 'late' and state = 'open' and quantity = 0
       returning organization_id, id
     )
     delete from reported_grants r using gone where r.organization_id = gone.organization_id and r.span_id = gone.id`,
    [organizationId, id],
  )
}

export async function closeLateLine(db: Queryable, { organizationId, id }: Owned & { readonly id: string }): Promise<void> {
  await db.query(
    "update billing_spans set state = 'closed' where organization_id = $1 and id = $2 and kind = 'late' and state = 'closing'",
    [organizationId, id],
  )
}

/** To whom the item of a line goes, and what became of asking for it. */
export type LateItem = {
  readonly customerId: string
  readonly currency: string
  /** null where the line's subscription has ended, and takes no more items. */
  readonly subscriptionId: string | null
  /** The time of the line whose use it is. */
  readonly usedFrom: Instant
  readonly usedUntil: Instant
  /** null when it was never asked for, or what was asked for is known not to have been made. */
  readonly state: 'pending' | 'succeeded' | 'failed' | null
}

export async function findLateItem(
  db: Queryable,
  { organizationId, id }: Owned & Pick<BillingSpan, 'id'>,
): Promise<LateItem | null> {
  const { rows } = await db.query<LateItem>(
    `select o.stripe_customer_id as "customerId", price.currency, own.id as "subscriptionId", line.starts_at as "usedFrom", line.ends_at as "usedUntil", (
       select state from stripe_intents intent
       where intent.organization_id = late.organization_id and intent.kind = 'create_invoice_item' and intent.state <> 'abandoned'
         and intent.params #>> '{metadata,${LINE_METADATA}}' = late.id
       order by intent.state = 'succeeded' desc, intent.created_at desc limit 1
     ) as state
     from billing_spans late
     join organizations o on o.id = late.organization_id and o.stripe_customer_id is not null
     join usage_prices price on price.stripe_price_id = late.stripe_price_id
     join billing_spans line on line.organization_id = late.organization_id and line.id = late.late_of
     left join stripe_subscriptions own on own.organization_id = late.organization_id and own.id = late.subscription_id
       and own.status not in ('canceled', 'incomplete_expired')
     where late.organization_id = $1 and late.id = $2`,
    [organizationId, id],
  )
  return rows[0] ?? null
}

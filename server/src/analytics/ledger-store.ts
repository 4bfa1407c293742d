import type { Queryable } from '../db/database.ts'
import { rowsTogether } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import { parseQuantity, type Quantity } from '../lib/quantity.ts'
import { parseUnitAmount } from '../lib/unit-amount.ts'
import type { SubscriptionStatus } from '../standing/rules.ts'
import type { DiscountSnapshot } from '../stripe/gateway/discount-snapshots.ts'
import { PRICE_OF_LINE } from '../stripe/gateway/invoice-items.ts'
import { PAYS } from '../stripe/mirror/dispute-store.ts'
import { WHOLE, type MovementKind, type RevenueDiscount, type RevenueItem, type RevenueSubscription } from './rules.ts'

/** What the ledger holds of an organization in one currency. */
export type MrrAccount = {
  readonly currency: string
  readonly planKey: string
  readonly status: SubscriptionStatus
  readonly mrr: Quantity
  readonly movements: number
  readonly movedAt: Instant | null
  readonly firstPaidAt: Instant | null
}

export type Movement = {
  readonly organizationId: string
  readonly currency: string
  readonly number: number
  readonly kind: MovementKind
  readonly amount: Quantity
  readonly mrrAfter: Quantity
  readonly planKey: string
  readonly occurredAt: Instant
}

type SubscriptionRow = Omit<RevenueSubscription, 'items' | 'discounts'> & {
  readonly organizationId: string
  readonly items: readonly ItemRow[] | null
  readonly discounts: readonly DiscountRow[]
}
type ItemRow = {
  readonly id: string
  readonly productId: string
  readonly unitAmount: string | null
  readonly quantity: number | null
  readonly interval: string
  readonly intervalCount: number
  readonly metered: boolean
  /** In percent, by tax rates. */
  readonly includedTax: string | null
  readonly invoicedTax: { readonly tax: number; readonly net: number } | null
}
/** As JSON holds it. */
type DiscountRow = Omit<DiscountSnapshot, 'endsAt'> & { readonly endsAt: string | null }

/** An organization's subscriptions in the mirror, with what they sell, what is taken off, and what of it is tax. */
export async function listRevenueSubscriptions(tx: Queryable, organizationId: string): Promise<RevenueSubscription[]> {
  return (await listSubscriptionRows(tx, organizationId)).map((stored) => {
    const { organizationId: _, items, discounts, ...row } = stored
    return { ...row, items: (items ?? []).map(toItem), discounts: discounts.map(toDiscount) }
  })
}

/** The rates of an item, of a `subscription` and its `wire` item: its own, else those of its subscription. */
const TAX_RATES = `coalesce(nullif(nullif(wire -> 'tax_rates', 'null'), '[]'), nullif(subscription.data -> 'default_tax_rates', 'null'), '[]')`

/**
 * The tax that Stripe Tax found in the price of an `item`, as far as an invoice says: the newest of its subscription that billed it, else the newest of
 * all. What came to nothing tells nothing.
 */
const INVOICED_TAX = `(
  select jsonb_build_object('tax', included.tax, 'net', charged.minor - included.tax)
  from stripe_invoices invoice cross join jsonb_array_elements(invoice.data -> 'lines' -> 'data') line
  cross join lateral (select (line ->> 'amount')::bigint - coalesce(sum((each ->> 'amount')::bigint), 0) as minor
    from jsonb_path_query(line, '$.pretax_credit_amounts[*]') each) charged
  cross join lateral (select coalesce(sum((each ->> 'amount')::bigint), 0) as tax
    from jsonb_path_query(line, '$.taxes[*] ? (@.tax_behavior == "inclusive")') each) included
  where invoice.organization_id = subscription.organization_id and invoice.subscription_id = subscription.id
    and invoice.status in ('open', 'paid', 'uncollectible') and charged.minor > 0
  order by (${PRICE_OF_LINE} = item.price_id) is true desc, invoice.created_at desc, charged.minor desc limit 1)`

/** A debit is made when the subscription begins, and paid days later. */
const FIRST_PAYMENT = `(
  select coalesce(min(charge.created_at), min(invoice.paid_at)) from stripe_invoices invoice
  left join stripe_charges charge on charge.organization_id = invoice.organization_id and charge.status = 'succeeded' and ${PAYS}
  where invoice.organization_id = subscription.organization_id and invoice.subscription_id = subscription.id
    and invoice.billing_reason = 'subscription_create' and invoice.collection_method = 'charge_automatically'
    and invoice.status = 'paid' and invoice.amount_paid_minor > 0)`

const listSubscriptionRows = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<SubscriptionRow>(
    `select organization_id as "organizationId", status, currency, pause_behavior is not null as paused, created_at as "createdAt",
       ${FIRST_PAYMENT} as "firstPaidAt", trial_end as "trialEnd", ended_at as "endedAt", discounts,
       (select jsonb_agg(jsonb_build_object(
          'id', item.id, 'productId', item.product_id,
          'unitAmount', coalesce(item.unit_amount_minor::text, wire -> 'price' ->> 'unit_amount_decimal'),
          'quantity', item.quantity, 'interval', item.billing_interval, 'intervalCount', item.interval_count,
          'metered', item.usage_type = 'metered',
          'includedTax', (select sum((rate ->> 'percentage')::numeric)::text from jsonb_array_elements(${TAX_RATES}) rate
            where (rate ->> 'inclusive')::boolean),
          'invoicedTax', case when subscription.data #>> '{automatic_tax,enabled}' = 'true' and ${TAX_RATES} = '[]'
            then ${INVOICED_TAX} end) order by item.id)
        from stripe_subscription_items item
        left join jsonb_array_elements(subscription.data -> 'items' -> 'data') wire on wire ->> 'id' = item.id
        where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id) as items
     from stripe_subscriptions subscription where organization_id = any($1) order by id`,
    [organizationIds],
  )
  return rows
})

/** A price of tiers has no unit amount of its own and counts 0. */
function toItem({ unitAmount, quantity, includedTax, invoicedTax, ...item }: ItemRow): RevenueItem {
  return {
    ...item,
    unitAmount: parseUnitAmount(unitAmount ?? '0', 'unit_amount'),
    quantity: quantity ?? 1,
    includedTax:
      invoicedTax === null
        ? { parts: parseQuantity(includedTax ?? '0', 'percentage'), upon: WHOLE }
        : { parts: BigInt(invoicedTax.tax), upon: BigInt(invoicedTax.net) },
  }
}

function toDiscount({ percentOff, endsAt, ...discount }: DiscountRow): RevenueDiscount {
  return {
    ...discount,
    percentOff: percentOff === null ? null : parseQuantity(percentOff, 'percent_off'),
    endsAt: endsAt === null ? null : new Date(endsAt),
  }
}

const MRR_COLUMNS = `ledger.currency, ledger.plan_key as "planKey", ledger.status, ledger.mrr, ledger.movements,
  ledger.moved_at as "movedAt", ledger.first_paid_at as "firstPaidAt"`

export async function listMrrAccounts(tx: Queryable, organizationId: string): Promise<MrrAccount[]> {
  const { rows } = await tx.query<MrrAccount>(`select ${MRR_COLUMNS} from mrr_accounts ledger where organization_id = $1`, [
    organizationId,
  ])
  return rows
}

/** The plan of an organization's account, and what the ledger holds of it; null when it has no account. */
export async function readLedger(
  tx: Queryable,
  organizationId: string,
): Promise<{ readonly planKey: string; readonly accounts: readonly MrrAccount[] } | null> {
  const rows = await listLedgerRows(tx, organizationId)
  const [first] = rows
  return first === undefined ? null : { planKey: first.ownPlanKey, accounts: rows.filter((row) => row.currency !== null) }
}

type LedgerRow = { readonly organizationId: string; readonly ownPlanKey: string } & (MrrAccount | { readonly currency: null })

const listLedgerRows = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<LedgerRow>(
    `select account.organization_id as "organizationId", account.plan_key as "ownPlanKey", ${MRR_COLUMNS} from accounts account
     left join mrr_accounts ledger on ledger.organization_id = account.organization_id where account.organization_id = any($1)`,
    [organizationIds],
  )
  return rows
})

/** When the organization first paid more than nothing, by currency. */
export async function listFirstPayments(tx: Queryable, organizationId: string): Promise<ReadonlyMap<string, Instant>> {
  const { rows } = await tx.query<{ currency: string; at: Instant }>(
    `select currency, min(coalesce(paid_at, created_at)) as at from stripe_invoices
     where organization_id = $1 and status = 'paid' and amount_paid_minor > 0 group by currency`,
    [organizationId],
  )
  return new Map(rows.map(({ currency, at }) => [currency, at]))
}

export async function upsertMrrAccount(tx: Queryable, organizationId: string, account: MrrAccount): Promise<void> {
  const { currency, planKey, status, mrr, movements, movedAt, firstPaidAt } = account
  await tx.query(
    `insert into mrr_accounts (organization_id, currency, plan_key, status, mrr, movements, moved_at, first_paid_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)
     on conflict (organization_id, currency) do update set (plan_key, status, mrr, movements, moved_at, first_paid_at) =
       (excluded.plan_key, excluded.status, excluded.mrr, excluded.movements, excluded.moved_at, excluded.first_paid_at)`,
    [organizationId, currency, planKey, status, mrr, movements, movedAt, firstPaidAt],
  )
}

export async function insertMovement(tx: Queryable, movement: Movement, recordedAt: Instant): Promise<void> {
  const { organizationId, currency, number, kind, amount, mrrAfter, planKey, occurredAt } = movement
  await tx.query(
    `insert into mrr_movements (organization_id, currency, number, kind, amount, mrr_after, plan_key, occurred_at, recorded_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [organizationId, currency, number, kind, amount, mrrAfter, planKey, occurredAt, recordedAt],
  )
}

/** Writes the rows of the days that are over at `until` and have none yet. Answers how many. */
export async function insertMissingDays(tx: Queryable, until: Instant): Promise<number> {
  // Waits for every movement that is being written down, and holds up those to come: a trigger takes away the days that they are not in.
  await tx.query('lock table mrr_days in share row exclusive mode')
  const inserted = await tx.query(
    `with last as (select max(day) as day from mrr_days),
     span as (
       select coalesce((select day + 1 from last), (select min(occurred_at)::date from mrr_movements)) as first,
         ($1::timestamptz)::date - 1 as final
     ),
     daily as (
       select occurred_at::date as day, currency, sum(amount) as mrr,
         count(*) filter (where kind in ('new', 'reactivation')) - count(*) filter (where kind = 'churn') as customers
       from mrr_movements, span
       where occurred_at >= span.first and occurred_at < $1::timestamptz::date group by 1, 2
     ),
     base as (select currency, mrr, customers from mrr_days, last where mrr_days.day = last.day)
     insert into mrr_days (day, currency, mrr, customers)
     select one.day::date, known.currency,
       coalesce(base.mrr, 0) + sum(coalesce(daily.mrr, 0)) over (partition by known.currency order by one.day),
       coalesce(base.customers, 0) + sum(coalesce(daily.customers, 0)) over (partition by known.currency order by one.day)
     from span cross join generate_series(span.first, span.final, interval '1 day') as one (day)
     cross join (select currency from base union select currency from daily) known
     left join base on base.currency = known.currency
     left join daily on daily.currency = known.currency and daily.day = one.day::date`,
    [until],
  )
  return inserted.rowCount ?? 0
}

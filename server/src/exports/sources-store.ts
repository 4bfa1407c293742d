import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { OverriddenPlan } from '../standing/rules.ts'
import { IS_LICENSED } from '../subscriptions/store.ts'
import type { Export } from './store.ts'

/** Rows are read in batches, by key, so that memory does not grow with a file. */
const BATCH = 1_000

type Place = { readonly at: string; readonly id: string }

/** Reads a statement batch by batch; its rows have `place`, and it takes the place before it as its last parameters. */
async function* readAll<Row extends { readonly place: Place }>(
  db: Queryable,
  text: string,
  values: readonly unknown[],
): AsyncGenerator<readonly Row[]> {
  let place: Place | null = null
  for (;;) {
    const result: { rows: Row[] } = await db.query<Row>(text, [...values, place?.at ?? null, place?.id ?? null, BATCH])
    if (result.rows.length > 0) yield result.rows
    if (result.rows.length < BATCH) return
    place = result.rows.at(-1)!.place
  }
}

type Wanted = Pick<Export, 'startsAt' | 'endsAt' | 'filter'> & {
  /** null is every organization. */
  readonly organizationId: string | null
}

const valuesOf = ({ organizationId, startsAt, endsAt, filter }: Wanted) => [
  organizationId,
  startsAt,
  endsAt,
  filter.status ?? null,
  filter.currency ?? null,
]

const WHERE = (at: string, status: string): string =>
  `where ($1::text is null or organization_id = $1) and ($2::timestamptz is null or ${at} >= $2)
     and ($3::timestamptz is null or ${at} < $3) and ($4::text is null or ${status} = $4) and ($5::text is null or currency = $5)`
const PAGE = (at: string): string => `and ($6::timestamptz is null or (${at}, id) > ($6, $7)) order by ${at}, id limit $8`
const PLACE = (at: string): string => `jsonb_build_object('at', ${at}::text, 'id', id) as place`

export type InvoiceLine = { readonly description: string | null; readonly amount: number; readonly quantity: number | null }

export type ExportedInvoice = {
  readonly place: Place
  readonly id: string
  readonly organizationId: string
  readonly organizationName: string
  readonly number: string | null
  readonly status: string
  readonly currency: string
  readonly subtotalMinor: number
  readonly totalMinor: number
  readonly amountDueMinor: number
  readonly amountPaidMinor: number
  readonly amountRemainingMinor: number
  /** What discounts and credit grants took off. */
  readonly discountMinor: number
  /** On top of the prices. */
  readonly taxMinor: number
  readonly includedTaxMinor: number
  /** What the customer's balance paid; below zero, what went there. */
  readonly balanceMinor: number
  /** By credit notes, of what was due and of what was paid. */
  readonly creditedBeforeMinor: number
  readonly creditedAfterMinor: number
  readonly refundedMinor: number
  readonly createdAt: Instant
  readonly dueAt: Instant | null
  readonly paidAt: Instant | null
  readonly periodStart: Instant
  readonly periodEnd: Instant
  readonly hostedInvoiceUrl: string | null
  readonly lines: readonly InvoiceLine[] | null
}

/** The sum of the amounts that a path of an invoice at Stripe leads to. */
const SUM_OF = (path: string): string =>
  `select coalesce(sum((each ->> 'amount')::bigint), 0)::float8 from jsonb_path_query(data, '$.${path}') each`

/** Oldest first. */
export function readInvoices(db: Queryable, wanted: Wanted): AsyncGenerator<readonly ExportedInvoice[]> {
  return readAll(
    db,
    `select ${PLACE('created_at')}, id, organization_id as "organizationId",
       (select name from organizations where organizations.id = organization_id) as "organizationName", number, status, currency,
       subtotal_minor::float8 as "subtotalMinor", total_minor::float8 as "totalMinor", amount_due_minor::float8 as "amountDueMinor",
       amount_paid_minor::float8 as "amountPaidMinor", amount_remaining_minor::float8 as "amountRemainingMinor",
       (${SUM_OF('total_pretax_credit_amounts[*]')}) as "discountMinor",
       (${SUM_OF('total_taxes[*] ? (@.tax_behavior == "exclusive")')}) as "taxMinor",
       (${SUM_OF('total_taxes[*] ? (@.tax_behavior == "inclusive")')}) as "includedTaxMinor",
       coalesce((data ->> 'ending_balance')::float8 - (data ->> 'starting_balance')::float8, 0) as "balanceMinor",
       coalesce((data ->> 'pre_payment_credit_notes_amount')::float8, 0) as "creditedBeforeMinor",
       coalesce((data ->> 'post_payment_credit_notes_amount')::float8, 0) as "creditedAfterMinor",
       amount_refunded_minor::float8 as "refundedMinor",
       created_at as "createdAt", due_at as "dueAt", paid_at as "paidAt", period_start as "periodStart", period_end as "periodEnd",
       hosted_invoice_url as "hostedInvoiceUrl", data -> 'lines' -> 'data' as lines
     from stripe_invoices ${WHERE('created_at', 'status')} and status <> 'draft' ${PAGE('created_at')}`,
    valuesOf(wanted),
  )
}

export async function countInvoices(db: Queryable, wanted: Wanted): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*)::float8 as count from stripe_invoices ${WHERE('created_at', 'status')} and status <> 'draft'`,
    valuesOf(wanted),
  )
  return rows[0]!.count
}

export type ExportedSubscription = {
  readonly place: Place
  readonly id: string
  readonly organizationId: string
  readonly customerId: string
  readonly status: string
  readonly currency: string
  readonly plan: string | null
  readonly amountMinor: number
  readonly createdAt: Instant
  readonly cancelAt: Instant | null
  readonly endedAt: Instant | null
}

export function readSubscriptions(db: Queryable, wanted: Wanted): AsyncGenerator<readonly ExportedSubscription[]> {
  return readAll(
    db,
    `select ${PLACE('created_at')}, id, organization_id as "organizationId", customer_id as "customerId", status, currency,
       created_at as "createdAt", cancel_at as "cancelAt", ended_at as "endedAt",
       (select min(sold.plan_key) from stripe_subscription_items item join plan_prices sold on sold.stripe_price_id = item.price_id
        where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id) as plan,
       (select coalesce(sum(coalesce(item.unit_amount_minor, 0) * coalesce(item.quantity, 1)), 0)::float8
        from stripe_subscription_items item
        where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id and ${IS_LICENSED})
         as "amountMinor"
     from stripe_subscriptions subscription ${WHERE('created_at', 'status')} ${PAGE('created_at')}`,
    valuesOf(wanted),
  )
}

export type ExportedOrganization = {
  readonly place: Place
  readonly id: string
  readonly name: string
  readonly email: string
  readonly customerId: string | null
  /** Of its subscription; `none` where there is none. */
  readonly status: string
  readonly createdAt: Instant
} & OverriddenPlan

export function readOrganizations(db: Queryable, wanted: Wanted): AsyncGenerator<readonly ExportedOrganization[]> {
  return readAll(
    db,
    `select * from (
       select ${PLACE('created_at')}, organization.id, organization.id as organization_id, name, email,
         stripe_customer_id as "customerId", plan_key as "planKey", override_plan_key as "overridePlanKey",
         override_ends_at as "overrideEndsAt", test_clock_now as "testClockNow", coalesce(subscription_status, 'none') as status,
         (select min(currency) from mrr_accounts brought where brought.organization_id = organization.id) as currency,
         created_at, created_at as "createdAt"
       from organizations organization left join accounts on accounts.organization_id = organization.id
     ) listed ${WHERE('created_at', 'status')} ${PAGE('created_at')}`,
    valuesOf(wanted),
  )
}

export type ExportedMovement = {
  readonly place: Place
  readonly organizationId: string
  readonly currency: string
  readonly kind: string
  readonly amount: Quantity
  readonly mrrAfter: Quantity
  readonly plan: string
  readonly occurredAt: Instant
}

export function readMovements(db: Queryable, wanted: Wanted): AsyncGenerator<readonly ExportedMovement[]> {
  return readAll(
    db,
    `select * from (
       select ${PLACE('occurred_at')}, id, organization_id, organization_id as "organizationId", currency, kind, amount,
         mrr_after as "mrrAfter", plan_key as plan, occurred_at, occurred_at as "occurredAt"
       from (
         select *, organization_id || ':' || currency || ':' || lpad(number::text, 9, '0') as id from mrr_movements
       ) numbered
     ) listed ${WHERE('occurred_at', 'kind')} ${PAGE('occurred_at')}`,
    valuesOf(wanted),
  )
}

/** How many rows a file of a whole table will have, without its filter: from counts that are kept. */
export async function countTable(
  db: Queryable,
  table: 'organizations' | 'stripe_subscriptions' | 'mrr_movements',
  wanted: Wanted,
): Promise<number | null> {
  const narrowed = wanted.startsAt !== null || wanted.endsAt !== null || Object.keys(wanted.filter).length > 0
  if (narrowed) return null
  const { rows } = await db.query<{ count: number }>(`select count(*)::float8 as count from ${table}`)
  return rows[0]!.count
}

export type UsageRow = {
  /** A date of the zone. */
  readonly day: string
  readonly meter: string
  readonly events: number
  readonly quantity: Quantity
  readonly drawn: Quantity
  readonly overage: Quantity
}

export type UsageSpan = { readonly from: Instant; readonly to: Instant; readonly timeZone: string }

/** Use of an organization by meter and day of a zone. */
export async function listUsage(db: Queryable, organizationId: string, { from, to, timeZone }: UsageSpan): Promise<UsageRow[]> {
  const { rows } = await db.query<UsageRow>(
    `select (hour at time zone $4)::date::text as day, meter, sum(events)::float8 as events, sum(quantity)::bigint as quantity,
       sum(drawn)::bigint as drawn, sum(overage)::bigint as overage
     from usage_hourly where organization_id = $1 and hour >= $2 and hour < $3 group by 1, 2 order by 1, 2`,
    [organizationId, from, to, timeZone],
  )
  return rows
}

export async function findName(db: Queryable, organizationId: string): Promise<string> {
  const { rows } = await db.query<{ name: string }>('select name from organizations where id = $1', [organizationId])
  return rows[0]?.name ?? organizationId
}

import type { Queryable } from '../db/database.ts'
import { rowsTogether } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { takesMoney } from '../stripe/mirror/dispute-rules.ts'
import type { Payment, PurchaseStatus } from './rules.ts'

/** `saved` charges the saved method, and opens a page where there is none, the bank asks, or it is not known where the customer is taxed; `page` always opens one. */
export type PayWith = 'saved' | 'page'

export type Purchase = {
  readonly organizationId: string
  readonly id: string
  readonly idempotencyKey: string
  readonly topUpKey: string
  readonly name: string
  readonly balanceKey: string
  readonly quantity: number
  /** What all of it grants. */
  readonly amount: Quantity
  readonly priceMinor: number
  readonly currency: string
  readonly expiresAfterDays: number | null
  readonly automatic: boolean
  /** null where it was not written down yet. */
  readonly payWith: PayWith | null
  readonly status: PurchaseStatus
  readonly failureCode: string | null
  readonly pageUrl: string | null
  readonly chargeId: string | null
  /** With its tax; null while nothing is paid. */
  readonly paidMinor: number | null
  readonly refundedMinor: number
  readonly disputed: boolean
  readonly takenBack: Quantity
  readonly createdAt: Instant
  readonly paidAt: Instant | null
}

const COLUMNS = `p.organization_id as "organizationId", p.id, p.idempotency_key as "idempotencyKey", p.top_up as "topUpKey", p.name,
  p.balance as "balanceKey", p.quantity, p.amount, p.price_minor::float8 as "priceMinor", p.currency,
  p.expires_after_days as "expiresAfterDays", p.automatic, p.pay_with as "payWith",
  p.status, p.failure_code as "failureCode", p.page_url as "pageUrl",
  p.charge_id as "chargeId", p.refunded_minor::float8 as "refundedMinor", p.disputed, p.taken_back as "takenBack",
  p.created_at as "createdAt", p.paid_at as "paidAt",
  (select paid.amount_minor::float8 from stripe_charges paid
   where paid.organization_id = p.organization_id and paid.id = p.charge_id) as "paidMinor"`

export async function insertPurchase(db: Queryable, purchase: Purchase): Promise<void> {
  await db.query(
    `insert into top_up_purchases (organization_id, id, idempotency_key, top_up, name, balance, quantity, amount, price_minor, currency,
       expires_after_days, automatic, status, created_at, pay_with)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'pending', $13, $14)`,
    [
      purchase.organizationId,
      purchase.id,
      purchase.idempotencyKey,
      purchase.topUpKey,
      purchase.name,
      purchase.balanceKey,
      purchase.quantity,
      purchase.amount,
      purchase.priceMinor,
      purchase.currency,
      purchase.expiresAfterDays,
      purchase.automatic,
      purchase.createdAt,
      purchase.payWith,
    ],
  )
}

export async function findPurchase(
  db: Queryable,
  { organizationId, idempotencyKey }: { organizationId: string; idempotencyKey: string },
): Promise<Purchase | null> {
  const { rows } = await db.query<Purchase>(
    `select ${COLUMNS} from top_up_purchases p where p.organization_id = $1 and p.idempotency_key = $2`,
    [organizationId, idempotencyKey],
  )
  return rows[0] ?? null
}

/** Newest first. */
export async function listPurchases(db: Queryable, organizationId: string, limit: number): Promise<readonly Purchase[]> {
  const { rows } = await db.query<Purchase>(
    `select ${COLUMNS} from top_up_purchases p where p.organization_id = $1 order by p.created_at desc, p.id limit $2`,
    [organizationId, limit],
  )
  return rows
}

/** Automatic purchases of a balance since a time, failed ones left out; and the newest that is still pending. */
export async function findAutomatic(
  db: Queryable,
  { organizationId, balanceKey, since }: { organizationId: string; balanceKey: string; since: Instant },
): Promise<{ readonly bought: number; readonly pending: Purchase | null }> {
  const { rows } = await db.query<Purchase>(
    `select ${COLUMNS} from top_up_purchases p where p.organization_id = $1 and p.balance = $2 and p.automatic
       and p.status <> 'failed' and (p.created_at >= $3 or p.status = 'pending') order by p.created_at desc`,
    [organizationId, balanceKey, since],
  )
  return {
    bought: rows.filter(({ createdAt }) => createdAt >= since).length,
    pending: rows.find(({ status }) => status === 'pending') ?? null,
  }
}

type Name = { readonly organizationId: string; readonly id: string }

export async function setPage(db: Queryable, { organizationId, id }: Name, pageUrl: string): Promise<void> {
  await db.query('update top_up_purchases set page_url = $3 where organization_id = $1 and id = $2', [
    organizationId,
    id,
    pageUrl,
  ])
}

/** A purchase that was paid after all stays paid. */
export async function setFailed(db: Queryable, { organizationId, id }: Name, failureCode: string): Promise<void> {
  await db.query(
    `update top_up_purchases set status = 'failed', failure_code = $3 where organization_id = $1 and id = $2 and status = 'pending'`,
    [organizationId, id, failureCode],
  )
}

/** Why a purchase has failed whose payment was asked for and never made. Its own repeat pays it all the same. */
export const NOT_CARRIED_OUT = 'not_carried_out'

export async function reopen(db: Queryable, { organizationId, id }: Name): Promise<void> {
  await db.query(
    `update top_up_purchases set status = 'pending', failure_code = null where organization_id = $1 and id = $2 and status = 'failed'`,
    [organizationId, id],
  )
}

/** The metadata by which a payment names what it pays for. */
export const TOP_UP_METADATA = 'tollgate_top_up'

type PayingIntent = {
  readonly kind: 'create_payment' | 'create_payment_page'
  readonly state: string
  readonly errorCode: string | null
  /** Of a page that was opened. */
  readonly url: string | null
}

/** What is known of the last payment with a saved method, or the last page, that was asked for to pay a purchase. */
export async function findLastIntent(db: Queryable, { organizationId, id }: Name): Promise<PayingIntent | null> {
  const { rows } = await db.query<PayingIntent>(
    `select kind, state, error_code as "errorCode", result ->> 'url' as url from stripe_intents
     where organization_id = $1 and kind in ('create_payment', 'create_payment_page') and params -> 'metadata' ->> '${TOP_UP_METADATA}' = $2
     order by created_at desc limit 1`,
    [organizationId, id],
  )
  return rows[0] ?? null
}

/** Whether a payment of the purchase is under way: a bank answers a debit days later. */
export async function isUnderWay(db: Queryable, { organizationId, id }: Name): Promise<boolean> {
  const { rowCount } = await db.query(
    `select from stripe_charges where organization_id = $1 and status = 'pending' and data -> 'metadata' ->> '${TOP_UP_METADATA}' = $2
     limit 1`,
    [organizationId, id],
  )
  return rowCount === 1
}

/** A debit that the bank refused, and of what. */
export type Refusal = { readonly methodId: string | null }

/**
 * Purchases whose payment the mirror has, where it says something that the purchase does not know yet. Disputes are known by their own
 * status; where the mirror has none of a charge that is said to be disputed, it is taken for one that is open. A payment that failed after it
 * was under way, or after Stripe had taken it from the saved method, was a debit and is not tried again; on a page, another card is.
 */
export async function listUnsettledPurchases(
  db: Queryable,
  organizationId: string,
): Promise<readonly { readonly purchase: Purchase; readonly payment: Payment; readonly refused: Refusal | null }[]> {
  const rows = await listUnsettled(db, organizationId)
  return rows.map(({ chargeMinor, nowRefundedMinor, disputes, by, chargeStatus, methodId, ...purchase }) => ({
    purchase,
    refused: chargeStatus === 'failed' ? { methodId } : null,
    payment: { chargeId: by, amountMinor: chargeMinor, refundedMinor: nowRefundedMinor, disputed: disputes.some(takesMoney) },
  }))
}

/** A charge that pays for a purchase or has failed to, with the status of each of its disputes. */
type Found = {
  readonly by: string
  readonly chargeMinor: number
  readonly nowRefundedMinor: number
  readonly disputes: readonly string[]
  readonly chargeStatus: string
  readonly methodId: string | null
}

const listUnsettled = rowsTogether(async (db, organizationIds) => {
  const { rows } = await db.query<Purchase & Found>(
    `select ${COLUMNS}, c.id as by, c.amount_minor::float8 as "chargeMinor", c.amount_refunded_minor::float8 as "nowRefundedMinor",
       c.status as "chargeStatus", c.data ->> 'payment_method' as "methodId",
       case when found.disputes = '{}' and c.disputed then '{needs_response}' else found.disputes end as disputes
     from top_up_purchases p
     join stripe_charges c on c.organization_id = p.organization_id and c.data -> 'metadata' ->> '${TOP_UP_METADATA}' = p.id
     cross join lateral (
       select array(select d.status from stripe_disputes d where d.organization_id = c.organization_id and d.charge_id = c.id) as disputes
     ) found
     where p.organization_id = any($1) and (p.charge_id is null or p.charge_id = c.id)
       and case when c.paid
         then p.status <> 'paid' or c.amount_refunded_minor > 0 or p.refunded_minor > 0 or c.disputed or p.disputed or found.disputes <> '{}'
         else p.status = 'pending' and c.status = 'failed' and (c.failed_at is not null or exists (
           select from stripe_intents i where i.organization_id = p.organization_id and i.kind = 'create_payment' and i.state = 'succeeded'
             and i.params -> 'metadata' ->> '${TOP_UP_METADATA}' = p.id)) end
     order by c.created_at, c.id for no key update of p`,
    [organizationIds],
  )
  return rows
})

/**
 * Organizations with a grant that gives something of which its purchase is not paid for any more: a hold has let go of it. In no order, so
 * that a few that keep failing do not end each run before the others.
 */
export async function listReleased(db: Queryable, now: Instant, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select p.organization_id as id from top_up_purchases p
     join stripe_charges c on c.organization_id = p.organization_id and c.id = p.charge_id
     join grants g on g.organization_id = p.organization_id and g.id = 'top_up:' || p.id
     where p.taken_back < p.amount and (p.disputed or p.refunded_minor > 0) and g.expires_at > $1
       and g.amount - g.used - g.reserved - g.revoked > 0
       and p.taken_back < case when p.disputed or p.refunded_minor >= c.amount_minor then p.amount
         else trunc(p.amount::numeric * p.refunded_minor / c.amount_minor) end
     group by p.organization_id order by random() limit $2`,
    [now, limit],
  )
  return rows.map(({ id }) => id)
}

export async function setPaid(
  db: Queryable,
  { organizationId, id }: Name,
  { chargeId, paidAt }: { chargeId: string; paidAt: Instant },
): Promise<void> {
  await db.query(
    `update top_up_purchases set status = 'paid', failure_code = null, charge_id = $3, paid_at = $4
     where organization_id = $1 and id = $2`,
    [organizationId, id, chargeId, paidAt],
  )
}

export async function setTakenBack(
  db: Queryable,
  { organizationId, id }: Name,
  { refundedMinor, disputed, takenBack }: Pick<Purchase, 'refundedMinor' | 'disputed' | 'takenBack'>,
): Promise<void> {
  await db.query(
    `update top_up_purchases set refunded_minor = $3, disputed = $4, taken_back = $5 where organization_id = $1 and id = $2`,
    [organizationId, id, refundedMinor, disputed, takenBack],
  )
}

/** The method that is charged when nobody is asked: the subscription's, else the customer's default, else the newest that is kept. */
export async function findSavedMethod(db: Queryable, organizationId: string): Promise<string | null> {
  const { rows } = await db.query<{ method: string | null }>(
    `select coalesce(a.payment_method_id, c.default_payment_method_id, (
         select m.id from stripe_payment_methods m
         where m.organization_id = o.id and m.customer_id = o.stripe_customer_id order by m.created_at desc, m.id limit 1
       )) as method
     from organizations o left join accounts a on a.organization_id = o.id
     left join stripe_customers c on c.id = o.stripe_customer_id where o.id = $1`,
    [organizationId],
  )
  return rows[0]?.method ?? null
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { LINE_METADATA, PRICE_METADATA, VOIDED_INVOICE_METADATA } from '../stripe/gateway/invoice-items.ts'
import { IS_TAKEN_ALONG, PENDING_ITEMS } from '../stripe/intents/taken-along.ts'
import { IS_UNDECIDED } from '../stripe/mirror/dispute-rules.ts'
import type { InvoicedLine } from './rules.ts'
import { countedOf, IS_LINE_OF, OLDEST_GRANT_MS } from './span-store.ts'
import type { CountedGrant } from './spans.ts'

/** A grant that counts less than lines have billed of it. */
export type FallenGrant = CountedGrant & { readonly reports: 'overage' | 'use' }

/** Those of an organization that are not older than anything can be corrected. */
export async function listFallenGrants(
  db: Queryable,
  { organizationId, now }: { readonly organizationId: string; readonly now: Instant },
): Promise<readonly FallenGrant[]> {
  const { rows } = await db.query<FallenGrant>(
    `select g.id as "grantId", g.balance as "balanceKey", g.starts_at as "startsAt", nullif(g.expires_at, 'infinity') as "expiresAt",
       r.reports, count.counted, r.reported
     from grants g cross join lateral (
       select reports, sum(counted)::bigint as reported from reported_grants
       where organization_id = g.organization_id and grant_id = g.id group by reports
     ) as r cross join lateral (select ${countedOf('r.reports')} as counted) as count
     where g.organization_id = $1 and g.expires_at > $2 and count.counted < r.reported
     order by g.id`,
    [organizationId, new Date(now.getTime() - OLDEST_GRANT_MS)],
  )
  return rows
}

/** A part of a closed line that was taken back. */
export type UseCredit = {
  readonly organizationId: string
  readonly id: string
  readonly spanId: string
  readonly grantId: string
  readonly late: boolean
  readonly quantity: Quantity
  /** What the line cost for it, before tax and discounts. */
  readonly amountMinor: number
}

export async function insertCredit(tx: Queryable, credit: UseCredit, now: Instant): Promise<void> {
  await tx.query(
    `insert into use_credits (organization_id, id, span_id, grant_id, late, quantity, amount_minor, state, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8)`,
    [credit.organizationId, credit.id, credit.spanId, credit.grantId, credit.late, credit.quantity, credit.amountMinor, now],
  )
}

/** Of an allowance that stands under another plan by now: what was credited is not priced by the plan before any more. */
export async function unpriceOverage(
  tx: Queryable,
  { organizationId, grantId, quantity, amountMinor }: Pick<UseCredit, 'organizationId' | 'grantId' | 'quantity' | 'amountMinor'>,
): Promise<void> {
  await tx.query(
    `update grants set priced_overage = nullif(greatest(priced_overage - $3, 0), 0),
       priced_minor = nullif(greatest(priced_minor - $4, 0), 0)
     where organization_id = $1 and id = $2 and (priced_overage > 0 or priced_minor > 0)`,
    [organizationId, grantId, quantity, amountMinor],
  )
}

export type Credited = { readonly quantity: Quantity; readonly amountMinor: number }

/** What was credited of lines, in all. */
export async function sumCredits(
  db: Queryable,
  organizationId: string,
  spanIds: readonly string[],
): Promise<ReadonlyMap<string, Credited>> {
  const { rows } = await db.query<{ id: string; quantity: Quantity; amountMinor: bigint }>(
    `select span_id as id, sum(quantity)::bigint as quantity, sum(amount_minor)::bigint as "amountMinor" from use_credits
     where organization_id = $1 and span_id = any($2) group by span_id`,
    [organizationId, spanIds],
  )
  return new Map(rows.map(({ id, quantity, amountMinor }) => [id, { quantity, amountMinor: Number(amountMinor) }]))
}

/** A credit whose line is on an invoice that is settled, so that it can be given. */
export type GivableCredit = Pick<UseCredit, 'organizationId' | 'id' | 'spanId' | 'quantity' | 'amountMinor'> & {
  readonly balanceKey: string
  readonly startsAt: Instant
  readonly endsAt: Instant
  readonly invoiceId: string
  readonly customerId: string
  readonly currency: string
  readonly isVoid: boolean
  /** What the invoice charged, less what credit notes took off, was refunded or charged back of it, and what of its use was credited before. */
  readonly leftMinor: number
  readonly line: InvoicedLine
  /** What of the line came back before, as credits of use and by credit notes. */
  readonly before: { readonly amountMinor: number; readonly givenMinor: number; readonly notedMinor: number }
}

type GivableRow = Omit<GivableCredit, 'line' | 'before' | 'amountMinor' | 'leftMinor'> & {
  readonly [
    Amount in
      | 'amountMinor'
      | 'leftMinor'
      | 'lineMinor'
      | 'discountMinor'
      | 'taxMinor'
      | 'notedMinor'
      | 'beforeMinor'
      | 'givenMinor'
  ]: bigint
}

const OF_LINE = `to_timestamp((line -> 'period' ->> 'end')::bigint) > span.starts_at
  and to_timestamp((line -> 'period' ->> 'start')::bigint) < span.ends_at and ${IS_LINE_OF('span')}`

/** What discounts took off a line, and what credit grants paid of it. */
const OFF_LINE = `(select sum((each ->> 'amount')::bigint) from (
           select jsonb_path_query(line, '$.discount_amounts[*]') union all
           select jsonb_path_query(line, '$.pretax_credit_amounts[*] ? (@.type == "credit_balance_transaction")')) off (each))`

const SUMS_OF_LINES = `select coalesce(sum((line ->> 'amount')::bigint), 0)::bigint as "lineMinor",
         coalesce(sum(${OFF_LINE}), 0)::bigint as "discountMinor",
         coalesce(sum((select sum((each ->> 'amount')::bigint)
           from jsonb_path_query(line, '$.taxes[*] ? (@.tax_behavior == "exclusive")') each)), 0)::bigint as "taxMinor",
         coalesce(sum((invoice.credited_lines ->> (line ->> 'id'))::bigint), 0)::bigint as "notedMinor"
       from jsonb_array_elements(invoice.data -> 'lines' -> 'data') line where`

const WAITING_CREDITS = `from use_credits credit
     join billing_spans span on span.organization_id = credit.organization_id and span.id = credit.span_id
     join stripe_invoices invoice on invoice.organization_id = credit.organization_id and invoice.id = span.invoice_id`

/** Of an intent `again`: that it made a line of the void `invoice` anew, which bills `span`. */
const STANDS_FOR = `again.params #>> '{metadata,${VOIDED_INVOICE_METADATA}}' = invoice.id and coalesce(again.params #>> '{metadata,${LINE_METADATA}}' = span.id, again.params #>> '{metadata,${PRICE_METADATA}}' = span.stripe_price_id)`

/**
 * What an invoice has charged is known once it is paid, or void with nothing of it to come again, and no dispute of it is undecided; and not while the
 * mirror was seen to differ from Stripe, by more or less refunded perhaps: what is given too small is not made up for.
 */
const CAN_BE_GIVEN = `credit.state = 'waiting' and invoice.status in ('paid', 'void') and not exists (
       select from stripe_syncs sync where sync.organization_id = credit.organization_id and sync.suspected_at is not null
     ) and not exists (
       select from stripe_disputes dispute where dispute.organization_id = invoice.organization_id and dispute.id = invoice.dispute_id
         and ${IS_UNDECIDED}
     ) and not (invoice.status = 'void' and (
       exists (
         select from stripe_intents again where again.organization_id = invoice.organization_id and again.kind = 'create_invoice_item'
           and again.state in ('pending', 'succeeded') and ${STANDS_FOR}
       ) or exists (select from ${PENDING_ITEMS} where ${IS_TAKEN_ALONG})
     ))`

/** The oldest of an organization that can be given. */
export async function findGivableCredit(db: Queryable, organizationId: string): Promise<GivableCredit | null> {
  const { rows } = await db.query<GivableRow>(
    `select credit.organization_id as "organizationId", credit.id, credit.span_id as "spanId", credit.quantity,
       credit.amount_minor as "amountMinor", span.balance as "balanceKey", span.starts_at as "startsAt", span.ends_at as "endsAt",
       invoice.id as "invoiceId", invoice.customer_id as "customerId", invoice.currency, invoice.status = 'void' as "isVoid",
       -- The credit of a smaller plan, which makes an invoice less, has paid its lines: they were charged whole.
       invoice.total_minor - (taken."lineMinor" - taken."discountMinor" + taken."taxMinor")
         - (invoice.amount_credited_minor - invoice.credited_by_refund_minor) - invoice.amount_refunded_minor - gone.minor - given.minor as "leftMinor",
       line.*, before.*
     ${WAITING_CREDITS}
     cross join lateral (
       select coalesce(sum(dispute.amount_minor), 0)::bigint as minor from stripe_disputes dispute
       where dispute.organization_id = invoice.organization_id and dispute.id = invoice.dispute_id and dispute.status = 'lost'
     ) gone
     cross join lateral (
       select coalesce(sum(other.given_minor), 0)::bigint as minor from use_credits other
       join billing_spans own on own.organization_id = other.organization_id and own.id = other.span_id
       where other.organization_id = credit.organization_id and own.invoice_id = invoice.id
     ) given
     cross join lateral (${SUMS_OF_LINES} ${OF_LINE}) line
     cross join lateral (${SUMS_OF_LINES} (line ->> 'amount')::bigint < 0) taken
     cross join lateral (
       select coalesce(sum(amount_minor), 0)::bigint as "beforeMinor", coalesce(sum(given_minor), 0)::bigint as "givenMinor"
       from use_credits other
       where other.organization_id = credit.organization_id and other.span_id = credit.span_id and other.state <> 'waiting'
     ) before
     where ${CAN_BE_GIVEN} and credit.organization_id = $1
     order by credit.created_at, credit.id limit 1`,
    [organizationId],
  )
  const [row] = rows
  if (row === undefined) return null
  const { amountMinor, leftMinor, lineMinor, discountMinor, taxMinor, notedMinor, beforeMinor, givenMinor, ...credit } = row
  return {
    ...credit,
    amountMinor: Number(amountMinor),
    leftMinor: Number(leftMinor),
    line: { amountMinor: Number(lineMinor), discountMinor: Number(discountMinor), taxMinor: Number(taxMinor) },
    before: { amountMinor: Number(beforeMinor), givenMinor: Number(givenMinor), notedMinor: Number(notedMinor) },
  }
}

/** Organizations of which a credit can be given; in no order, so that those that keep failing do not stand before everybody else. */
export async function listCreditors(db: Queryable, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select credit.organization_id as id ${WAITING_CREDITS} where ${CAN_BE_GIVEN}
     group by credit.organization_id order by random() limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

export type CreditEnd =
  | { readonly state: 'given'; readonly givenMinor: number; readonly transactionId: string | null }
  | { readonly state: 'failed' }

export async function endCredit(
  db: Queryable,
  { organizationId, id }: Pick<UseCredit, 'organizationId' | 'id'>,
  end: CreditEnd,
  now: Instant,
): Promise<void> {
  const [given, transaction] = end.state === 'given' ? [end.givenMinor, end.transactionId] : [0, null]
  await db.query(
    `update use_credits set state = $3, given_minor = $4, transaction_id = $5, given_at = $6
     where organization_id = $1 and id = $2 and state = 'waiting'`,
    [organizationId, id, end.state, given, transaction, now],
  )
}

/** The metadata by which a transaction of a customer's balance names what it gives back. */
export const CREDIT_METADATA = 'tollgate_use_credit'

type CreditIntent = { readonly state: string; readonly transactionId: string | null; readonly amountMinor: number }

/**
 * What is known of the call that gave a credit, or else of the last one that was to. A refusal counts for nothing since it was to be tried again; one that was
 * made counts whatever the clocks of the servers say, or it would be given twice.
 */
export async function findCreditIntent(
  db: Queryable,
  { organizationId, id }: Pick<UseCredit, 'organizationId' | 'id'>,
): Promise<CreditIntent | null> {
  const { rows } = await db.query<CreditIntent>(
    `select state, result ->> 'id' as "transactionId", (params ->> 'amountMinor')::float8 as "amountMinor" from stripe_intents
     where organization_id = $1 and kind = 'credit_customer' and params -> 'metadata' ->> '${CREDIT_METADATA}' = $2
       and (state <> 'failed' or created_at >= coalesce((select retried_at from use_credits where organization_id = $1 and id = $2), '-infinity'))
     order by state = 'succeeded' desc, created_at desc limit 1`,
    [organizationId, id],
  )
  return rows[0] ?? null
}

/** A credit that Stripe refused. */
export type FailedCredit = UseCredit & {
  readonly createdAt: Instant
  readonly failedAt: Instant | null
  /** The code of the refusal. */
  readonly error: string | null
}

type FailedRow = Omit<FailedCredit, 'amountMinor'> & { readonly amountMinor: bigint }

const FAILED_CREDITS = `select credit.organization_id as "organizationId", credit.id, credit.span_id as "spanId",
    credit.grant_id as "grantId", credit.late, credit.quantity, credit.amount_minor as "amountMinor", credit.created_at as "createdAt",
    credit.given_at as "failedAt",
    (select intent.error_code from stripe_intents intent
     where intent.organization_id = credit.organization_id and intent.kind = 'credit_customer'
       and intent.params -> 'metadata' ->> '${CREDIT_METADATA}' = credit.id order by intent.created_at desc limit 1) as error
  from use_credits credit where credit.state = 'failed'`

const failedCreditOf = (row: FailedRow): FailedCredit => ({ ...row, amountMinor: Number(row.amountMinor) })

/** Of an organization, or of all (null), newest first; those behind `after`. */
export async function listFailedCredits(
  db: Queryable,
  query: { readonly organizationId: string | null; readonly after: FailedCredit | null; readonly limit: number },
): Promise<readonly FailedCredit[]> {
  const { rows } = await db.query<FailedRow>(
    `${FAILED_CREDITS} and ($1::text is null or credit.organization_id = $1)
       and ($2::text is null or (credit.created_at, credit.id) < (select created_at, id from use_credits where organization_id = $4 and id = $2))
     order by credit.created_at desc, credit.id desc limit $3`,
    [query.organizationId, query.after?.id ?? null, query.limit, query.after?.organizationId ?? null],
  )
  return rows.map(failedCreditOf)
}

export async function findFailedCredit(db: Queryable, id: string): Promise<FailedCredit | null> {
  const { rows } = await db.query<FailedRow>(`${FAILED_CREDITS} and credit.id = $1`, [id])
  return rows[0] === undefined ? null : failedCreditOf(rows[0])
}

/** Lets a refused credit wait again; answers whose it is, null where none of that id is refused. */
export async function reopenFailedCredit(
  tx: Queryable,
  id: string,
  now: Instant,
): Promise<{ readonly organizationId: string } | null> {
  const { rows } = await tx.query<{ organizationId: string }>(
    `update use_credits set state = 'waiting', given_minor = null, given_at = null, retried_at = $2
     where id = $1 and state = 'failed' returning organization_id as "organizationId"`,
    [id, now],
  )
  return rows[0] ?? null
}

/** Organizations that corrected use which nobody has looked at since; in no order, too. */
export async function listCorrectors(db: Queryable, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select organization_id as id from corrected_events where not looked_at group by organization_id order by random() limit $1',
    [limit],
  )
  return rows.map(({ id }) => id)
}

/** Notes that what was corrected until now is being looked at. */
export async function markCorrectionsLookedAt(tx: Queryable, organizationId: string): Promise<void> {
  await tx.query('update corrected_events set looked_at = true where organization_id = $1 and not looked_at', [organizationId])
}

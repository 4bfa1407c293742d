import type { Queryable } from '../db/database.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { restoring, taxedPriceOf, type InvoiceItemTerms, type TaxedItem } from '../stripe/gateway/invoice-items.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { IS_TAKEN_ALONG, PENDING_ITEMS } from '../stripe/intents/taken-along.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { leaveToOperators } from '../stripe/left-to-operators.ts'
import type { CurrentSubscription } from './plan-change.ts'
import { follow, isRefused, type Acting } from './steps.ts'

/** What the invoice of a change will take along: kept with the call that makes it, to be made again where that invoice is voided. */
export async function readPendingItems({
  context,
  session,
  organizationId,
}: Acting): Promise<{ readonly pendingItemIds?: readonly string[] }> {
  const { customerId } = await readOrganization(session, organizationId)
  const pending = customerId === null ? [] : await requireGateway(context).reads.listPendingItems(customerId)
  return pending.length === 0 ? {} : { pendingItemIds: pending.map(({ id }) => id) }
}

/** Each `item` that an `invoice` of a change took along, and that has not been made again. */
const TAKEN_ALONG = `from stripe_invoices invoice cross join ${PENDING_ITEMS} where ${IS_TAKEN_ALONG}`

/**
 * Lets what the voided invoice of a change took along wait again for the next one: use that is owed, the credit of a smaller plan. Each is made
 * once, whatever is lost on the way, since it is an intent that names what it stands for. The caller holds the organization's lock, and has
 * settled what is pending.
 * @throws DomainError those of Stripe, but for a refusal, which is told in the log
 */
export async function restorePendingItems(acting: Acting): Promise<void> {
  const { context, session, organizationId } = acting
  const candidates = await session.query(
    `select ${TAKEN_ALONG} and intent.organization_id = $1 and invoice.status in ('open', 'void') limit 1`,
    [organizationId],
  )
  if (candidates.rowCount === 0) return
  await follow(acting)
  for (const voided of await listVoided(session, organizationId)) {
    for (const taxed of await readStillThere(context, voided)) {
      await restore(acting, voided, taxed).catch(async (error: unknown) => {
        if (!isRefused(error)) throw error
        const { id, amountMinor, currency, description } = taxed.item
        await leaveToOperators(acting, {
          kind: 'invoice_item.left_out',
          about: id,
          target: id,
          data: { item_id: id, amount_minor: amountMinor, currency, description, invoice_id: voided.invoiceId },
          words: 'Stripe did not take again what a voided invoice had taken along',
          error,
        })
      })
    }
  }
}

async function restore(
  { context, session, organizationId }: Acting,
  { invoiceId, customerId, subscriptionId: billWithSubscriptionId }: Voided,
  taxed: TaxedItem,
): Promise<void> {
  const { item } = taxed
  const after = { amount_minor: item.amountMinor, currency: item.currency, invoice_id: invoiceId }
  await performIntent(context, session, {
    organizationId,
    kind: 'create_invoice_item',
    params: { customerId, billWithSubscriptionId, ...restoring(taxed, invoiceId) },
    audit: { actor: 'system:billing', action: 'invoice_item.restored', target: item.id, before: null, after, requestId: null },
  })
}

/** Invoices and what they took along. */
type TakenAlong = { readonly invoiceId: string; readonly itemIds: readonly string[] }

/** Of items, those that the invoice still has: one that waits, or is on another, is billed as it is. */
async function readStillThere(context: BillingContext, { invoiceId, itemIds }: TakenAlong): Promise<readonly TaxedItem[]> {
  const { reads } = requireGateway(context)
  const items = (await reads.listItemsOfInvoice(invoiceId)).filter(({ id }) => itemIds.includes(id))
  const priceIds = [...new Set(items.flatMap((item) => taxedPriceOf(item) ?? []))]
  const taxes = new Map(await Promise.all(priceIds.map(async (id) => [id, await reads.retrieveItemTax(id)] as const)))
  return items.map((item) => ({ item, tax: taxes.get(taxedPriceOf(item) ?? '') ?? null }))
}

type Voided = TakenAlong & {
  readonly customerId: string
  /** null where it has ended, and takes no more items. */
  readonly subscriptionId: string | null
}

async function listVoided(db: Queryable, organizationId: string): Promise<readonly Voided[]> {
  const { rows } = await db.query<Voided>(
    `select invoice.id as "invoiceId", invoice.customer_id as "customerId", array_agg(distinct item.id) as "itemIds",
       (select id from stripe_subscriptions subscription
        where subscription.organization_id = invoice.organization_id and subscription.id = invoice.subscription_id
          and subscription.status not in ('canceled', 'incomplete_expired')) as "subscriptionId"
     ${TAKEN_ALONG} and intent.organization_id = $1 and invoice.status = 'void'
     group by invoice.organization_id, invoice.id`,
    [organizationId],
  )
  return rows
}

/** What would wait again if the invoice that a change waits for were voided, for a preview of what voids it. */
export async function readTakenAlong(
  context: BillingContext,
  organizationId: string,
  { waitingInvoiceId: invoiceId }: Pick<CurrentSubscription, 'waitingInvoiceId'>,
): Promise<readonly InvoiceItemTerms[]> {
  if (invoiceId === null) return []
  const { rows } = await context.db.query<{ id: string }>(
    `select item.id ${TAKEN_ALONG} and intent.organization_id = $1 and invoice.id = $2`,
    [organizationId, invoiceId],
  )
  if (rows.length === 0) return []
  const items = await readStillThere(context, { invoiceId, itemIds: rows.map(({ id }) => id) })
  return items.map((taxed) => restoring(taxed, invoiceId))
}

/** Who has something that is to wait again, in no order, so that a few that keep failing do not end each run before the others. */
export async function listVoiders(db: Queryable, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select intent.organization_id as id ${TAKEN_ALONG} and invoice.status = 'void' group by 1 order by random() limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

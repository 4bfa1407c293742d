import type { Instant } from '../lib/clock.ts'
import { settleInvoice } from '../lib/money.ts'
import { dueOf, withUseByNow } from '../pricing/upcoming.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { isNoneUpcoming } from '../stripe/gateway/errors.ts'
import type { InvoiceItemTerms } from '../stripe/gateway/invoice-items.ts'
import { NEXT_INVOICE, type InvoicePreview, type InvoicePreviewQuery } from '../stripe/gateway/invoice-previews.ts'
import type { CurrentSubscription } from './plan-change.ts'

export type Previewing = {
  readonly context: BillingContext
  readonly organizationId: string
  readonly customerId: string | null
  readonly now: Instant
  /** What waits for the next invoice again once the change has called off one that waits for the bank. */
  readonly invoiceItems: readonly InvoiceItemTerms[]
}

/** Amounts are minor units. */
export type NextInvoice = { readonly at: Instant; readonly amountMinor: number }

export type Query = Partial<InvoicePreviewQuery> & { readonly customerId: string }

export function ask(context: BillingContext, query: Query): Promise<InvoicePreview> {
  return requireGateway(context).reads.previewInvoice({ ...NEXT_INVOICE, ...query })
}

/** The same; null where Stripe foretells no invoice. */
export async function askForAny(context: BillingContext, query: Query): Promise<InvoicePreview | null> {
  try {
    return await ask(context, query)
  } catch (error) {
    if (isNoneUpcoming(error)) return null
    throw error
  }
}

/** How Stripe is told that a subscription does not end, by how it was told that it does. */
export function staying({ cancelAtPeriodEnd, cancelAt }: CurrentSubscription): InvoicePreviewQuery['ending'] {
  if (cancelAt === null) return null
  return cancelAtPeriodEnd ? { cancelAtPeriodEnd: false } : { clearCancelAt: true }
}

/** What an invoice charges: all of it that Stripe works out, and the use that it has not been told of yet. */
export async function dueByNow(previewing: Previewing, invoice: InvoicePreview | null): Promise<number> {
  return (await totalsByNow(previewing, invoice)).dueNowMinor
}

/** The same, and what it leaves on the customer's balance where more is credited than charged. */
export async function totalsByNow(
  { context, organizationId }: Previewing,
  invoice: InvoicePreview | null,
): Promise<{ readonly dueNowMinor: number; readonly creditMinor: number }> {
  const due = await withUseByNow(context, organizationId, invoice)
  const comes = invoice !== null || due.totalMinor !== 0
  return { dueNowMinor: dueOf(due, { comes }), creditMinor: Math.max(0, -due.totalMinor) }
}

/** An invoice that bills all use, also what Stripe has not been told of yet. */
export async function billedByNow({ context, organizationId }: Previewing, invoice: InvoicePreview): Promise<InvoicePreview> {
  const due = await withUseByNow(context, organizationId, invoice)
  return { ...invoice, totalMinor: due.totalMinor, amountDueMinor: dueOf(due, { comes: true }) }
}

/**
 * The next invoice of a subscription as a query has it, with what is pending, discounts and credit; null when none comes. Use that is left
 * of a subscription that ends is invoiced when it does (`endsAt`).
 */
export async function foretellNext(previewing: Previewing, endsAt: Instant, query: Query): Promise<NextInvoice | null> {
  const invoice = await askForAny(previewing.context, query)
  const amountMinor = await dueByNow(previewing, invoice)
  return invoice === null && amountMinor === 0 ? null : { at: invoice?.periodEnd ?? endsAt, amountMinor }
}

/** What Stripe asks for of an invoice that it foretells. */
export function chargedOf({ amountDueMinor, currency }: InvoicePreview): number {
  return settleInvoice({ amountMinor: amountDueMinor, currency }).dueMinor
}

/**
 * The invoice that follows one that is paid in this moment (`paid`): what a period costs, with what `paid` leaves of the customer's
 * balance.
 */
export async function foretellAfter(
  previewing: Previewing,
  query: Query,
  paid: InvoicePreview,
  options: { readonly withUse: boolean },
): Promise<NextInvoice | null> {
  const invoice = await askForAny(previewing.context, { ...query, mode: 'recurring' })
  if (invoice === null) return null
  const { context, organizationId } = previewing
  const { totalMinor } = options.withUse ? await withUseByNow(context, organizationId, invoice) : invoice
  const { currency } = invoice
  const { balanceMinor } = settleInvoice({ amountMinor: paid.startingBalanceMinor + paid.totalMinor, currency })
  return { at: invoice.periodEnd, amountMinor: dueOf({ totalMinor, balanceMinor, currency }, { comes: true }) }
}

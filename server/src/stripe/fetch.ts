import type { StripeReads } from './gateway.ts'
import { StripeCallError, isMissingAtStripe } from './errors.ts'
import type { ChargeSnapshot, DisputeSnapshot, PaymentMethodSnapshot } from './payment-snapshots.ts'
import type { CustomerSnapshot, InvoiceSnapshot, SubscriptionSnapshot } from './snapshots.ts'

/** What of a customer is refetched. Subscriptions and recent invoices always are: the standing hangs on both. */
export type SyncScope = {
  readonly customer: boolean
  readonly paymentMethods: boolean
  readonly charges: boolean
  /** Invoices and charges that are fetched even if they are not among the newest. */
  readonly invoiceIds: readonly string[]
  readonly chargeIds: readonly string[]
  /** Everything, all pages. */
  readonly complete: boolean
}

export const COMPLETE_SCOPE: SyncScope = {
  customer: true,
  paymentMethods: true,
  charges: true,
  invoiceIds: [],
  chargeIds: [],
  complete: true,
}

/** All that a plan change or a payment can have touched. */
export const RECENT_SCOPE: SyncScope = { ...COMPLETE_SCOPE, complete: false }

/** What Stripe answered about one customer; null where it was not asked. */
export type StripeState = {
  readonly customerId: string
  readonly customer: CustomerSnapshot | null
  readonly customerGone: boolean
  readonly subscriptions: readonly SubscriptionSnapshot[]
  readonly invoices: readonly InvoiceSnapshot[]
  readonly goneInvoiceIds: readonly string[]
  readonly paymentMethods: readonly PaymentMethodSnapshot[] | null
  readonly charges: readonly ChargeSnapshot[]
  /** Of those charges that are disputed now, or were when they were last looked at. */
  readonly disputes: readonly DisputeSnapshot[]
}

/**
 * Newest invoices and charges that one refetch looks at; older ones only by name. An event names its own, unsettled ones are always
 * looked at: so these are for what webhooks that were lost would have named. Each is kilobytes to be read and compared.
 */
const RECENT = 3

/** What the mirror holds as not settled, so that it is looked at again however old it is. */
export type Unsettled = { readonly invoiceIds: readonly string[]; readonly disputedChargeIds: readonly string[] }

/** Reads a customer's objects from Stripe. */
export async function fetchState(
  reads: StripeReads,
  customerId: string,
  scope: SyncScope,
  unsettled: Unsettled,
): Promise<StripeState> {
  const limit = scope.complete ? null : RECENT
  const customer = scope.customer ? await reads.retrieveCustomer(customerId) : null
  if (scope.customer && (customer === null || customer.deleted)) return goneState(customerId, customer)
  try {
    const [subscriptions, invoices, paymentMethods, charges] = await Promise.all([
      reads.listSubscriptions(customerId),
      fetchInvoices(reads, { customerId, limit, named: [...scope.invoiceIds, ...unsettled.invoiceIds] }),
      scope.paymentMethods ? reads.listPaymentMethods(customerId) : null,
      scope.charges
        ? fetchCharges(reads, { customerId, limit, named: [...scope.chargeIds, ...unsettled.disputedChargeIds] })
        : [],
    ])
    const disputed = charges.filter(({ id, disputed: isDisputed }) => isDisputed || unsettled.disputedChargeIds.includes(id))
    const disputes = (await Promise.all(disputed.map(({ id }) => reads.listDisputes(id)))).flat()
    return { customerId, customer, customerGone: false, subscriptions, ...invoices, paymentMethods, charges, disputes }
  } catch (error) {
    // Lists of a customer that was deleted a moment ago are refused; the customer itself then says so.
    if (!(error instanceof StripeCallError) || !isMissingAtStripe(error)) throw error
    const found = await reads.retrieveCustomer(customerId)
    if (found !== null && !found.deleted) throw error
    return goneState(customerId, found)
  }
}

function goneState(customerId: string, customer: CustomerSnapshot | null): StripeState {
  return {
    customerId,
    customer,
    customerGone: true,
    subscriptions: [],
    invoices: [],
    goneInvoiceIds: [],
    paymentMethods: [],
    charges: [],
    disputes: [],
  }
}

type Listed = { readonly customerId: string; readonly limit: number | null; readonly named: readonly string[] }

async function fetchInvoices(reads: StripeReads, { customerId, limit, named }: Listed) {
  const newest = await reads.listInvoices(customerId, limit)
  const missing = [...new Set(named)].filter((id) => !newest.some((invoice) => invoice.id === id))
  const older = await Promise.all(missing.map((id) => reads.retrieveInvoice(id)))
  const found = older.filter((invoice) => invoice !== null && invoice.customerId === customerId)
  return {
    invoices: [...newest, ...found.filter((invoice) => invoice !== null)],
    goneInvoiceIds: missing.filter((_, index) => older[index] === null),
  }
}

async function fetchCharges(reads: StripeReads, { customerId, limit, named }: Listed): Promise<ChargeSnapshot[]> {
  const newest = await reads.listCharges(customerId, limit)
  const missing = [...new Set(named)].filter((id) => !newest.some((charge) => charge.id === id))
  const older = await Promise.all(missing.map((id) => reads.retrieveCharge(id)))
  return [...newest, ...older.filter((charge) => charge !== null && charge.customerId === customerId)].filter(
    (charge) => charge !== null,
  )
}

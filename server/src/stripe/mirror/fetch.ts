import { StripeCallError, isMissingAtStripe } from '../gateway/errors.ts'
import type { StripeReads } from '../gateway/gateway.ts'
import type { ChargeSnapshot, DisputeSnapshot, PaymentMethodSnapshot } from '../gateway/payment-snapshots.ts'
import type { CustomerSnapshot, InvoiceSnapshot, ListedSubscription, SubscriptionSnapshot } from '../gateway/snapshots.ts'

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

/** Newest invoices and charges that one refetch looks at where none is named; older ones only by name. */
const RECENT = 3
/** Of one page. */
const MOST_NAMED = 100

/**
 * As many as are named: those are the newest, nearly always, and each is kilobytes to be read and compared. What webhooks that were lost would
 * have named is found by listing events (`inbox/missed-events.ts`); unsettled ones are always looked at.
 */
function newestOf(named: readonly string[]): number {
  return named.length === 0 ? RECENT : Math.min(new Set(named).size, MOST_NAMED)
}

/** What the mirror holds as not settled, so that it is looked at again however old it is. */
export type Unsettled = {
  readonly invoices: readonly { readonly id: string; readonly customerId: string }[]
  readonly disputedChargeIds: readonly string[]
}

/**
 * Reads an organization's objects from Stripe: those of its customer, and what an earlier one left unsettled. Of a customer that was deleted
 * Stripe lists nothing, but its open invoices are still paid or voided. null where there is neither.
 */
export async function fetchState(
  reads: StripeReads,
  customerId: string | null,
  scope: SyncScope,
  unsettled: Unsettled,
): Promise<StripeState | null> {
  const left = unsettled.invoices.filter((invoice) => invoice.customerId !== customerId)
  const state =
    customerId === null
      ? left[0] && goneState(left[0].customerId, null)
      : await fetchCustomerState(reads, customerId, scope, unsettled)
  if (state === undefined) return null
  // Of a customer that is found to be deleted now, too.
  const unlisted = state.customerGone ? unsettled.invoices : left
  const { invoices, goneInvoiceIds } = await retrieveInvoices(
    reads,
    unlisted.map(({ id }) => id),
  )
  return {
    ...state,
    invoices: [...state.invoices, ...invoices],
    goneInvoiceIds: [...state.goneInvoiceIds, ...goneInvoiceIds],
  }
}

async function fetchCustomerState(
  reads: StripeReads,
  customerId: string,
  scope: SyncScope,
  unsettled: Unsettled,
): Promise<StripeState> {
  const customer = scope.customer ? await reads.retrieveCustomer(customerId) : null
  if (scope.customer && (customer === null || customer.deleted)) return goneState(customerId, customer)
  const unsettledIds = unsettled.invoices.filter((invoice) => invoice.customerId === customerId).map(({ id }) => id)
  try {
    const listed = reads.listSubscriptions(customerId)
    const invoicing = fetchInvoices(reads, { customerId, ...asked(scope, scope.invoiceIds, unsettledIds) }, listed)
    const charging = () => fetchCharges(reads, { customerId, ...asked(scope, scope.chargeIds, unsettled.disputedChargeIds) })
    const [subscriptions, invoices, paymentMethods, charges] = await Promise.all([
      listed,
      invoicing,
      scope.paymentMethods ? reads.listPaymentMethods(customerId) : null,
      scope.charges ? charging() : invoicing.then(({ invoices: found }) => (found.some(isTried) ? charging() : [])),
    ])
    const disputed = charges.filter(({ id, disputed: isDisputed }) => isDisputed || unsettled.disputedChargeIds.includes(id))
    const disputes = (await Promise.all(disputed.map(({ id }) => reads.listDisputes(id)))).flat()
    return {
      customerId,
      customer,
      customerGone: false,
      subscriptions: subscriptions.map(({ subscription }) => subscription),
      ...invoices,
      paymentMethods,
      charges,
      disputes,
    }
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

/** Whether its payment failed, or is under way for days as a debit of a bank account is, its charge alone tells. */
function isTried({ status, attempted, amountRemainingMinor }: InvoiceSnapshot): boolean {
  return status === 'open' && attempted && amountRemainingMinor > 0
}

type Asked = { readonly limit: number | null; readonly named: readonly string[] }
type Listed = Asked & { readonly customerId: string }

function asked(scope: SyncScope, named: readonly string[], unsettled: readonly string[]): Asked {
  return { limit: scope.complete ? null : newestOf(named), named: [...new Set([...named, ...unsettled])] }
}

/** Where all that are named came with their subscriptions, none is asked for. */
async function fetchInvoices(
  reads: StripeReads,
  { customerId, limit, named }: Listed,
  subscriptions: Promise<readonly ListedSubscription[]>,
): Promise<Pick<StripeState, 'invoices' | 'goneInvoiceIds'>> {
  if (limit !== null && named.length > 0) {
    const latest = (await subscriptions).flatMap(({ latestInvoice }) => latestInvoice ?? [])
    if (named.every((id) => latest.some((invoice) => invoice.id === id))) return { invoices: latest, goneInvoiceIds: [] }
  }
  const newest = await reads.listInvoices(customerId, limit)
  const missing = named.filter((id) => !newest.some((invoice) => invoice.id === id))
  const { invoices: older, goneInvoiceIds } = await retrieveInvoices(reads, missing)
  return { invoices: [...newest, ...older.filter((invoice) => invoice.customerId === customerId)], goneInvoiceIds }
}

async function retrieveInvoices(
  reads: StripeReads,
  ids: readonly string[],
): Promise<Pick<StripeState, 'invoices' | 'goneInvoiceIds'>> {
  const found = await Promise.all(ids.map((id) => reads.retrieveInvoice(id)))
  return {
    invoices: found.filter((invoice) => invoice !== null),
    goneInvoiceIds: ids.filter((_, index) => found[index] === null),
  }
}

async function fetchCharges(reads: StripeReads, { customerId, limit, named }: Listed): Promise<ChargeSnapshot[]> {
  const newest = await reads.listCharges(customerId, limit)
  const missing = named.filter((id) => !newest.some((charge) => charge.id === id))
  const older = await Promise.all(missing.map((id) => reads.retrieveCharge(id)))
  return [...newest, ...older.filter((charge) => charge !== null && charge.customerId === customerId)].filter(
    (charge) => charge !== null,
  )
}

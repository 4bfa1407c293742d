import { insertAuditEntry } from '../audit/store.ts'
import type { TopUp } from '../catalog/catalog.ts'
import type { Queryable, Session } from '../db/database.ts'
import { termsOfAccounts } from '../grants/actions.ts'
import { drawnBalances } from '../grants/rules.ts'
import { findAccounts } from '../grants/store.ts'
import { DomainError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { ORGANIZATION_METADATA, readOrganization, timeOf } from '../stripe/organizations.ts'
import { runExclusively, type Asker } from '../subscriptions/actions.ts'
import { checkPages, type Pages } from '../subscriptions/redirects.ts'
import { TAX_LOCATION_MISSING } from './stopping.ts'
import {
  findLastIntent,
  findPurchase,
  findSavedMethod,
  insertPurchase,
  NOT_CARRIED_OUT,
  reopen,
  setFailed,
  setPage,
  TOP_UP_METADATA,
  type PayWith,
  type Purchase,
} from './store.ts'

export type TopUpRequest = {
  readonly organizationId: string
  readonly topUpKey: string
  readonly quantity: number
  readonly idempotencyKey: string
  readonly payWith: PayWith
  readonly successUrl: string | undefined
  readonly cancelUrl: string | undefined
}

/**
 * Buys a package of the catalog. Paid with the saved method it is granted when this answers; else the answer has the page where it
 * is paid, and the webhook of the payment grants it. Under a key that was used before it answers that purchase.
 * @throws DomainError `invalid_request` for an unknown package, `idempotency_conflict`, `payment_failed`, and those of Stripe
 */
export async function buyTopUp(context: BillingContext, request: TopUpRequest, asker: Asker): Promise<Purchase> {
  requireGateway(context)
  const pages = checkPages(context.policy, request)
  return runExclusively(context, request.organizationId, async (session) => {
    const known = await findPurchase(session, request)
    if (known !== null) return unlessFailed(await resumePurchase(context, session, sameRequest(known, request), pages))
    const purchase = await storePurchase(context, session, { ...request, automatic: false }, asker)
    return beginPaying(context, session, purchase, pages)
  })
}

/** What failed is answered as it was the first time. */
function unlessFailed(purchase: Purchase): Purchase {
  if (purchase.status !== 'failed') return purchase
  const { failureCode } = purchase
  const code = failureCode === 'payment_method_missing' || failureCode === TAX_LOCATION_MISSING ? failureCode : 'payment_failed'
  throw new DomainError(code, 'The payment of this purchase failed; buy it again under another key.', { top_up_id: purchase.id })
}

function beginPaying(context: BillingContext, session: Session, purchase: Purchase, pages: Pages | null): Promise<Purchase> {
  return purchase.payWith === 'page' && pages !== null
    ? openPage(context, session, purchase, pages)
    : payPurchase(context, session, purchase, pages)
}

function sameRequest(known: Purchase, { topUpKey, quantity, payWith, idempotencyKey }: TopUpRequest): Purchase {
  const field =
    known.topUpKey !== topUpKey
      ? 'top_up'
      : known.quantity !== quantity
        ? 'quantity'
        : known.payWith !== null && known.payWith !== payWith
          ? 'pay_with'
          : null
  if (field === null) return known
  const sentence = `The key "${idempotencyKey}" was used before for another purchase: ${field} differs.`
  throw new DomainError('idempotency_conflict', sentence, { idempotency_key: idempotencyKey, field })
}

/** Stores what is going to be bought, at today's terms, before anything is asked of Stripe. */
export async function storePurchase(
  context: BillingContext,
  session: Session,
  request: Pick<TopUpRequest, 'organizationId' | 'topUpKey' | 'quantity' | 'idempotencyKey' | 'payWith'> & {
    readonly automatic: boolean
  },
  asker: Omit<Asker, 'requestId'> & { readonly requestId: string | null },
): Promise<Purchase> {
  const { organizationId, quantity, idempotencyKey, payWith, automatic } = request
  const topUp = await findUsableTopUp(context, session, request)
  const organization = await readOrganization(session, organizationId)
  const purchase: Purchase = {
    organizationId,
    id: newId('tup'),
    idempotencyKey,
    topUpKey: topUp.key,
    name: topUp.name,
    balanceKey: topUp.balanceKey,
    quantity,
    amount: topUp.amount * BigInt(quantity),
    priceMinor: topUp.priceMinor * quantity,
    currency: context.catalogs.current.catalog.currency,
    expiresAfterDays: topUp.expiresAfterDays,
    automatic,
    payWith,
    status: 'pending',
    failureCode: null,
    pageUrl: null,
    chargeId: null,
    paidMinor: null,
    refundedMinor: 0,
    disputed: false,
    takenBack: 0n,
    createdAt: timeOf(organization, context.clock),
    paidAt: null,
  }
  await session.transaction(async (tx) => {
    await insertPurchase(tx, purchase)
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'top_up.ordered',
      target: purchase.id,
      before: null,
      after: { top_up: topUp.key, quantity, price_minor: purchase.priceMinor, automatic },
      at: context.clock.now(),
    })
  })
  return purchase
}

/** The packages of the present catalog of which an organization can use what it buys: its terms may draw from other balances. */
export async function listUsableTopUps(
  { catalogs, clock, policy }: BillingContext,
  db: Queryable,
  organizationId: string,
): Promise<readonly TopUp[]> {
  const { version, catalog } = catalogs.current
  const accounts = await findAccounts(db, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version })
  const terms = await termsOfAccounts({ catalogs, clock, graceDays: policy.graceDays }, accounts, clock.now())
  const own = terms.get(organizationId)
  if (own === undefined) throw new DomainError('not_found', `There is no organization ${organizationId}.`)
  const drawn = drawnBalances(own)
  return [...catalog.topUps.values()].filter(({ balanceKey }) => drawn.has(balanceKey))
}

/** @throws DomainError `invalid_request` for a package that there is not, or that would be paid for nothing; `not_found` */
export async function findUsableTopUp(
  context: BillingContext,
  db: Queryable,
  { organizationId, topUpKey }: Pick<TopUpRequest, 'organizationId' | 'topUpKey'>,
): Promise<TopUp> {
  const topUp = context.catalogs.current.catalog.topUps.get(topUpKey)
  if (topUp === undefined) {
    throw new DomainError('invalid_request', `The catalog sells no package "${topUpKey}".`, { field: 'top_up' })
  }
  const usable = await listUsableTopUps(context, db, organizationId)
  if (usable.includes(topUp)) return topUp
  const sentence = `The package "${topUpKey}" adds to "${topUp.balanceKey}", from which nothing is drawn under the terms of this organization.`
  throw new DomainError('invalid_request', sentence, { field: 'top_up' })
}

/**
 * Pays a purchase with the saved method; where there is none, or the bank wants to ask the customer, opens a page if `pages` says
 * where it leads.
 * @throws DomainError `payment_failed` or `payment_method_missing`, and the purchase has failed; those of Stripe, and it is pending
 */
export async function payPurchase(
  context: BillingContext,
  session: Session,
  purchase: Purchase,
  pages: Pages | null,
): Promise<Purchase> {
  const { organizationId, id } = purchase
  const customerId = await ensureCustomer(context, session, organizationId)
  const paymentMethodId = await findSavedMethod(session, organizationId)
  if (paymentMethodId === null) {
    if (pages !== null) return openPage(context, session, purchase, pages)
    await setFailed(session, purchase, 'payment_method_missing')
    throw new DomainError('payment_method_missing', 'There is no payment method to charge; add one first.')
  }
  try {
    await performIntent(context, session, {
      organizationId,
      kind: 'create_payment',
      params: {
        customerId,
        paymentMethodId,
        ...(await amountOf(context, purchase, customerId)),
        currency: purchase.currency,
        description: describe(purchase),
        metadata: { [ORGANIZATION_METADATA]: organizationId, [TOP_UP_METADATA]: id },
      },
    })
  } catch (error) {
    if (!(error instanceof StripeCallError) || error.outcome !== 'refused') throw error
    // A page asks what is missing: the bank, or where the customer is taxed.
    const isAsked = error.details['requires_action'] === true || error.code === TAX_LOCATION_MISSING
    if (isAsked && pages !== null) return openPage(context, session, purchase, pages)
    await setFailed(session, purchase, error.code)
    throw error
  }
  return follow(context, session, purchase)
}

/** What is charged where no page works it out: the price, and the tax on it. */
async function amountOf(
  context: BillingContext,
  purchase: Purchase,
  customerId: string,
): Promise<{ readonly amountMinor: number; readonly taxCalculationId?: string }> {
  const { id, currency, priceMinor: amountMinor } = purchase
  if (!context.policy.automaticTax) return { amountMinor }
  const { reads } = requireGateway(context)
  const priceId = priceAtStripe(context, purchase)
  const tax = priceId === null ? null : await reads.retrieveItemTax(priceId)
  const { calculationId, totalMinor } = await reads.calculateTax({ customerId, currency, amountMinor, reference: id, tax })
  return { amountMinor: totalMinor, taxCalculationId: calculationId }
}

/** The price at Stripe that a variable names for a package; null where the catalog alone says what it costs. */
function priceAtStripe({ catalogs, variables }: BillingContext, { topUpKey }: Purchase): string | null {
  const variable = catalogs.current.catalog.topUps.get(topUpKey)?.priceVariable
  return (variable == null ? '' : (variables?.[variable] ?? '')) || null
}

/** The mirror follows, and with it the grant; answers the purchase as it then is. */
async function follow(context: BillingContext, session: Session, purchase: Purchase): Promise<Purchase> {
  await syncOrganization(context, session, purchase.organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
  return (await findPurchase(session, purchase)) ?? purchase
}

async function openPage(context: BillingContext, session: Session, purchase: Purchase, pages: Pages): Promise<Purchase> {
  const { organizationId, id, quantity, currency, priceMinor, name } = purchase
  const customerId = await ensureCustomer(context, session, organizationId)
  const { url } = await performIntent(context, session, {
    organizationId,
    kind: 'create_payment_page',
    params: {
      customerId,
      price: priceAtStripe(context, purchase) ?? { name, currency, unitAmountMinor: priceMinor / quantity },
      quantity,
      automaticTax: context.policy.automaticTax,
      ...pages,
      reference: organizationId,
      metadata: { [ORGANIZATION_METADATA]: organizationId, [TOP_UP_METADATA]: id },
    },
  })
  if (url === null) throw new DomainError('stripe_failed', 'Stripe opened a payment without a page.')
  await setPage(session, purchase, url)
  return { ...purchase, pageUrl: url }
}

/**
 * Goes on with a purchase that was left open: whether its payment or its page was asked for, and what came of it, is known by now (the
 * caller holds the lock, and what was pending has been settled). A payment that was asked for and not made is asked for again.
 * What was to be paid on a page is never charged to the saved method. `pages` null is for purchases that nobody attends.
 */
export async function resumePurchase(
  context: BillingContext,
  session: Session,
  purchase: Purchase,
  pages: Pages | null,
): Promise<Purchase> {
  if (purchase.status === 'failed' && purchase.failureCode === NOT_CARRIED_OUT) await reopen(session, purchase)
  else if (purchase.status !== 'pending') return purchase
  const intent = await findLastIntent(session, purchase)
  if (purchase.pageUrl === null && intent?.url != null) {
    // The page was opened, and nobody heard of it. Another one beside it could be paid as well.
    await setPage(session, purchase, intent.url)
    return follow(context, session, purchase)
  }
  if (intent?.state === 'succeeded' || purchase.pageUrl !== null) return follow(context, session, purchase)
  const isUnmade = intent === null || intent.kind === 'create_payment_page' || intent.state === 'abandoned'
  if (isUnmade) return beginPaying(context, session, purchase, pages)
  await setFailed(session, purchase, intent.errorCode ?? 'payment_failed')
  return (await findPurchase(session, purchase)) ?? purchase
}

function describe({ name, quantity }: Purchase): string {
  return quantity === 1 ? name : `${quantity} × ${name}`
}

import type { PriceInterval } from '../catalog/define.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { ORGANIZATION_METADATA } from '../stripe/organizations.ts'
import { runExclusively } from './actions.ts'
import { callOff } from './execute.ts'
import { closeOpenPages } from './open-pages.ts'
import type { BillingState, Offer } from './plan-change.ts'
import { checkPages, checkRedirect } from './redirects.ts'
import { computePlanChange, findOffer } from './rules.ts'
import { readBillingState } from './state.ts'

export type CheckoutRequest = {
  readonly organizationId: string
  readonly planKey: string | null
  readonly interval: PriceInterval | null
  readonly priceId: string | null
  readonly quantity: number
  readonly trialDays: number | null
  readonly byOperator: boolean
  readonly successUrl: string | undefined
  readonly cancelUrl: string | undefined
}

/**
 * Opens a hosted checkout for a plan (MR-1). The subscription comes into being when it is paid there; the webhooks tell.
 * @throws DomainError `unknown_plan`, `unknown_price`, `plan_not_offered`, `subscription_exists`, `invalid_request`
 */
export async function openCheckout(context: BillingContext, request: CheckoutRequest): Promise<{ id: string; url: string }> {
  const { policy } = context
  const { successUrl, cancelUrl } = checkPages(policy, request)
  return runExclusively(context, request.organizationId, async (session) => {
    const { organizationId, quantity } = request
    const state = await readBillingState(context, session, organizationId)
    const offer = findCheckoutOffer(state, request, policy.defaultPriceId)
    const trialDays = checkStart(context, state, request, offer)
    const customerId = await ensureCustomer(context, session, organizationId)
    if (state.subscription !== null) await callOff({ context, session, organizationId }, state.subscription)
    if (!(await closeOpenPages(context, session, organizationId))) {
      // One of them was paid, perhaps a moment ago: then there is a subscription that the mirror has not heard of yet.
      await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
      checkStart(context, await readBillingState(context, session, organizationId), request, offer)
    }
    const { id, url } = await performIntent(context, session, {
      organizationId,
      kind: 'create_checkout_session',
      params: {
        customerId,
        priceId: offer.priceId,
        quantity,
        usagePriceIds: offer.usagePriceIds,
        successUrl,
        cancelUrl,
        trialDays,
        allowPromotionCodes: true,
        automaticTax: policy.automaticTax,
        reference: organizationId,
        metadata: { [ORGANIZATION_METADATA]: organizationId },
      },
    })
    if (url === null) throw new DomainError('stripe_failed', 'Stripe opened a checkout without a page.')
    return { id, url }
  })
}

function findCheckoutOffer(state: BillingState, request: CheckoutRequest, defaultPriceId: string | null): Offer {
  if (request.planKey !== null) return findOffer(state, request.planKey, request.interval)
  const priceId = request.priceId ?? defaultPriceId
  if (priceId === null) {
    throw new DomainError('invalid_request', 'Name what to buy: plan (or tier), or price_id.', { field: 'plan' })
  }
  const offer = state.offers.find((each) => each.priceId === priceId)
  if (!offer) throw new DomainError('unknown_price', `No plan can be bought at the price "${priceId}".`, { price_id: priceId })
  return offer
}

/** The rules of a purchase are the same on the page as without it; only the payment method is asked for there. */
function checkStart(context: BillingContext, state: BillingState, request: CheckoutRequest, offer: Offer): number | null {
  const change = computePlanChange(
    state,
    {
      kind: 'subscribe',
      planKey: offer.planKey,
      interval: offer.interval,
      quantity: request.quantity,
      paymentMethodId: 'asked for on the page',
      trialDays: request.trialDays,
      byOperator: request.byOperator,
      discount: null,
    },
    context.policy,
    context.clock.now(),
  )
  return change.kind === 'start' ? change.trialDays : null
}

/** Opens the hosted billing portal (MR-2); answers its address. */
export async function openPortal(
  context: BillingContext,
  request: { organizationId: string; returnUrl: string | undefined },
): Promise<{ id: string; url: string }> {
  const { policy } = context
  const returnUrl = checkRedirect(policy, request.returnUrl, { field: 'return_url', fallback: policy.portalReturnUrl })
  return runExclusively(context, request.organizationId, async (session) => {
    const { organizationId } = request
    const customerId = await ensureCustomer(context, session, organizationId)
    const params = { customerId, returnUrl }
    const { id, url } = await performIntent(context, session, { organizationId, kind: 'create_portal_session', params })
    if (url === null) throw new DomainError('stripe_failed', 'Stripe opened a portal without a page.')
    return { id, url }
  })
}

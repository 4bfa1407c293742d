import { insertAuditEntry } from '../audit/store.ts'
import { planKeyOf } from '../catalog/tiers.ts'
import type { Queryable, Session } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import { derivedId, derivedOrganizationId, newId, newOrganizationId } from '../lib/ids.ts'
import { insertWithAccount, type OrganizationsContext } from '../organizations/actions.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { findParamsThatMade, performIntent, type FinishedIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { changePlanIn, runExclusively, type Asker } from '../subscriptions/actions.ts'
import { answerOnce, type KeyedCaller } from '../subscriptions/answer-once.ts'
import { readDiscount } from '../subscriptions/discounts.ts'
import type { CurrentSubscription, Discount, Offer } from '../subscriptions/plan-change.ts'
import { checkRedirect } from '../subscriptions/redirects.ts'
import { ENDED, readBillingState } from '../subscriptions/state.ts'
import { findAccountSubscription } from '../subscriptions/store.ts'
import { readChanged } from '../subscriptions/views.ts'
import { mayTake, nextStep, type OnboardingStep } from './rules.ts'
import {
  findNewestPaymentMethod,
  findSession,
  insertSession,
  updateSession,
  type OnboardingSession,
  type Progress,
} from './store.ts'
import { findOfferByPrice, makeCustomerIn } from './tenants.ts'

/** As it is sent. */
export type OnboardingStart = {
  readonly email: string
  readonly name: string
  readonly company_name: string
  readonly phone?: string | undefined
}

/**
 * Step 1: makes the tenant and the session, both or neither; once under a key of the caller's, from which the tenant's id follows.
 * @throws DomainError `idempotency_conflict`
 */
export async function startOnboarding(
  { db, clock }: Pick<BillingContext, 'db' | 'clock'>,
  organizations: OrganizationsContext,
  start: OnboardingStart,
  { asker, key }: Pick<KeyedCaller, 'asker' | 'key'>,
): Promise<Pick<OnboardingSession, 'id' | 'organizationId' | 'step'>> {
  const { tenantPrefix } = organizations
  const organizationId = key === null ? newOrganizationId(tenantPrefix) : derivedOrganizationId(tenantPrefix, key)
  const { email, name: contactName, company_name: companyName, phone = null } = start
  return db.transaction(async (tx) => {
    await insertWithAccount(tx, organizations, { id: organizationId, email, name: companyName, testClock: false }, asker)
    const request = { operation: 'onboarding/start', body: start }
    return answerOnce({ db: tx, clock }, { organizationId, asker, key }, request, async () => {
      const id = key === null ? newId<string>('onb') : derivedId('onb', organizationId)
      await insertSession(tx, { id, organizationId, companyName, contactName, email, phone }, clock.now())
      const { step } = await readSession(tx, id)
      return { id, organizationId, step }
    })
  })
}

/** Step 2: makes the customer at Stripe, or answers the one there is. */
export function onboardCustomer(
  context: BillingContext,
  sessionId: string,
): Promise<{ session: OnboardingSession; customerId: string }> {
  return takeStep(context, { sessionId, step: 'create_customer' }, async ({ session, lent }) => {
    const customerId = await makeCustomerIn(context, lent, session.organizationId)
    return { session: await advance(context, lent, session, 'create_customer', {}), customerId }
  })
}

/** Step 3: a setup intent that the browser confirms. Taken again, it makes another: the secret is not kept. */
export function onboardPayment(
  context: BillingContext,
  sessionId: string,
  returnUrl: string | undefined,
): Promise<{ session: OnboardingSession; clientSecret: string; setupIntentId: string }> {
  return takeStep(context, { sessionId, step: 'setup_payment' }, async ({ session, lent }) => {
    checkRedirect(context.policy, returnUrl, { field: 'return_url', fallback: context.policy.successUrl })
    const { organizationId } = session
    const customerId = await ensureCustomer(context, lent, organizationId)
    const params = { customerId, metadata: { tollgate_onboarding: sessionId } }
    const made = await performIntent(context, lent, { organizationId, kind: 'create_setup_intent', params })
    if (made.clientSecret === null) throw new DomainError('stripe_failed', 'Stripe made a setup intent without a secret.')
    const advanced = await advance(context, lent, session, 'setup_payment', { setupIntentId: made.id })
    return { session: advanced, clientSecret: made.clientSecret, setupIntentId: made.id }
  })
}

/** Step 4: the plan and its price, and a discount. May be chosen again until the subscription is made. */
export function onboardPlan(
  context: BillingContext,
  sessionId: string,
  choice: { planKey: string; priceId: string; discountCode: string | null },
): Promise<OnboardingSession> {
  return takeStep(context, { sessionId, step: 'select_plan' }, async ({ session, lent }) => {
    const offer = await findOfferByPrice(context, choice.priceId)
    if (offer.planKey !== planKeyOf(context.catalogs.current.catalog, choice.planKey)) {
      throw new DomainError('unknown_price', `The price "${choice.priceId}" does not sell the plan "${choice.planKey}".`, {
        field: 'price_id',
      })
    }
    const discount = choice.discountCode === null ? null : await readDiscount(lent, choice.discountCode, offer)
    return advance(context, lent, session, 'select_plan', {
      planKey: offer.planKey,
      priceId: offer.priceId,
      discountCode: discount?.code ?? null,
    })
  })
}

/**
 * Step 5: the subscription, with a trial; charged to the payment method that the browser has set up, where it has.
 * @throws DomainError `subscription_exists` when there is one that this session did not make
 */
export function onboardSubscription(context: BillingContext, sessionId: string, asker: Asker): Promise<OnboardingSession> {
  return takeStep(context, { sessionId, step: 'create_subscription' }, async ({ session, lent, finished }) => {
    const { organizationId, priceId, discountCode } = session
    const offer = await findOfferByPrice(context, priceId ?? '')
    const discount = discountCode === null ? null : await readDiscount(lent, discountCode, offer)
    const { subscription } = await readBillingState(context, lent, organizationId)
    // Taken again, also after a crash that kept the answer from being written: what was chosen stands, or waits for the bank.
    const isMade = subscription !== null && (await isWhatWasChosen(lent, { organizationId, subscription, offer, discount }))
    if (!isMade) {
      await takeNewestMethod(context, lent, organizationId)
      const request = {
        kind: 'subscribe',
        planKey: offer.planKey,
        interval: offer.interval,
        quantity: 1,
        paymentMethodId: null,
        trialDays: null,
        byOperator: true,
        discount,
      } as const
      await changePlanIn(context, lent, { organizationId, request, prorationAt: null }, asker, finished)
    }
    const found = await findAccountSubscription(lent, organizationId)
    return advance(context, lent, session, 'create_subscription', { subscriptionId: found?.subscriptionId ?? null })
  })
}

type Chosen = {
  readonly organizationId: string
  readonly subscription: CurrentSubscription
  readonly offer: Offer
  readonly discount: Discount | null
}

/** Whether a subscription was made by us with the price and the discount of a choice. */
async function isWhatWasChosen(db: Queryable, { organizationId, subscription, offer, discount }: Chosen): Promise<boolean> {
  const params = await findParamsThatMade(db, { organizationId, kind: 'create_subscription', resultId: subscription.id })
  if (params === null || subscription.priceId !== offer.priceId) return false
  const couponIds = params.discounts.flatMap((each) => ('couponId' in each ? [each.couponId] : []))
  return couponIds.join() === (discount === null ? '' : discount.couponId)
}

/**
 * Step 6: the end, once. Taken again, it answers the same.
 * @throws DomainError `conflict` while the bank still asks the customer about the first payment, and where the subscription has ended
 */
export function completeOnboarding(context: BillingContext, sessionId: string, asker: Asker): Promise<OnboardingSession> {
  return takeStep(context, { sessionId, step: 'complete' }, async ({ session, lent }) => {
    const { organizationId, subscriptionId } = session
    if (session.step === 'completed') return session
    const { status, requires_action: waits, payment_url: url } = await readChanged(context, lent, organizationId)
    if (ENDED.has(status)) {
      const sentence =
        'The subscription has ended: its first payment was not made in time, or it was cancelled. Take step 5 again.'
      throw new DomainError('conflict', sentence, { next_step: 'create_subscription' satisfies OnboardingStep })
    }
    if (waits) {
      throw new DomainError('conflict', 'The first payment waits for the customer.', { next_step: 'complete', payment_url: url })
    }
    return lent.transaction(async (tx) => {
      const now = context.clock.now()
      await insertAuditEntry(tx, {
        organizationId,
        ...asker,
        action: 'onboarding.completed',
        target: sessionId,
        before: null,
        after: { subscription_id: subscriptionId },
        at: now,
      })
      return advance(context, tx, session, 'complete', { completedAt: now })
    })
  })
}

/** A payment method that was set up in the browser is attached, but not yet the one that is charged. */
async function takeNewestMethod(context: BillingContext, session: Session, organizationId: string): Promise<void> {
  const follow = { scope: RECENT_SCOPE, priority: 'interactive' } as const
  const { paymentMethodId } = await syncOrganization(context, session, organizationId, follow)
  if (paymentMethodId !== null) return
  const newest = await findNewestPaymentMethod(session, organizationId)
  const { customerId } = await readOrganization(session, organizationId)
  if (newest === null || customerId === null) return
  const params = { customerId, defaultPaymentMethodId: newest }
  await performIntent(context, session, { organizationId, kind: 'update_customer', params })
  // The purchase asks the mirror whether there is something to charge.
  await syncOrganization(context, session, organizationId, follow)
}

async function readSession(db: Queryable, sessionId: string): Promise<OnboardingSession> {
  const session = await findSession(db, sessionId)
  if (session === null) throw new DomainError('not_found', 'There is no such onboarding session.')
  return session
}

type Taking = { readonly session: OnboardingSession; readonly lent: Session; readonly finished: readonly FinishedIntent[] }

/**
 * Takes a step under the organization's lock, so that of two at once the later one sees what the earlier one did.
 * @throws DomainError `not_found`; `conflict` that names the step that is due
 */
async function takeStep<Result>(
  context: BillingContext,
  { sessionId, step }: { readonly sessionId: string; readonly step: OnboardingStep },
  work: (taking: Taking) => Promise<Result>,
): Promise<Result> {
  const { organizationId } = await readSession(context.db, sessionId)
  return runExclusively(context, organizationId, async (lent, finished) => {
    const session = await readSession(lent, sessionId)
    if (!mayTake(step, session.step)) {
      const words = session.step === 'completed' ? 'the onboarding is completed' : `"${session.step}" is`
      throw new DomainError('conflict', `The step "${step}" is not the one that is due: ${words}.`, { next_step: session.step })
    }
    return work({ session, lent, finished })
  })
}

/** Writes what a step made, and which one is due now. */
async function advance(
  context: BillingContext,
  db: Queryable,
  session: OnboardingSession,
  step: OnboardingStep,
  progress: Progress,
): Promise<OnboardingSession> {
  await updateSession(db, { id: session.id, step: nextStep(step), ...progress }, context.clock.now())
  return readSession(db, session.id)
}

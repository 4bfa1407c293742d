import { insertAuditEntry } from '../audit/store.ts'
import { planKeyOf } from '../catalog/tiers.ts'
import type { Queryable, Session } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, newOrganizationId } from '../lib/ids.ts'
import { createOrganization, type OrganizationsContext } from '../organizations/actions.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/customers.ts'
import { RECENT_SCOPE } from '../stripe/fetch.ts'
import { performIntent } from '../stripe/intents.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { syncOrganization } from '../stripe/sync.ts'
import { changePlan, runExclusively, type Asker } from '../subscriptions/actions.ts'
import { readDiscount } from '../subscriptions/discounts.ts'
import { mayTake, nextStep, type OnboardingStep } from './rules.ts'
import { checkRedirect } from '../subscriptions/redirects.ts'
import {
  findNewestPaymentMethod,
  findSession,
  insertSession,
  lockSession,
  updateSession,
  type OnboardingSession,
  type Progress,
} from './store.ts'
import { findOfferByPrice, makeCustomer } from './tenants.ts'
import { readBillingState } from '../subscriptions/state.ts'
import { findAccountSubscription } from '../subscriptions/store.ts'
import { readChanged } from '../subscriptions/views.ts'

export type OnboardingStart = {
  readonly email: string
  readonly name: string
  readonly companyName: string
  readonly phone: string | null
}

/** Step 1: makes the tenant and the session. */
export async function startOnboarding(
  context: BillingContext,
  organizations: OrganizationsContext,
  start: OnboardingStart,
  asker: Asker,
): Promise<OnboardingSession> {
  const id = newOrganizationId(organizations.tenantPrefix)
  const { email, companyName } = start
  const { organization } = await createOrganization(organizations, { id, email, name: companyName, testClock: false }, asker)
  const sessionId = newId('onb')
  const now = context.clock.now()
  const { name: contactName, phone } = start
  await insertSession(context.db, { id: sessionId, organizationId: organization.id, companyName, contactName, email, phone }, now)
  return readSession(context.db, sessionId)
}

/** Step 2: makes the customer at Stripe, or answers the one there is. */
export async function onboardCustomer(
  context: BillingContext,
  sessionId: string,
): Promise<{ session: OnboardingSession; customerId: string }> {
  const session = await requireStep(context.db, sessionId, 'create_customer')
  const customerId = await makeCustomer(context, session.organizationId)
  return { session: await advance(context, session, 'create_customer', {}), customerId }
}

/** Step 3: a setup intent that the browser confirms. Taken again, it makes another: the secret is not kept. */
export async function onboardPayment(
  context: BillingContext,
  sessionId: string,
  returnUrl: string | undefined,
): Promise<{ session: OnboardingSession; clientSecret: string; setupIntentId: string }> {
  const session = await requireStep(context.db, sessionId, 'setup_payment')
  checkRedirect(context.policy, returnUrl, { field: 'return_url', fallback: context.policy.successUrl })
  const { organizationId } = session
  const made = await runExclusively(context, organizationId, async (lent) => {
    const customerId = await ensureCustomer(context, lent, organizationId)
    const params = { customerId, metadata: { tollgate_onboarding: sessionId } }
    return performIntent(context, lent, { organizationId, kind: 'create_setup_intent', params })
  })
  if (made.clientSecret === null) throw new DomainError('stripe_failed', 'Stripe made a setup intent without a secret.')
  const advanced = await advance(context, session, 'setup_payment', { setupIntentId: made.id })
  return { session: advanced, clientSecret: made.clientSecret, setupIntentId: made.id }
}

/** Step 4: the plan and its price, and a discount. May be chosen again until the subscription is made. */
export async function onboardPlan(
  context: BillingContext,
  sessionId: string,
  choice: { planKey: string; priceId: string; discountCode: string | null },
): Promise<OnboardingSession> {
  const session = await requireStep(context.db, sessionId, 'select_plan')
  const offer = await findOfferByPrice(context, choice.priceId)
  if (offer.planKey !== planKeyOf(context.catalogs.current.catalog, choice.planKey)) {
    throw new DomainError('unknown_price', `The price "${choice.priceId}" does not sell the plan "${choice.planKey}".`, {
      field: 'price_id',
    })
  }
  const discount = choice.discountCode === null ? null : await readDiscount(context.db, choice.discountCode)
  return advance(context, session, 'select_plan', {
    planKey: offer.planKey,
    priceId: offer.priceId,
    discountCode: discount?.code ?? null,
  })
}

/** Step 5: the subscription, with a trial; charged to the payment method that the browser has set up, where it has. */
export async function onboardSubscription(context: BillingContext, sessionId: string, asker: Asker): Promise<OnboardingSession> {
  const session = await requireStep(context.db, sessionId, 'create_subscription')
  const { organizationId, priceId, discountCode } = session
  const { subscription } = await readBillingState(context, context.db, organizationId)
  // Taken again: the subscription that it made stands, or waits for the bank.
  if (session.step === 'complete' && subscription?.id === session.subscriptionId) return session
  const offer = await findOfferByPrice(context, priceId ?? '')
  await runExclusively(context, organizationId, (lent) => takeNewestMethod(context, lent, organizationId))
  const request = {
    kind: 'subscribe' as const,
    planKey: offer.planKey,
    interval: offer.interval,
    quantity: 1,
    paymentMethodId: null,
    trialDays: null,
    byOperator: true,
    discount: discountCode === null ? null : await readDiscount(context.db, discountCode),
  }
  try {
    await changePlan(context, { organizationId, request, prorationAt: null }, asker)
  } catch (error) {
    // Made by an earlier try whose answer was lost: the step is done.
    if (!(error instanceof DomainError) || error.code !== 'subscription_exists') throw error
  }
  const found = await findAccountSubscription(context.db, organizationId)
  // What was bought, whatever was chosen while it was being bought.
  const bought = found === null ? {} : { planKey: found.planKey, priceId: found.priceId, subscriptionId: found.subscriptionId }
  return advance(context, session, 'create_subscription', { ...bought, discountCode })
}

/**
 * Step 6: the end, once. Taken again, it answers the same.
 * @throws DomainError `conflict` while the bank still asks the customer about the first payment
 */
export async function completeOnboarding(context: BillingContext, sessionId: string, asker: Asker): Promise<OnboardingSession> {
  const session = await requireStep(context.db, sessionId, 'complete')
  if (session.step === 'completed') return session
  const changed = await readChanged(context, context.db, session.organizationId)
  if (changed.requires_action) {
    const { payment_url } = changed
    throw new DomainError('conflict', 'The first payment waits for the customer.', { next_step: 'complete', payment_url })
  }
  const now = context.clock.now()
  return context.db.transaction(async (tx) => {
    const before = await readSession(tx, sessionId, { lock: true })
    if (before.step === 'completed') return before
    await updateSession(tx, { id: sessionId, taken: 'complete', due: 'completed', completedAt: now }, now)
    await insertAuditEntry(tx, {
      organizationId: session.organizationId,
      ...asker,
      action: 'onboarding.completed',
      target: sessionId,
      before: null,
      after: { subscription_id: session.subscriptionId },
      at: now,
    })
    return readSession(tx, sessionId)
  })
}

/** A payment method that was set up in the browser is attached, but not yet the one that is charged. */
async function takeNewestMethod(context: BillingContext, session: Session, organizationId: string): Promise<void> {
  const { paymentMethodId } = await syncOrganization(context, session, organizationId, {
    scope: RECENT_SCOPE,
    priority: 'interactive',
  })
  if (paymentMethodId !== null) return
  const newest = await findNewestPaymentMethod(session, organizationId)
  const { customerId } = await readOrganization(session, organizationId)
  if (newest === null || customerId === null) return
  const params = { customerId, defaultPaymentMethodId: newest }
  await performIntent(context, session, { organizationId, kind: 'update_customer', params })
}

async function readSession(db: Queryable, sessionId: string, { lock = false } = {}): Promise<OnboardingSession> {
  const session = lock ? await lockSession(db, sessionId) : await findSession(db, sessionId)
  if (session === null) throw new DomainError('not_found', 'There is no such onboarding session.')
  return session
}

/** @throws DomainError `conflict` that names the step that is due */
async function requireStep(db: Queryable, sessionId: string, step: OnboardingStep): Promise<OnboardingSession> {
  const session = await readSession(db, sessionId)
  if (!mayTake(step, session.step)) throw outOfOrder(step, session.step)
  return session
}

function outOfOrder(step: OnboardingStep, due: OnboardingStep): DomainError {
  const words = due === 'completed' ? 'the onboarding is completed' : `"${due}" is`
  return new DomainError('conflict', `The step "${step}" is not the one that is due: ${words}.`, { next_step: due })
}

/** Writes what a step made, and which one is due now. @throws DomainError `conflict` when another request has gone further meanwhile */
async function advance(
  context: BillingContext,
  session: OnboardingSession,
  step: OnboardingStep,
  progress: Progress,
): Promise<OnboardingSession> {
  const written = { id: session.id, taken: step, due: nextStep(step), ...progress }
  const isWritten = await updateSession(context.db, written, context.clock.now())
  const after = await readSession(context.db, session.id)
  if (!isWritten) throw outOfOrder(step, after.step)
  return after
}

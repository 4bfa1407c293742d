import type { PriceInterval } from '../catalog/define.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS } from '../lib/period.ts'
import { stoppedAfterTrial } from '../standing/rules.ts'
import type {
  BillingState,
  CurrentSubscription,
  Discount,
  Offer,
  PlanChange,
  PlanChangePolicy,
  PlanChangeRequest,
  SwitchDirection,
  Terms,
} from './plan-change.ts'

/**
 * Works out what a request means for an organization. Pure: the preview shows it, the execution carries it out.
 * @throws DomainError `unknown_plan`, `plan_not_offered`, `subscription_exists`, `subscription_missing`,
 * `payment_method_missing`, `payment_failed`, `conflict`
 */
export function computePlanChange(
  state: BillingState,
  request: PlanChangeRequest,
  policy: PlanChangePolicy,
  now: Instant,
): PlanChange {
  switch (request.kind) {
    case 'subscribe':
      return computeStart(state, request, policy)
    case 'switch':
      return computeSwitch(state, request, policy, now)
    case 'reprice':
      return computeReprice(state, request, now)
    case 'cancel':
      return computeCancel(state, request.immediate, now)
    case 'undo_cancel':
      return computeUndoCancel(requireSubscription(state))
    case 'undo_switch':
      return computeUndoSwitch(requireSubscription(state))
    case 'pause':
      return computePause(requireSubscription(state))
    case 'resume':
      return computeResume(requireSubscription(state), now)
  }
}

/**
 * The price at which a plan is bought.
 * @throws DomainError `unknown_plan`, `plan_not_offered`
 */
export function findOffer(
  state: BillingState,
  planKey: string,
  interval: PriceInterval | null,
  prefer: PriceInterval = 'monthly',
): Offer {
  const offers = state.offers.filter((offer) => offer.planKey === planKey)
  const wanted = interval ?? prefer
  const offer = offers.find((each) => each.interval === wanted) ?? (interval === null ? offers[0] : undefined)
  if (offer) return offer
  if (!state.planKeys.has(planKey)) throw new DomainError('unknown_plan', `There is no plan "${planKey}".`, { plan: planKey })
  const how = interval === null || offers.length === 0 ? '' : ` ${interval}`
  throw new DomainError('plan_not_offered', `The plan "${planKey}" cannot be bought${how}.`, { plan: planKey })
}

type SubscribeRequest = Extract<PlanChangeRequest, { kind: 'subscribe' }>

function computeStart(state: BillingState, request: SubscribeRequest, policy: PlanChangePolicy): PlanChange {
  const offer = findOffer(state, request.planKey, request.interval)
  const { subscription } = state
  if (subscription?.status === 'paused' && !makesRoom(subscription)) {
    // What was paid of it stays paid: a second one beside it, or in its place, is nobody's wish.
    throw new DomainError('subscription_exists', 'The subscription is paused: resume it with /resume, or cancel it first.', {
      subscription_id: subscription.id,
      tier: subscription.planKey,
    })
  }
  if (subscription !== null && !makesRoom(subscription)) {
    throw new DomainError('subscription_exists', 'There is a subscription already; change it with /upgrade or /downgrade.', {
      subscription_id: subscription.id,
      tier: subscription.planKey,
    })
  }
  if (state.debt !== null && !request.byOperator) {
    const { invoiceId, paymentUrl } = state.debt
    throw new DomainError('payment_failed', 'An invoice of an earlier subscription is still open: pay it first.', {
      invoice_id: invoiceId,
      payment_url: paymentUrl,
    })
  }
  const trialDays = trialFor(state, request, policy)
  if (trialDays === null && request.paymentMethodId === null && !state.hasPaymentMethod) {
    throw new DomainError('payment_method_missing', 'There is no payment method to charge; name one, or use /checkout.')
  }
  return {
    kind: 'start',
    offer,
    quantity: request.quantity,
    trialDays,
    paymentMethodId: request.paymentMethodId,
    discount: request.discount,
    replaces: subscription,
  }
}

/** What nothing was ever paid for gives way to a purchase. */
function makesRoom(subscription: CurrentSubscription): boolean {
  const { status } = subscription
  return status === 'incomplete' || (status === 'paused' && stoppedAfterTrial(subscription))
}

/** EM-9: no payment method is needed for a trial; each organization has one, unless an operator gives another. */
function trialFor(state: BillingState, request: SubscribeRequest, policy: PlanChangePolicy): number | null {
  const { trialDays, byOperator, paymentMethodId } = request
  if (trialDays === null) {
    const first = paymentMethodId === null && !state.hadSubscription && !state.hadTrial
    return first && policy.trialDays > 0 ? policy.trialDays : null
  }
  if (trialDays === 0) return null
  if (byOperator) return trialDays
  if (state.hadTrial) throw new DomainError('conflict', 'The trial has been used already.', { field: 'trial_period_days' })
  if (trialDays > policy.trialDays) {
    throw new DomainError('invalid_request', `A trial lasts ${policy.trialDays} days at most.`, { field: 'trial_period_days' })
  }
  return trialDays
}

type SwitchRequest = Extract<PlanChangeRequest, { kind: 'switch' }>

function computeSwitch(state: BillingState, request: SwitchRequest, policy: PlanChangePolicy, now: Instant): PlanChange {
  const subscription = requireSubscription(state)
  if (subscription.status === 'incomplete') {
    throw new DomainError('conflict', 'The first payment of the subscription is still open; pay it or subscribe again.')
  }
  if (subscription.status === 'paused') {
    // Nothing is invoiced while it is paused: a larger plan would come with what was paid for the smaller.
    throw new DomainError('conflict', 'The subscription is paused; resume it first.')
  }
  const isOwn = request.planKey === subscription.planKey && (request.interval ?? subscription.interval) === subscription.interval
  if (!isOwn && request.planKey === state.defaultPlanKey && !state.offers.some(({ planKey }) => planKey === request.planKey)) {
    // Down to what costs nothing is a cancellation.
    return computeCancel(state, request.at === 'now', now)
  }
  const offer = isOwn ? ownOffer(subscription) : otherOffer(state, request, subscription)
  const from: Terms = { planKey: subscription.planKey, interval: subscription.interval, quantity: subscription.quantity }
  const to: Terms = { planKey: offer.planKey, interval: offer.interval, quantity: request.quantity ?? subscription.quantity }
  if (from.planKey === to.planKey && from.interval === to.interval && from.quantity === to.quantity) {
    return { kind: 'none', reason: `The plan is "${to.planKey}" already.` }
  }
  const direction = directionOf(subscription, offer, to)
  const undoesCancel = subscription.cancelAt !== null
  const smaller = direction === 'downgrade' || (direction === 'interval' && to.interval === 'monthly')
  const when = request.at ?? (smaller ? policy.downgradeAt : 'now')
  const { scheduleId } = subscription
  if (when === 'period_end' && hasPeriodToRunOut(subscription, now)) {
    const later = { offer: laterPrice(state, subscription, offer), at: subscription.currentPeriodEnd }
    return { kind: 'switch_at_period_end', subscription, direction, from, to, ...later, undoesCancel, scheduleId }
  }
  // Stripe invoices another interval at once, whatever it is told: what is not paid must not take place.
  const invoiceNow = direction === 'upgrade' || from.interval !== to.interval
  return {
    kind: 'switch_now',
    subscription,
    direction,
    from,
    to,
    offer,
    invoiceNow,
    undoesCancel,
    releasesScheduleId: scheduleId,
  }
}

/** More or fewer of what somebody has costs what they pay for it, whatever it is sold for today, and whether it is sold at all. */
function ownOffer({ planKey, interval, priceId, amountMinor, currency, usageItems }: CurrentSubscription): Offer {
  const usagePriceIds = usageItems.map((item) => item.priceId)
  return { planKey, interval, priceId, amountMinor, currency, soldSince: null, usagePriceIds, addOnPriceIds: {} }
}

function otherOffer(state: BillingState, { planKey, interval }: SwitchRequest, subscription: CurrentSubscription): Offer {
  const offer = findOffer(state, planKey, interval, subscription.interval)
  if (offer.currency === subscription.currency) return offer
  const sentence = `The plan "${planKey}" is sold in ${offer.currency}, and the subscription is paid in ${subscription.currency}, which Stripe cannot change: cancel it, and subscribe anew.`
  throw new DomainError('plan_not_offered', sentence, { plan: planKey })
}

/** The plan at another price is what an operator has scheduled: other seats come at that price, and put it off for nobody. */
function laterPrice(
  { scheduledOffer: scheduled }: BillingState,
  { planKey, interval }: CurrentSubscription,
  offer: Offer,
): Offer {
  const isOfPlan = (each: Offer | null) => each?.planKey === planKey && each.interval === interval
  return scheduled !== null && isOfPlan(scheduled) && isOfPlan(offer) ? scheduled : offer
}

/** A trial has nothing to run out first: nothing is paid yet. */
function hasPeriodToRunOut({ status, currentPeriodEnd }: CurrentSubscription, now: Instant): boolean {
  return status !== 'trialing' && currentPeriodEnd > now
}

/** Nobody asked the customer: nothing is charged in the moment, a wish to leave stands, and a scheduled change goes first. */
function computeReprice(
  state: BillingState,
  { at: when, priceId, amountMinor, usagePriceIds }: Extract<PlanChangeRequest, { kind: 'reprice' }>,
  now: Instant,
): PlanChange {
  const subscription = requireSubscription(state)
  const { planKey, interval, quantity, scheduleId } = subscription
  const offer = { ...ownOffer(subscription), priceId, amountMinor, usagePriceIds }
  if (hasPricesOf(subscription, offer)) return { kind: 'none', reason: 'The prices are these already.' }
  // A schedule whose last phase has begun stays for one more period, and changes nothing any more.
  if (subscription.scheduledAt !== null) throw new DomainError('conflict', 'Another change of the plan is scheduled.')
  if (subscription.cancelAt !== null) throw new DomainError('conflict', 'The subscription is cancelled and ends.')
  if (!['active', 'trialing', 'past_due'].includes(subscription.status)) {
    throw new DomainError('conflict', `A subscription that is ${subscription.status} cannot be moved to another price.`)
  }
  const terms: Terms = { planKey, interval, quantity }
  const direction = directionOf(subscription, offer, terms)
  const change = { subscription, direction, from: terms, to: terms, offer, undoesCancel: false } as const
  return when === 'period_end' && hasPeriodToRunOut(subscription, now)
    ? { kind: 'switch_at_period_end', ...change, at: subscription.currentPeriodEnd, scheduleId }
    : { kind: 'switch_now', ...change, invoiceNow: false, releasesScheduleId: scheduleId }
}

/** Whether a subscription is paid at a price, and its use at those that go with it. */
export function hasPricesOf(
  { priceId, usageItems }: Pick<CurrentSubscription, 'priceId' | 'usageItems'>,
  wanted: Pick<Offer, 'priceId' | 'usagePriceIds'>,
): boolean {
  const own = new Set(usageItems.map((item) => item.priceId))
  return priceId === wanted.priceId && own.size === wanted.usagePriceIds.length && wanted.usagePriceIds.every((id) => own.has(id))
}

/**
 * Which way a switch goes. Another interval of the same plan is its own kind: a year costs less per day than twelve months, and
 * going from one to the other is neither up nor down (a known fault elsewhere).
 */
function directionOf(subscription: CurrentSubscription, offer: Offer, to: Terms): SwitchDirection {
  if (subscription.planKey === offer.planKey && subscription.interval !== offer.interval) return 'interval'
  const before = yearlyAmount(subscription.interval, subscription.amountMinor * subscription.quantity)
  const after = yearlyAmount(offer.interval, offer.amountMinor * to.quantity)
  return after >= before ? 'upgrade' : 'downgrade'
}

function yearlyAmount(interval: PriceInterval, amountMinor: number): number {
  return interval === 'monthly' ? amountMinor * 12 : amountMinor
}

function computeCancel(state: BillingState, immediate: boolean, now: Instant): PlanChange {
  const subscription = requireSubscription(state)
  const { otherSubscriptionIds } = state
  // What was never paid has no period that could run out, and that of a long pause has.
  const isOver = subscription.status === 'paused' && !keepsPeriod(subscription, now)
  if (immediate || subscription.status === 'incomplete' || isOver) {
    return { kind: 'cancel_now', subscription, otherSubscriptionIds }
  }
  if (subscription.cancelAt !== null) return { kind: 'none', reason: 'The subscription is cancelled already.' }
  return { kind: 'cancel_at_period_end', subscription, otherSubscriptionIds, at: subscription.currentPeriodEnd }
}

function computeUndoCancel(subscription: CurrentSubscription): PlanChange {
  return subscription.cancelAt === null
    ? { kind: 'none', reason: 'No cancellation is scheduled.' }
    : { kind: 'undo_cancel', subscription }
}

function computeUndoSwitch(subscription: CurrentSubscription): PlanChange {
  const { scheduleId, scheduledAt, scheduled, planKey, interval, quantity } = subscription
  if (scheduleId === null || scheduledAt === null) return { kind: 'none', reason: 'No change of plan is scheduled.' }
  // Customers keep their price: the same terms at another one are an operator's migration.
  const isRepriced = scheduled?.planKey === planKey && scheduled.interval === interval && scheduled.quantity === quantity
  if (isRepriced) throw new DomainError('conflict', 'What is scheduled is the plan’s new price, which cannot be taken back.')
  return { kind: 'undo_switch', subscription, scheduleId }
}

function computePause(subscription: CurrentSubscription): PlanChange {
  if (subscription.status === 'paused') return { kind: 'none', reason: 'The subscription is paused already.' }
  if (subscription.status !== 'active') {
    const first = subscription.status === 'past_due' ? ' Pay what is open first.' : ''
    throw new DomainError('conflict', `A subscription that is ${subscription.status} cannot be paused.${first}`)
  }
  return { kind: 'pause', subscription }
}

function computeResume(subscription: CurrentSubscription, now: Instant): PlanChange {
  return subscription.status === 'paused'
    ? { kind: 'resume', subscription, keepsPeriod: keepsPeriod(subscription, now) }
    : { kind: 'none', reason: 'The subscription is not paused.' }
}

/** Whether what was paid of a paused subscription still runs. */
function keepsPeriod({ resumedUnpaid, currentPeriodEnd }: CurrentSubscription, now: Instant): boolean {
  return !resumedUnpaid && now < currentPeriodEnd
}

/** @throws DomainError `subscription_missing` */
export function requireSubscription({ subscription }: BillingState): CurrentSubscription {
  if (subscription === null) {
    throw new DomainError('subscription_missing', 'There is no subscription; start one with /subscribe or /checkout.')
  }
  return subscription
}

/** When a trial that begins now ends. */
export function trialEndOf(now: Instant, trialDays: number): Instant {
  return new Date(now.getTime() + trialDays * DAY_MS)
}

/** An amount less a discount; never below nothing. */
export function discounted(amountMinor: number, discount: Discount | null): number {
  if (discount === null) return amountMinor
  const off =
    discount.basisPointsOff === null
      ? (discount.amountOffMinor ?? 0)
      : Math.round((amountMinor * discount.basisPointsOff) / 10_000)
  return Math.max(0, amountMinor - off)
}

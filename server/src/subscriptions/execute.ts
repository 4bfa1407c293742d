import { DomainError } from '../lib/errors.ts'
import { HOUR_MS } from '../lib/period.ts'
import { reportNow } from '../pricing/actions.ts'
import { chargeLateUse } from '../pricing/late-charges.ts'
import type { MutationKind, MutationResult, StripeMutations } from '../stripe/gateway/mutations.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import type { FollowUp, IntentAudit } from '../stripe/intents/intent.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { ORGANIZATION_METADATA } from '../stripe/organizations.ts'
import { newItems, switchedItems } from './items.ts'
import { closeOpenPages } from './open-pages.ts'
import { readPendingItems, restorePendingItems } from './pending-items.ts'
import type { CurrentSubscription, PlanChange } from './plan-change.ts'
import { pause } from './released.ts'
import { endBesideSchedule, hasMoreAhead, release, releaseIfThere, switchAtPeriodEnd } from './schedules.ts'
import { follow, isRefused, perform, undoingCancel, update, wantsAuthentication, type Acting, type Execution } from './steps.ts'
import { findScheduleId, listLiveSubscriptionIds } from './store.ts'
import { releaseSuperseded } from './superseded.ts'

/** The step that a change is: what else is done at Stripe prepares it, or tidies up behind it. */
export function decisiveStep(change: Change): MutationKind {
  if (change.kind === 'cancel_now' && endsByVoiding(change.subscription)) return 'void_invoice'
  if (change.kind === 'resume' && change.subscription.waitingInvoiceId !== null) return 'pay_invoice'
  if (change.kind === 'cancel_at_period_end' && hasMoreAhead(change.subscription)) return 'schedule_end'
  return DECISIVE_STEP[change.kind]
}

const DECISIVE_STEP = {
  start: 'create_subscription',
  switch_now: 'update_subscription',
  switch_at_period_end: 'schedule_switch',
  cancel_now: 'cancel_subscription',
  cancel_at_period_end: 'update_subscription',
  undo_cancel: 'update_subscription',
  undo_switch: 'release_schedule',
  pause: 'pause_subscription',
  resume: 'resume_subscription',
} as const satisfies Record<Exclude<PlanChange['kind'], 'none'>, MutationKind>

type Change = Exclude<PlanChange, { kind: 'none' }>

/**
 * Carries a plan change out at Stripe, step by step, each step an intent. The mirror follows by the refetch after it.
 * The caller holds the organization's lock.
 * @throws DomainError `payment_failed` (then nothing has changed), `conflict`, and those of Stripe
 */
export async function executePlanChange(execution: Execution, change: Change): Promise<void> {
  const { context, session, organizationId } = execution
  if (endsUse(change)) await reportNow(context, organizationId)
  // Its last invoice takes along what was told late; there is none after it.
  if (change.kind === 'cancel_now') await chargeLateUse(context, session, organizationId, { isEnding: true })
  if ('subscription' in change && change.kind !== 'resume') await callOff(execution, change.subscription)
  await carryOut(execution, change)
}

/**
 * Voids the invoice that an earlier change waits for, and with it that change: paid after this one, it would take its place.
 * @throws DomainError `conflict` when it was paid in this moment
 */
export async function callOff(execution: Acting, { waitingInvoiceId }: CurrentSubscription): Promise<void> {
  if (waitingInvoiceId === null) return
  try {
    await perform(execution, 'void_invoice', { invoiceId: waitingInvoiceId })
  } catch (error) {
    if (!isRefused(error)) throw error
    await refuseSettled(execution)
  }
  await restorePendingItems(execution)
}

async function refuseSettled(execution: Acting): Promise<never> {
  await follow(execution)
  throw new DomainError('conflict', 'The change before this one was settled just now: look at the plan, and ask again.')
}

/** Whether metered prices go in this moment: what was used is at Stripe before that, since it bills it then. */
function endsUse(change: Change): boolean {
  const isNow = change.kind === 'switch_now' || change.kind === 'cancel_now' || change.kind === 'pause'
  return isNow && change.subscription.usageItems.length > 0
}

async function carryOut(execution: Execution, change: Change): Promise<unknown> {
  switch (change.kind) {
    case 'start':
      return start(execution, change)
    case 'switch_now':
      return switchNow(execution, change)
    case 'switch_at_period_end':
      return switchAtPeriodEnd(execution, change)
    case 'cancel_now':
      return cancelNow(execution, change)
    case 'cancel_at_period_end':
      return leave(execution, change)
    case 'undo_cancel':
      await release(execution, change.subscription.scheduleId)
      return update(execution, undoingCancel(change.subscription))
    case 'undo_switch':
      return perform(execution, 'release_schedule', { scheduleId: change.scheduleId })
    case 'pause':
      return pause(execution, change.subscription)
    case 'resume':
      return resume(execution, change)
  }
}

type CancelAtPeriodEnd = Extract<PlanChange, { kind: 'cancel_at_period_end' }>

async function leave(execution: Execution, { subscription, otherSubscriptionIds }: CancelAtPeriodEnd): Promise<void> {
  if (hasMoreAhead(subscription)) await endBesideSchedule(execution, subscription)
  else {
    await release(execution, subscription.scheduleId)
    await endWithPeriod(execution, subscription.id)
  }
  for (const subscriptionId of otherSubscriptionIds) {
    // Stripe takes no end of a subscription while a schedule says how it goes on.
    const scheduleId = await findScheduleId(execution.session, { organizationId: execution.organizationId, subscriptionId })
    if (scheduleId !== null) await releaseIfThere(execution, scheduleId)
    await endWithPeriod(execution, subscriptionId)
  }
}

function endWithPeriod(execution: Execution, subscriptionId: string): Promise<MutationResult> {
  return update(execution, { subscriptionId, cancelAtPeriodEnd: true })
}

/** An invoice that is voided ends what was never paid. */
function endsByVoiding({ status, waitingInvoiceId }: CurrentSubscription): boolean {
  return status === 'incomplete' && waitingInvoiceId !== null
}

/** Whoever leaves, leaves whole: a second subscription that should not be there ends as well. */
async function cancelNow(execution: Execution, change: Extract<PlanChange, { kind: 'cancel_now' }>): Promise<void> {
  const { subscription, otherSubscriptionIds } = change
  // What is open is settled, as it would have been at the period's end: use is billed, and the credit of a smaller plan kept for later. A schedule
  // goes with its subscription.
  const end = (subscriptionId: string): Promise<MutationResult> =>
    perform(execution, 'cancel_subscription', { subscriptionId, prorate: false, invoiceNow: true })
  if (!endsByVoiding(subscription)) await end(subscription.id)
  for (const subscriptionId of otherSubscriptionIds) await end(subscriptionId)
}

/**
 * Closes the checkout pages that would start a second subscription beside the one that is started or resumed now.
 * @throws DomainError `subscription_exists` when one was paid just now
 */
async function closePages(execution: Execution, ownId: string | null): Promise<void> {
  const { context, session, organizationId } = execution
  if (await closeOpenPages(context, session, organizationId)) return
  await follow(execution)
  const other = (await listLiveSubscriptionIds(session, organizationId)).find((id) => id !== ownId)
  if (other === undefined) return
  throw new DomainError('subscription_exists', 'A checkout was paid just now: there is a subscription already.', {
    subscription_id: other,
  })
}

/**
 * A resumption that waits for the bank already is tried again with the card that is there now, and not called off: one payment is asked for, not two.
 */
async function resume(execution: Execution, change: Extract<PlanChange, { kind: 'resume' }>): Promise<unknown> {
  const { subscription, keepsPeriod } = change
  const { id: subscriptionId, waitingInvoiceId } = subscription
  await closePages(execution, subscriptionId)
  if (waitingInvoiceId === null) {
    const taken = keepsPeriod ? {} : await readPendingItems(execution)
    return perform(execution, 'resume_subscription', { subscriptionId, keepsPeriod, ...taken })
  }
  try {
    return await perform(execution, 'pay_invoice', { invoiceId: waitingInvoiceId, paymentMethodId: null })
  } catch (error) {
    if (!wantsAuthentication(error)) throw error
  }
}

type Start = Extract<PlanChange, { kind: 'start' }>

async function start(execution: Execution, change: Start): Promise<MutationResult> {
  const { context, session, organizationId } = execution
  await closePages(execution, change.replaces?.id ?? null)
  const customerId = await ensureCustomer(context, session, organizationId)
  const paymentMethodId =
    change.paymentMethodId === null
      ? null
      : await attachAsDefault(execution, { customerId, paymentMethodId: change.paymentMethodId })
  const params: StripeMutations['create_subscription'] = {
    customerId,
    items: newItems(change.offer, change.quantity),
    paymentMethodId,
    trialDays: change.trialDays,
    trialEndBehavior: context.policy.trialEndBehavior,
    // A declined card leaves nothing behind.
    paymentBehavior: 'error_if_incomplete',
    discounts: change.discount === null ? [] : [{ couponId: change.discount.couponId }],
    automaticTax: context.policy.automaticTax,
    metadata: { [ORGANIZATION_METADATA]: organizationId },
  }
  // Only afterwards: a card that declines leaves what there was.
  const started = await createSubscription(execution, params, change.replaces === null ? [] : [endingOf(change.replaces)])
  if (change.replaces !== null) {
    const ended = await finishPendingIntents(context, session, organizationId)
    if (ended.length === 0) await refuseSettled(execution)
  }
  return started
}

/** What ends a subscription that nothing was ever paid for. */
function endingOf(subscription: CurrentSubscription): FollowUp {
  const { id, waitingInvoiceId, usageItems } = subscription
  return endsByVoiding(subscription) && waitingInvoiceId !== null
    ? { kind: 'void_invoice', params: { invoiceId: waitingInvoiceId } }
    : { kind: 'cancel_subscription', params: { subscriptionId: id, prorate: false, invoiceNow: usageItems.length > 0 } }
}

async function createSubscription(
  execution: Execution,
  params: StripeMutations['create_subscription'],
  afterwards: readonly FollowUp[],
): Promise<MutationResult> {
  try {
    return await perform(execution, 'create_subscription', params, afterwards)
  } catch (error) {
    if (!wantsAuthentication(error)) throw error
    // The bank asks the customer: the subscription waits for that as `incomplete`, and its invoice has a page for it.
    return perform(execution, 'create_subscription', { ...params, paymentBehavior: 'default_incomplete' }, afterwards)
  }
}

type Attaching = {
  readonly customerId: string
  readonly paymentMethodId: string
  /** What is told of it, by its id at Stripe. */
  readonly auditOf?: (attachedId: string) => IntentAudit | null
}

/** Attaches a payment method and makes it the one that is charged; answers its id at Stripe (a test name becomes a real one). */
export async function attachAsDefault(
  execution: Pick<Execution, 'context' | 'session' | 'organizationId'>,
  { customerId, paymentMethodId, auditOf }: Attaching,
): Promise<string> {
  const { context, session, organizationId } = execution
  const attached = await performIntent(context, session, {
    organizationId,
    kind: 'attach_payment_method',
    params: { customerId, paymentMethodId },
  })
  const params = { customerId, defaultPaymentMethodId: attached.id }
  const audit = auditOf?.(attached.id) ?? null
  await performIntent(context, session, { organizationId, kind: 'update_customer', params, audit })
  return attached.id
}

type SwitchNow = Extract<PlanChange, { kind: 'switch_now' }>

async function switchNow(execution: Execution, change: SwitchNow): Promise<void> {
  const { subscription, offer, to, invoiceNow, undoesCancel, releasesScheduleId: scheduleId } = change
  const params: StripeMutations['update_subscription'] = {
    // In one call: what ends with the old period would be charged up to that end only, and a card that declines leaves both as they were.
    ...(undoesCancel ? undoingCancel(subscription) : { subscriptionId: subscription.id }),
    items: switchedItems(subscription, offer, to.quantity),
    prorationBehavior: invoiceNow ? 'always_invoice' : 'create_prorations',
    ...(subscription.status === 'trialing' ? {} : { prorationAtUnix: toUnix(execution.prorationAt) }),
    ...(scheduleId === null || undoesCancel ? {} : { supersedesScheduleId: scheduleId }),
  }
  // Stripe takes back no end that a schedule says: released, it is the subscription's again.
  if (undoesCancel) await release(execution, scheduleId)
  const hasCome = invoiceNow ? await payAndSwitch(execution, params, subscription) : (await update(execution, params), true)
  if (scheduleId === null || undoesCancel || !hasCome) return
  // Only shortly before its next phase may the schedule have begun that meanwhile, which has to be looked at before it goes.
  await (changesSoon(subscription, execution) ? releaseSuperseded(execution) : releaseIfThere(execution, scheduleId))
}

/** Within an hour or two: an hour is how old a preview may be. One of Stripe's dashboard may change within a period. */
function changesSoon({ scheduledAt, currentPeriodEnd }: CurrentSubscription, { prorationAt }: Execution): boolean {
  return (scheduledAt ?? currentPeriodEnd).getTime() - prorationAt.getTime() < 2 * HOUR_MS
}

/**
 * Nothing is given that is not paid: a declined card leaves the plan as it was. Where the bank asks the customer, the change
 * waits for that, with its invoice's page. Answers whether it has come about.
 */
export async function payAndSwitch(
  execution: Execution,
  params: StripeMutations['update_subscription'],
  subscription: CurrentSubscription,
): Promise<boolean> {
  try {
    await update(execution, { ...params, paymentBehavior: 'error_if_incomplete' })
    return true
  } catch (error) {
    if (!wantsAuthentication(error)) throw error
    const waiting = await withEndOfPeriod(execution, params, subscription)
    await update(execution, { ...waiting, ...(await readPendingItems(execution)), paymentBehavior: 'pending_if_incomplete' })
    return false
  }
}

/**
 * Stripe lets a change that waits take back an end that was asked for as the period's, and none at a date. A date that is the period's end is
 * said the other way before; at another one the subscription still ends, and nothing is charged for the time after it.
 */
async function withEndOfPeriod(
  { telling: _told, ...execution }: Execution,
  { clearCancelAt, ...params }: StripeMutations['update_subscription'],
  { cancelAt, currentPeriodEnd }: CurrentSubscription,
): Promise<StripeMutations['update_subscription']> {
  if (clearCancelAt !== true || cancelAt?.getTime() !== currentPeriodEnd.getTime()) return params
  await endWithPeriod(execution, params.subscriptionId)
  return { ...params, cancelAtPeriodEnd: false }
}

import type { MutationResult, RunningPhase, StripeMutations } from '../stripe/gateway/mutations.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import { ORGANIZATION_METADATA } from '../stripe/organizations.ts'
import { laterItems, runningItems } from './items.ts'
import type { CurrentSubscription, PlanChange } from './plan-change.ts'
import { follow, isRefused, perform, type Acting, type Execution } from './steps.ts'

type SwitchLater = Extract<PlanChange, { kind: 'switch_at_period_end' }>

/**
 * A schedule made of a subscription that is to end says so as well, until one call gives it what comes next: whatever fails on the way, the
 * cancellation stands, or the change is scheduled.
 */
export async function switchAtPeriodEnd(execution: Execution, change: SwitchLater): Promise<void> {
  let { scheduleId } = change
  try {
    scheduleId ??= (await perform(execution, 'create_schedule', { subscriptionId: change.subscription.id })).id
    await scheduleSwitch(execution, change, scheduleId)
  } catch (error) {
    if (isRefused(error)) {
      if (change.scheduleId === null) await release(execution, scheduleId)
      await follow(execution)
    }
    throw error
  }
}

function scheduleSwitch(execution: Execution, change: SwitchLater, scheduleId: string): Promise<MutationResult> {
  const { subscription, offer, to, at } = change
  const next = laterItems(subscription, offer, to.quantity)
  return scheduleNext(execution, subscription, { scheduleId, switchAtUnix: toUnix(at), next })
}

type NextPhase = Pick<StripeMutations['schedule_switch'], 'scheduleId' | 'switchAtUnix' | 'next' | 'releasedScheduleId'>

/** Lets a subscription run on as it is until the next phase of its schedule begins. */
export function scheduleNext(execution: Acting, subscription: CurrentSubscription, phase: NextPhase): Promise<MutationResult> {
  return perform(execution, 'schedule_switch', {
    ...phase,
    current: runningPhase(subscription),
    discountIds: subscription.discountIds,
    taxRateIds: subscription.taxRateIds,
    automaticTax: subscription.automaticTax,
    metadata: { [ORGANIZATION_METADATA]: execution.organizationId },
  })
}

function runningPhase(subscription: CurrentSubscription): RunningPhase {
  return { items: runningItems(subscription), startUnix: toUnix(subscription.phaseStartedAt) }
}

/** Whether a schedule is to change anything yet. */
export function hasMoreAhead({ scheduledAt }: CurrentSubscription): boolean {
  return scheduledAt !== null
}

/**
 * Ends a subscription with its period, and with that what its schedule has ahead: one call says both, since Stripe lets only the schedule say how
 * its subscription ends. A trial ends with its period. The schedule itself goes afterwards, and what it said stays.
 */
export async function endBesideSchedule(execution: Execution, subscription: CurrentSubscription): Promise<void> {
  const { context, session, organizationId } = execution
  const { scheduleId, status, currentPeriodEnd, discountIds, taxRateIds, automaticTax } = subscription
  if (scheduleId === null) throw new Error(`Subscription ${subscription.id} has no schedule`)
  const current = { ...runningPhase(subscription), ...(status === 'trialing' ? { isTrial: true } : {}) }
  const params = { scheduleId, current, endAtUnix: toUnix(currentPeriodEnd), discountIds, taxRateIds, automaticTax }
  try {
    await perform(execution, 'schedule_end', params, [{ kind: 'release_schedule', params: { scheduleId } }])
  } catch (error) {
    if (isRefused(error)) await follow(execution)
    throw error
  }
  await finishPendingIntents(context, session, organizationId)
}

/** A schedule would bring its phases back; released, the subscription stays as it is. */
export async function release(execution: Acting, scheduleId: string | null): Promise<void> {
  if (scheduleId !== null) await perform(execution, 'release_schedule', { scheduleId })
}

/** A schedule that is not there is released already. */
export async function releaseIfThere(execution: Acting, scheduleId: string): Promise<void> {
  await perform(execution, 'release_schedule', { scheduleId }).catch((error: unknown) => {
    if (!isRefused(error)) throw error
  })
}

import { ORGANIZATION_METADATA } from '../stripe/inbox.ts'
import { requireGateway } from '../stripe/context.ts'
import type { MutationResult } from '../stripe/gateway.ts'
import type { ScheduleSnapshot } from '../stripe/schedule-snapshots.ts'
import { toUnix } from '../stripe/wire.ts'
import { laterAddOns, phaseItems } from './items.ts'
import type { CurrentSubscription, PlanChange } from './plan-change.ts'
import { follow, isRefused, perform, type Execution } from './steps.ts'

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
  return perform(execution, 'schedule_switch', {
    scheduleId,
    current: {
      items: phaseItems({
        ...subscription,
        usagePriceIds: subscription.usageItems.map(({ priceId }) => priceId),
        addOns: subscription.addOnItems,
      }),
      startUnix: toUnix(subscription.currentPeriodStart),
    },
    switchAtUnix: toUnix(at),
    next: phaseItems({ ...offer, quantity: to.quantity, addOns: laterAddOns(subscription, offer) }),
    discountIds: subscription.discountIds,
    metadata: { [ORGANIZATION_METADATA]: execution.organizationId },
  })
}

/** A schedule would bring its phases back; released, the subscription stays as it is. */
export async function release(execution: Execution, scheduleId: string | null): Promise<void> {
  if (scheduleId !== null) await perform(execution, 'release_schedule', { scheduleId })
}

type Releasing = Pick<Extract<PlanChange, { kind: 'pause' }>, 'releasesScheduleId' | 'subscription'>

/** Does what a schedule stands in the way of. What is refused changes nothing: what was scheduled is so again. */
export async function released(
  execution: Execution,
  { releasesScheduleId: scheduleId, subscription }: Releasing,
  work: () => Promise<unknown>,
): Promise<void> {
  const before = scheduleId === null ? null : await requireGateway(execution.context).reads.retrieveSchedule(scheduleId)
  await release(execution, scheduleId)
  try {
    await work()
  } catch (error) {
    if (isRefused(error) && before !== null) await scheduleAgain(execution, subscription, before)
    throw error
  }
}

async function scheduleAgain(
  execution: Execution,
  subscription: CurrentSubscription,
  { phases }: ScheduleSnapshot,
): Promise<void> {
  const [current, next] = phases.filter(({ endsAt }) => endsAt > execution.prorationAt)
  if (current === undefined || next === undefined) return
  const { id: scheduleId } = await perform(execution, 'create_schedule', { subscriptionId: subscription.id })
  await perform(execution, 'schedule_switch', {
    scheduleId,
    current: { items: current.items, startUnix: toUnix(current.startsAt) },
    switchAtUnix: toUnix(next.startsAt),
    next: next.items,
    discountIds: subscription.discountIds,
    metadata: { [ORGANIZATION_METADATA]: execution.organizationId },
  })
  await follow(execution)
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { SECOND_MS } from '../lib/period.ts'
import { reportNow } from '../pricing/actions.ts'
import { requireGateway } from '../stripe/context.ts'
import type { StripeMutations } from '../stripe/gateway/mutations.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { leaveToOperators, toldKey, type Left } from '../stripe/left-to-operators.ts'
import { itemsOfPhase } from './items.ts'
import type { CurrentSubscription } from './plan-change.ts'
import { release, scheduleNext } from './schedules.ts'
import { readBillingState } from './state.ts'
import { follow, isRefused, perform, type Acting, type Execution } from './steps.ts'

/**
 * Pauses a subscription. Stripe pauses none that has a schedule, so that goes first; what it had ahead is kept with its release, and brought back
 * where the pause does not come about.
 */
export async function pause(execution: Execution, subscription: CurrentSubscription): Promise<void> {
  const { id: subscriptionId, priceId, quantity, scheduleId } = subscription
  if (scheduleId === null) {
    await perform(execution, 'pause_subscription', { subscriptionId })
    return
  }
  const schedule = await requireGateway(execution.context).reads.retrieveSchedule(scheduleId)
  const next = schedule?.phases.find(({ startsAt }) => startsAt > execution.prorationAt)
  const running = { priceId, quantity }
  const restores = next && { subscriptionId, running, switchAtUnix: toUnix(next.startsAt), next: next.items }
  await perform(execution, 'release_schedule', { scheduleId, ...(restores === undefined ? {} : { restores }) })
  try {
    await perform(execution, 'pause_subscription', { subscriptionId, releasedScheduleId: scheduleId })
  } catch (error) {
    if (isRefused(error)) await restoreReleased(execution)
    throw error
  }
}

const LOST = 'scheduled_change.lost'

const SWITCH_AT = `to_timestamp((intent.params #>> '{restores,switchAtUnix}')::bigint)`

/** What was released is still to come ($1 is now). */
const IS_AHEAD = `${SWITCH_AT} > coalesce(organization.test_clock_now, $1)`

/** An `item` is the plan that was to go, as it was. */
const IS_RUNNING = `item.price_id = intent.params #>> '{restores,running,priceId}'
      and coalesce(item.quantity, 1) = (intent.params #>> '{restores,running,quantity}')::bigint`

/**
 * Releases of what comes no later than with the period that runs, or did not come at all, is not brought back, nor refused by Stripe to be, nor left to operators, and for which
 * no pause has come.
 */
const RELEASED = `from stripe_intents intent join organizations organization on organization.id = intent.organization_id
  where intent.kind = 'release_schedule' and intent.state = 'succeeded' and intent.params ? 'restores'
    and exists (
      select from stripe_subscription_items item
      where item.organization_id = intent.organization_id and item.subscription_id = intent.params #>> '{restores,subscriptionId}'
        and (item.current_period_start <= ${SWITCH_AT} or ${IS_RUNNING}))
    and not exists (
      select from billing_events told
      where told.organization_id = intent.organization_id and told.key = ${toldKey(LOST, `(intent.params ->> 'scheduleId')`)})
    and not exists (
      select from stripe_intents later
      where later.organization_id = intent.organization_id and later.params ->> 'releasedScheduleId' = intent.params ->> 'scheduleId'
        and case when later.kind in ('schedule_switch', 'update_subscription') then later.state in ('succeeded', 'failed')
          when later.kind = 'create_schedule' then later.state = 'failed' else later.state = 'succeeded' end)`

/** The period for which it was scheduled has begun without it, with the plan that was to go, which nobody has changed since. */
const WAS_MISSED = hasRunning('=')

/** And the period after that. */
const IS_LOST = hasRunning('>')

function hasRunning(comparison: '=' | '>'): string {
  return `exists (
  select from stripe_subscription_items item
  where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id
    and item.current_period_start ${comparison} ${SWITCH_AT} and ${IS_RUNNING})`
}

/** Whose subscription counts, and goes on with nothing ahead. */
const goesOn = (condition: string): string => `exists (
  select from accounts account join stripe_subscriptions subscription
    on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
  where account.organization_id = intent.organization_id and account.subscription_id = intent.params #>> '{restores,subscriptionId}'
    and subscription.status in ('active', 'past_due') and subscription.scheduled_at is null
    and subscription.cancel_at is null and not subscription.cancel_at_period_end and (${condition}))`

const GOES_ON = goesOn(`${IS_AHEAD} or ${WAS_MISSED} or ${IS_LOST}`)

/**
 * Brings back what was released for a pause that has not come about: one that Stripe refused, or whose request did not live to ask for it. It is
 * scheduled again; what was to begin with the period that has begun since comes at once, for the whole of it; once a further one has begun, operators are
 * told. The caller holds the organization's lock, and has settled what is pending.
 * @throws DomainError those of Stripe, but for a refusal, which operators are told
 */
export async function restoreReleased(acting: Acting): Promise<void> {
  const { context, session, organizationId } = acting
  const mine = `${RELEASED} and intent.organization_id = $2`
  const values = [context.clock.now(), organizationId]
  if ((await session.query(`select ${IS_AHEAD} ${mine} limit 1`, values)).rowCount === 0) return
  await follow(acting)
  const { rows } = await session.query<{ params: Release; isAhead: boolean; isLost: boolean }>(
    `select intent.params, ${IS_AHEAD} as "isAhead", ${goesOn(IS_LOST)} as "isLost" ${mine} and ${GOES_ON}
     order by intent.created_at desc, intent.id`,
    values,
  )
  for (const { params } of rows.filter(({ isLost }) => isLost)) {
    const words = 'what was scheduled, and released for a pause that did not come, was not brought back in its period'
    await leaveToOperators(acting, { ...leftOf(params), words })
  }
  const newest = rows.find(({ isLost }) => !isLost)
  if (newest === undefined) return
  const { params, isAhead } = newest
  await (isAhead ? scheduleAgain(acting, params) : switchLate(acting, params)).catch(async (error: unknown) => {
    if (!isRefused(error)) throw error
    const words = 'Stripe did not take again what was scheduled and released for a pause'
    await leaveToOperators(acting, { ...leftOf(params), words, error })
  })
  await follow(acting)
}

type Release = StripeMutations['release_schedule']

function leftOf({ scheduleId, restores }: Release): Pick<Left, 'kind' | 'about' | 'target' | 'data'> {
  const [plan] = restores?.next ?? []
  const beginsAt = restores === undefined ? null : new Date(restores.switchAtUnix * SECOND_MS).toISOString()
  const data = { schedule_id: scheduleId, begins_at: beginsAt, price_id: plan?.priceId ?? null, quantity: plan?.quantity ?? null }
  return { kind: LOST, about: scheduleId, target: restores?.subscriptionId ?? scheduleId, data }
}

async function scheduleAgain(acting: Acting, { scheduleId: releasedScheduleId, restores }: Release): Promise<void> {
  const { subscription } = await readBillingState(acting.context, acting.session, acting.organizationId)
  if (restores === undefined || subscription === null) return
  const { switchAtUnix, next } = restores
  // One may be there already, made by a run that did not live to fill it.
  let { scheduleId } = subscription
  scheduleId ??= (await perform(acting, 'create_schedule', { subscriptionId: subscription.id, releasedScheduleId })).id
  try {
    await scheduleNext(acting, subscription, { scheduleId, switchAtUnix, next, releasedScheduleId })
  } catch (error) {
    if (isRefused(error)) await release(acting, scheduleId)
    throw error
  }
}

/** Prorated from the period's beginning on, it costs what its schedule would have made it cost: the next invoice has what the renewal charged too much, or too little. */
async function switchLate(acting: Acting, { scheduleId: releasedScheduleId, restores }: Release): Promise<void> {
  const { context, session, organizationId } = acting
  const { subscription } = await readBillingState(context, session, organizationId)
  if (restores === undefined || subscription === null) return
  const { running, switchAtUnix, next } = restores
  // As before every change at once: Stripe bills the use of a price that goes in that moment.
  if (subscription.usageItems.length > 0) await reportNow(context, organizationId)
  await performIntent(context, session, {
    organizationId,
    kind: 'update_subscription',
    params: {
      subscriptionId: subscription.id,
      items: itemsOfPhase(subscription, next),
      prorationBehavior: 'create_prorations',
      prorationAtUnix: switchAtUnix,
      paymentBehavior: 'allow_incomplete',
      releasedScheduleId,
    },
    audit: {
      actor: 'system:billing',
      requestId: null,
      action: 'subscription.switched',
      target: subscription.id,
      before: running,
      after: { ...next[0], at: new Date(switchAtUnix * SECOND_MS) },
    },
  })
}

/** Whose changes are to be brought back, in no order, so that a few that keep failing do not end each run before the others. */
export async function listReleased(db: Queryable, now: Instant, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select organization.id ${RELEASED} and ${GOES_ON} group by 1 order by random() limit $2`,
    [now, limit],
  )
  return rows.map(({ id }) => id)
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { requireGateway } from '../stripe/context.ts'
import type { StripeMutations } from '../stripe/gateway/mutations.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import type { CurrentSubscription } from './plan-change.ts'
import { release, scheduleNext } from './schedules.ts'
import { readBillingState } from './state.ts'
import { follow, isRefused, perform, type Acting, type Execution } from './steps.ts'

/**
 * Pauses a subscription. Stripe pauses none that has a schedule, so that goes first; what it had ahead is kept with its release, and scheduled again
 * where the pause does not come about.
 */
export async function pause(execution: Execution, { id: subscriptionId, scheduleId }: CurrentSubscription): Promise<void> {
  if (scheduleId === null) {
    await perform(execution, 'pause_subscription', { subscriptionId })
    return
  }
  const schedule = await requireGateway(execution.context).reads.retrieveSchedule(scheduleId)
  const next = schedule?.phases.find(({ startsAt }) => startsAt > execution.prorationAt)
  const restores = next && { subscriptionId, switchAtUnix: toUnix(next.startsAt), next: next.items }
  await perform(execution, 'release_schedule', { scheduleId, ...(restores === undefined ? {} : { restores }) })
  try {
    await perform(execution, 'pause_subscription', { subscriptionId, releasedScheduleId: scheduleId })
  } catch (error) {
    if (isRefused(error)) await restoreReleased(execution)
    throw error
  }
}

/** Releases of what is still to come ($1 is now), is not scheduled again, nor refused by Stripe to be, and for which no pause has come. */
const RELEASED = `from stripe_intents intent join organizations organization on organization.id = intent.organization_id
  where intent.kind = 'release_schedule' and intent.state = 'succeeded' and intent.params ? 'restores'
    and to_timestamp((intent.params #>> '{restores,switchAtUnix}')::bigint) > coalesce(organization.test_clock_now, $1)
    and not exists (
      select from stripe_intents later
      where later.organization_id = intent.organization_id and later.params ->> 'releasedScheduleId' = intent.params ->> 'scheduleId'
        and case when later.kind = 'schedule_switch' then later.state in ('succeeded', 'failed')
          when later.kind = 'create_schedule' then later.state = 'failed' else later.state = 'succeeded' end)`

/** And whose subscription counts, and goes on with nothing ahead. */
const GOES_ON = `exists (
  select from accounts account join stripe_subscriptions subscription
    on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
  where account.organization_id = intent.organization_id and account.subscription_id = intent.params #>> '{restores,subscriptionId}'
    and subscription.status in ('active', 'past_due') and subscription.scheduled_at is null
    and subscription.cancel_at is null and not subscription.cancel_at_period_end)`

/**
 * Schedules again what was released for a pause that has not come about: one that Stripe refused, or whose request did not live to ask for it. The
 * caller holds the organization's lock, and has settled what is pending.
 * @throws DomainError those of Stripe, but for a refusal, which is told in the log
 */
export async function restoreReleased(acting: Acting): Promise<void> {
  const { context, session, organizationId } = acting
  const mine = `${RELEASED} and intent.organization_id = $2`
  const values = [context.clock.now(), organizationId]
  if ((await session.query(`select ${mine} limit 1`, values)).rowCount === 0) return
  await follow(acting)
  const { rows } = await session.query<{ params: StripeMutations['release_schedule'] }>(
    `select intent.params ${mine} and ${GOES_ON} order by intent.created_at desc, intent.id limit 1`,
    values,
  )
  for (const { params } of rows) {
    await scheduleAgain(acting, params).catch((error: unknown) => {
      if (!isRefused(error)) throw error
      context.log.error(
        {
          event: 'billing.change_not_scheduled_again',
          organization_id: organizationId,
          schedule_id: params.scheduleId,
          err: error,
        },
        'Stripe did not schedule again what was released for a pause',
      )
    })
    await follow(acting)
  }
}

async function scheduleAgain(
  acting: Acting,
  { scheduleId: releasedScheduleId, restores }: StripeMutations['release_schedule'],
): Promise<void> {
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

/** Whose changes are to be scheduled again, in no order, so that a few that keep failing do not end each run before the others. */
export async function listReleased(db: Queryable, now: Instant, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select organization.id ${RELEASED} and ${GOES_ON} group by 1 order by random() limit $2`,
    [now, limit],
  )
  return rows.map(({ id }) => id)
}

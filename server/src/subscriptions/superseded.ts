import type { Queryable } from '../db/database.ts'
import { reportNow } from '../pricing/actions.ts'
import type { StripeMutations } from '../stripe/gateway/mutations.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { switchedItems } from './items.ts'
import { leaveToOperators } from '../stripe/left-to-operators.ts'
import { releaseIfThere } from './schedules.ts'
import { readBillingState } from './state.ts'
import { follow, isRefused, type Acting } from './steps.ts'

/**
 * Of updates that came to their end: those that take the place of the schedule which their subscription still has. The index of them is of those
 * that name one at all, which has to be said beside.
 */
const SUPERSEDING = `from stripe_subscriptions subscription join stripe_intents intent
  on intent.organization_id = subscription.organization_id and intent.kind = 'update_subscription' and intent.state = 'succeeded'
    and subscription.ended_at is null
    and intent.params ->> 'supersedesScheduleId' is not null and intent.params ->> 'supersedesScheduleId' = subscription.schedule_id`

/** The subscription has an item of the price and quantity of the plan's, the first of those that are named. */
const hasPlanItem = (items: string, condition = 'true'): string => `exists (
    select from stripe_subscription_items item
    where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id and ${condition}
      and item.price_id = ${items} #>> '{0,priceId}' and coalesce(item.quantity, 1) = (${items} #>> '{0,quantity}')::bigint)`

/** The plan's item is as it was to be. */
const IS_AS_WISHED = hasPlanItem(`(intent.params -> 'items')`, `item.id = intent.params #>> '{items,0,itemId}'`)

/** And that have come about: nothing waits for the bank. */
const HAS_COME = `subscription.pending_update_expires_at is null and ${IS_AS_WISHED}`

/** The plan is what the schedule made of it, by what it was last told; of one of Stripe's dashboard nothing is known. */
const IS_AS_SCHEDULED = `coalesce((
  select ${hasPlanItem(`(told.params -> 'next')`)}
  from stripe_intents told
  where told.organization_id = subscription.organization_id and told.kind = 'schedule_switch' and told.state = 'succeeded'
    and told.params ->> 'scheduleId' = subscription.schedule_id
  order by told.created_at desc limit 1), true)`

/** Or that had, being paid, until the schedule began its last phase over them: nobody of ours looked in between, and nobody has changed the plan since. */
const IS_OVERTAKEN = `subscription.pending_update_expires_at is null and subscription.scheduled_at is null
  and subscription.status in ('active', 'past_due') and not ${IS_AS_WISHED} and ${IS_AS_SCHEDULED}
  and (intent.params ->> 'paymentBehavior' is distinct from 'pending_if_incomplete' or exists (
    select from stripe_invoices invoice
    where invoice.organization_id = intent.organization_id and invoice.id = intent.result ->> 'invoiceId' and invoice.status = 'paid'))`

/**
 * Releases the schedule that a change at once has taken the place of. It stays until then, as Stripe lets it: a change that is declined, or
 * that waits for the bank and is never paid, leaves what was scheduled. A change that the schedule has overtaken is made again, unless the plan was
 * changed at Stripe since. The caller holds the organization's lock.
 * @throws DomainError those of Stripe, but for a refusal: what cannot be released is released already
 */
export async function releaseSuperseded(acting: Acting): Promise<void> {
  const { session, organizationId } = acting
  const candidates = await session.query(`select ${SUPERSEDING} where subscription.organization_id = $1 limit 1`, [
    organizationId,
  ])
  if (candidates.rowCount === 0) return
  await follow(acting)
  const come = await listUpdates(session, organizationId, HAS_COME)
  const overtaken = come.length > 0 ? [] : await listUpdates(session, organizationId, IS_OVERTAKEN)
  for (const update of overtaken.slice(0, 1)) await makeAgain(acting, update)
  const scheduleIds = new Set([...come, ...overtaken].flatMap(({ supersedesScheduleId }) => supersedesScheduleId ?? []))
  for (const scheduleId of scheduleIds) await releaseIfThere(acting, scheduleId)
  if (scheduleIds.size > 0) await follow(acting)
}

type Update = StripeMutations['update_subscription']

async function listUpdates(db: Queryable, organizationId: string, condition: string): Promise<readonly Update[]> {
  const { rows } = await db.query<{ params: Update }>(
    `select intent.params ${SUPERSEDING} where subscription.organization_id = $1 and ${condition} order by intent.created_at desc`,
    [organizationId],
  )
  return rows.map(({ params }) => params)
}

/**
 * Makes a change again that was paid, and that the schedule then took back. What was paid for longer than the period was credited as the schedule's
 * phase began; the price of the period that has begun is asked for as its renewal's would have been, so that a card that declines makes it past due.
 */
async function makeAgain(acting: Acting, update: Update): Promise<void> {
  const { context, session, organizationId } = acting
  const { subscription, offers } = await readBillingState(context, session, organizationId)
  const wished = update.items?.[0]
  const offer = offers.find(({ priceId }) => priceId === wished?.priceId)
  const { subscriptionId, supersedesScheduleId: scheduleId = subscriptionId } = update
  const left = {
    kind: 'paid_change.overtaken',
    about: scheduleId,
    target: subscriptionId,
    data: { subscription_id: subscriptionId, price_id: wished?.priceId ?? null, quantity: wished?.quantity ?? 1 },
  } as const
  if (subscription?.id !== subscriptionId || offer === undefined) {
    const words = 'a paid change was overtaken by a scheduled one, and is not sold any more'
    await leaveToOperators(acting, { ...left, words })
    return
  }
  // As before every change at once: Stripe bills the use of a price that goes in that moment.
  if (subscription.usageItems.length > 0) await reportNow(context, organizationId)
  const quantity = wished?.quantity ?? 1
  const { planKey: plan, interval } = subscription
  await performIntent(context, session, {
    organizationId,
    kind: 'update_subscription',
    params: {
      subscriptionId: subscription.id,
      items: switchedItems(subscription, offer, quantity),
      ...(update.prorationBehavior === undefined ? {} : { prorationBehavior: update.prorationBehavior }),
      paymentBehavior: 'allow_incomplete',
      ...(update.supersedesScheduleId === undefined ? {} : { supersedesScheduleId: update.supersedesScheduleId }),
    },
    audit: {
      actor: 'system:billing',
      requestId: null,
      action: 'subscription.switched',
      target: subscription.id,
      before: { plan, interval, quantity: subscription.quantity },
      after: { plan: offer.planKey, interval: offer.interval, quantity },
    },
  }).catch(async (error: unknown) => {
    if (!isRefused(error)) throw error
    const words = 'Stripe did not take again a paid change that a scheduled one has overtaken'
    await leaveToOperators(acting, { ...left, words, error })
  })
}

/** Whose schedules are to be released, in no order, so that a few that keep failing do not end each run before the others. */
export async function listSuperseded(db: Queryable, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select subscription.organization_id as id ${SUPERSEDING} where ${HAS_COME} or ${IS_OVERTAKEN} group by 1 order by random() limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

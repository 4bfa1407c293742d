import type { Queryable } from '../db/database.ts'
import { follow, isRefused, perform, type Acting } from './steps.ts'

/**
 * Of updates that came to their end: those that take the place of the schedule which their subscription still has. The index of them is of those
 * that name one at all, which has to be said beside.
 */
const SUPERSEDING = `from stripe_subscriptions subscription join stripe_intents intent
  on intent.organization_id = subscription.organization_id and intent.kind = 'update_subscription' and intent.state = 'succeeded'
    and intent.params ->> 'supersedesScheduleId' is not null and intent.params ->> 'supersedesScheduleId' = subscription.schedule_id`

/** And that have come about: nothing waits for the bank, and the plan's item, the first that a switch names, is as it was to be. */
const HAS_COME = `subscription.pending_update_expires_at is null and exists (
  select from stripe_subscription_items item
  where item.organization_id = subscription.organization_id and item.subscription_id = subscription.id
    and item.id = intent.params #>> '{items,0,itemId}' and item.price_id = intent.params #>> '{items,0,priceId}'
    and coalesce(item.quantity, 1) = (intent.params #>> '{items,0,quantity}')::bigint)`

/**
 * Releases the schedule that a change at once has taken the place of. It stays until then, as Stripe lets it: a change that is declined, or
 * that waits for the bank and is never paid, leaves what was scheduled. The caller holds the organization's lock.
 * @throws DomainError those of Stripe, but for a refusal: what cannot be released is released already
 */
export async function releaseSuperseded(acting: Acting): Promise<void> {
  const { session, organizationId } = acting
  const candidates = await session.query(`select ${SUPERSEDING} where subscription.organization_id = $1 limit 1`, [
    organizationId,
  ])
  if (candidates.rowCount === 0) return
  await follow(acting)
  const { rows } = await session.query<{ scheduleId: string }>(
    `select distinct subscription.schedule_id as "scheduleId" ${SUPERSEDING} where subscription.organization_id = $1 and ${HAS_COME}`,
    [organizationId],
  )
  for (const { scheduleId } of rows) {
    await perform(acting, 'release_schedule', { scheduleId }).catch((error: unknown) => {
      if (!isRefused(error)) throw error
    })
  }
  if (rows.length > 0) await follow(acting)
}

/** Whose schedules are to be released, in no order, so that a few that keep failing do not end each run before the others. */
export async function listSuperseded(db: Queryable, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select subscription.organization_id as id ${SUPERSEDING} where ${HAS_COME} group by 1 order by random() limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

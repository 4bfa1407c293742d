import type { Queryable, Session } from '../db/database.ts'
import { eachApart } from '../jobs/apart.ts'
import type { BillingContext } from '../stripe/context.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { runExclusively } from './actions.ts'

const AT_ONCE = 50

/**
 * Ends subscriptions that stopped with their trial where another was bought since: on a checkout's page, which cannot end the one that
 * it replaces, or by a request that did not live to. Answers how many it ended.
 */
export async function endReplaced(context: BillingContext): Promise<number> {
  if (context.gateway === null) return 0
  let ended = 0
  await eachApart(
    await listReplaced(context.db, AT_ONCE),
    async (organizationId) => {
      ended += await runExclusively(context, organizationId, (session) => endReplacedOf(context, session, organizationId))
    },
    (organizationId, error) =>
      context.log.error(
        { event: 'billing.replaced_not_ended', organization_id: organizationId, err: error },
        'a subscription that another has replaced could not be ended',
      ),
  )
  return ended
}

async function endReplacedOf(context: BillingContext, session: Session, organizationId: string): Promise<number> {
  const replaced = await findReplaced(session, organizationId)
  for (const { id, by } of replaced) {
    await performIntent(context, session, {
      organizationId,
      kind: 'cancel_subscription',
      params: { subscriptionId: id, prorate: false, invoiceNow: false },
      priority: 'background',
      audit: {
        actor: 'system:replaced',
        requestId: null,
        action: 'subscription.canceled',
        target: id,
        before: null,
        after: { replaced_by: by },
      },
    })
  }
  if (replaced.length > 0)
    await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'background' })
  return replaced.length
}

/** As `stoppedAfterTrial` has it: no period began after the trial. */
const REPLACED = `from stripe_subscriptions old join accounts account on account.organization_id = old.organization_id
  where old.status = 'paused' and account.subscription_id <> old.id and account.subscription_status in ('active', 'trialing', 'past_due')
    and not exists (
      select from stripe_subscription_items item where item.organization_id = old.organization_id and item.subscription_id = old.id
        and (old.trial_end is null or item.current_period_end > old.trial_end))`

/** In no order, so that a few that keep failing do not end each run before the others. */
async function listReplaced(db: Queryable, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select old.organization_id as id ${REPLACED} group by old.organization_id order by random() limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

async function findReplaced(db: Queryable, organizationId: string) {
  const { rows } = await db.query<{ id: string; by: string }>(
    `select old.id, account.subscription_id as by ${REPLACED} and old.organization_id = $1 order by 1`,
    [organizationId],
  )
  return rows
}

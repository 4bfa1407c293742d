import { describe, expect, test } from 'vitest'
import { buyPro } from '../../../test/purchases.ts'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import { requireGateway } from '../context.ts'
import { handleDueEvents } from '../inbox/inbox.ts'
import { recoverMissedEvents } from '../inbox/missed-events.ts'
import { findSuspicion, suspect } from './reconcile-store.ts'
import { reconcileOrganization } from './reconcile.ts'

const billing = testSubscriptions({ webhooks: false })

async function subscribed(id: string): Promise<string> {
  await billing.createOrganization(id)
  await buyPro(billing.context, { organizationId: id })
  const { rows } = await billing.database.db.query<{ id: string }>(
    'select subscription_id as id from accounts where organization_id = $1',
    [id],
  )
  return rows[0]!.id
}

/** A cancellation in Stripe's own dashboard, of which no webhook arrives. */
async function cancelAtStripe(subscriptionId: string): Promise<void> {
  const params = { subscriptionId, prorate: false, invoiceNow: false }
  await requireGateway(billing.context).perform('cancel_subscription', params, { idempotencyKey: `cancel ${subscriptionId}` })
}

async function planOf(id: string): Promise<string> {
  const { rows } = await billing.database.db.query<{ plan_key: string }>(
    'select plan_key from accounts where organization_id = $1',
    [id],
  )
  return rows[0]!.plan_key
}

describe('reconciliation', () => {
  test('finds what no webhook told of, repairs it, and says what it was', async () => {
    const subscriptionId = await subscribed('drifted')
    await cancelAtStripe(subscriptionId)
    expect(await planOf('drifted')).toBe('pro')
    const drifts = await reconcileOrganization(billing.context, 'drifted')
    expect(drifts).toContainEqual(
      expect.objectContaining({
        objectType: 'subscription',
        objectId: subscriptionId,
        field: 'status',
        mirrored: 'active',
        actual: 'canceled',
      }),
    )
    expect(await planOf('drifted')).toBe('free')
    const { rows } = await billing.database.db.query(
      `select object_id, field from stripe_drifts where organization_id = 'drifted' and field = 'status'`,
    )
    expect(rows).toEqual([{ object_id: subscriptionId, field: 'status' }])
  })

  test('ends a suspicion, and not one that is had while it refetches', async () => {
    await subscribed('suspected')
    const { context } = billing
    const since = async () => findSuspicion(context.db, 'suspected')
    const seen = (at: Date) => suspect(context.db, ['suspected'], at)
    const now = context.clock.now()
    const gateway = requireGateway(context)
    const meanwhile = billing.with({
      gateway: {
        ...gateway,
        backgroundReads: {
          ...gateway.backgroundReads,
          async listSubscriptions(customerId) {
            await seen(new Date(now.getTime() + 1))
            return gateway.backgroundReads.listSubscriptions(customerId)
          },
        },
      },
    })
    await seen(now)
    await reconcileOrganization(meanwhile, 'suspected')
    expect(await since()).not.toBeNull()
    await reconcileOrganization(context, 'suspected')
    expect(await since()).toBeNull()
  })

  test('finds nothing where nothing is wrong', async () => {
    await subscribed('sound')
    expect(await reconcileOrganization(billing.context, 'sound')).toEqual([])
  })

  test('by route is for operators', async () => {
    await subscribed('routed')
    expect((await billing.call('routed', 'POST', '/api/v1/organizations/routed/reconcile')).status).toBe(403)
    expect((await billing.call('operator', 'POST', '/api/v1/organizations/routed/reconcile')).body).toEqual({ drifts: [] })
    expect((await billing.call('operator', 'POST', '/api/v1/organizations/nowhere/reconcile')).status).toBe(404)
  })
})

describe('events that no webhook brought', () => {
  test('are listed, stored once, and handled', async () => {
    await recoverMissedEvents(billing.context, { now: true })
    while ((await handleDueEvents(billing.context)) > 0);
    const subscriptionId = await subscribed('missed')
    await cancelAtStripe(subscriptionId)
    expect(await planOf('missed')).toBe('pro')
    expect(await recoverMissedEvents(billing.context, { now: true })).toBeGreaterThan(0)
    while ((await handleDueEvents(billing.context)) > 0);
    expect(await planOf('missed')).toBe('free')
    expect(await recoverMissedEvents(billing.context, { now: true })).toBe(0)
  })

  test('of a whole day are listed page by page, and after a crash from the page where it was', async () => {
    const { db } = billing.database
    await recoverMissedEvents(billing.context, { now: true })
    // A hundred and more events, none of which came by a webhook.
    for (let made = 0; made < 15; made += 1) await subscribed(`day-${made}`)
    await db.query('delete from stripe_events')
    const gateway = requireGateway(billing.context)
    const pages: (string | null)[] = []
    const crashing = (failsAt: number) => ({
      ...gateway,
      backgroundReads: {
        ...gateway.backgroundReads,
        async listEvents(query: { since: Date; startingAfter: string | null }) {
          if (pages.length + 1 === failsAt) throw new Error('killed')
          pages.push(query.startingAfter)
          return gateway.backgroundReads.listEvents(query)
        },
      },
    })
    await expect(recoverMissedEvents(billing.with({ gateway: crashing(2) }), { now: true })).rejects.toThrow('killed')
    expect(await recoverMissedEvents(billing.with({ gateway: crashing(NaN) }))).toBeGreaterThan(0)
    expect(pages.length).toBeGreaterThan(1)
    expect(new Set(pages).size).toBe(pages.length)
    const { rows } = await db.query<{ count: number }>('select count(*)::int as count from stripe_events')
    expect(rows[0]!.count).toBeGreaterThan(100)
    expect(await recoverMissedEvents(billing.context, { now: true })).toBe(0)
  })

  test('are not asked for more often than every five minutes', async () => {
    await recoverMissedEvents(billing.context, { now: true })
    const gateway = requireGateway(billing.context)
    const refusing = {
      ...gateway,
      backgroundReads: { ...gateway.backgroundReads, listEvents: () => Promise.reject(new Error('asked')) },
    }
    expect(await recoverMissedEvents(billing.with({ gateway: refusing }))).toBe(0)
  })
})

import { expect, test } from 'vitest'
import { OFFERED, testSubscriptions } from '../../test/subscriptions.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { markCompared } from '../stripe/reconcile/reconcile-store.ts'
import { runExclusively } from './actions.ts'

// Servers whose clocks differ by minutes. Without webhooks, so that nothing but the next request follows what was done before it.

const billing = testSubscriptions({ catalog: OFFERED, webhooks: false })
const { advance, subscribed } = billing

/** Seats, by a server that does not live to let the mirror follow; as a job does, of which nobody waits to hear. */
async function changeAndDie(context: BillingContext, id: string, quantity: number): Promise<void> {
  const { rows } = await context.db.query<{ subscriptionId: string; itemId: string; priceId: string }>(
    `select subscription_id as "subscriptionId", id as "itemId", price_id as "priceId" from stripe_subscription_items where organization_id = $1`,
    [id],
  )
  const { subscriptionId, ...item } = rows[0]!
  const params = { subscriptionId, items: [{ ...item, quantity }], prorationBehavior: 'create_prorations' } as const
  await performIntent(context, context.db, { organizationId: id, kind: 'update_subscription', params })
}

async function seatsOf(id: string): Promise<number> {
  const { rows } = await billing.database.db.query<{ quantity: number }>(
    'select quantity::int from stripe_subscription_items where organization_id = $1',
    [id],
  )
  return rows[0]!.quantity
}

test.each([
  ['behind', -10],
  ['ahead', 10],
])('what a server did whose clock is minutes %s is followed before the next change', async (which, minutes) => {
  const id = await subscribed(which, { tier: 'pro' })
  const other = billing.later(minutes * MINUTE_MS)
  for (const quantity of [2, 3]) {
    await changeAndDie(other, id, quantity)
    expect(await seatsOf(id)).toBe(quantity - 1)
    await runExclusively(billing.context, id, async () => undefined)
    expect(await seatsOf(id)).toBe(quantity)
  }
})

test('and also where one whose clock is ahead has compared everything with Stripe before', async () => {
  const id = await subscribed('compared', { tier: 'pro' })
  await markCompared(billing.database.db, [id], billing.later(10 * MINUTE_MS).clock.now())
  await changeAndDie(billing.context, id, 2)
  await runExclusively(billing.context, id, async () => undefined)
  expect(await seatsOf(id)).toBe(2)
})

test('what the mirror has followed is not asked for again, whatever the clocks of servers and of customers say', async () => {
  const id = await subscribed('followed', { tier: 'pro' })
  await advance(id, '40d')
  await changeAndDie(billing.later(10 * MINUTE_MS), id, 2)
  await runExclusively(billing.context, id, async () => undefined)
  const gateway = billing.context.gateway!
  const silent = { ...gateway.reads, listSubscriptions: () => Promise.reject(new Error('asked')) }
  await runExclusively(billing.with({ gateway: { ...gateway, reads: silent } }), id, async () => undefined)
  expect(await seatsOf(id)).toBe(2)
})

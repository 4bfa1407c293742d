import { beforeAll, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { testClocks } from '../../test/test-clocks.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { changePlan } from './actions.ts'

// A change at the period's end, of which not every step comes about.

const price = (amountMinor: number) => ({ monthly: { amountMinor } })
const billing = testBilling({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      starter: { name: 'Starter', prices: price(900), allowances: {} },
      pro: { name: 'Pro', prices: price(2900), allowances: {} },
    },
    defaultPlan: 'free',
  },
})
const { onClock, advance } = testClocks(billing)

beforeAll(async () => {
  await pushCatalog(billing.context, { variables: {} })
})

const post = (id: string, path: string, body: object = {}) => billing.call(id, 'POST', `/api/v1/billing/${path}`, body)
const subscriptionOf = async (id: string) => (await billing.call(id, 'GET', '/api/v1/billing/subscription')).body

async function leaving(id: string): Promise<string> {
  await onClock(id)
  expect((await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })).status).toBe(200)
  expect((await post(id, 'cancel', { immediate: false })).status).toBe(200)
  return id
}

/** What becomes of what nobody came back for. */
async function laterOn(): Promise<void> {
  const later = new Date(billing.context.clock.now().getTime() + 5 * 60_000)
  await finishStrandedIntents(billing.with({ clock: { now: () => later } }))
}

const LEAVES = { plan: 'pro', cancel_at: expect.any(String) as string, scheduled_change: null }
const GOES_DOWN = { plan: 'pro', cancel_at: null, scheduled_change: { tier: 'starter' } }
const FAILURES = [
  ['POST /v1/subscription_schedules', 'serverError'],
  ['POST /v1/subscription_schedules', 'lostResponse'],
  ['POST /v1/subscription_schedules/*', 'serverError'],
  ['POST /v1/subscription_schedules/*', 'lostResponse'],
] as const

async function goingDownFails(id: string, route: string, failure: 'serverError' | 'lostResponse') {
  billing.sandbox.setChaos({ api: [{ route, [failure]: 1 }] })
  const { status } = await post(id, 'downgrade', { new_tier: 'starter', at: 'period_end' })
  billing.sandbox.setChaos({})
  await laterOn()
  return status
}

test.each(FAILURES)('going down by who has cancelled comes about whole or not at all: %s %s', async (route, failure) => {
  const id = await leaving(`leaving_${FAILURES.findIndex((each) => each[0] === route && each[1] === failure)}`)
  expect(await goingDownFails(id, route, failure)).toBeGreaterThanOrEqual(500)
  const isMade = route.endsWith('/*') && failure === 'lostResponse'
  await expect.poll(() => subscriptionOf(id), { timeout: 10_000 }).toMatchObject(isMade ? GOES_DOWN : LEAVES)
  await advance(id, '32d')
  expect(await subscriptionOf(id)).toMatchObject(isMade ? { plan: 'starter', status: 'active' } : { status: 'canceled' })
})

test('going down by who has cancelled leaves the cancellation where the server dies on the way', async () => {
  const id = await leaving('leaving_killed')
  const gateway = billing.context.gateway!
  const dying = billing.with({
    gateway: {
      ...gateway,
      perform: async (kind, params, call) => {
        await gateway.perform(kind, params, call)
        throw new Error('killed')
      },
    },
  })
  const request = { kind: 'switch', planKey: 'starter', interval: null, quantity: null, at: 'period_end' } as const
  const wish = { organizationId: id, request, prorationAt: null }
  await expect(changePlan(dying, wish, { actor: 'operator:test', requestId: 'r' })).rejects.toThrow('killed')
  await laterOn()
  await advance(id, '32d')
  expect(await subscriptionOf(id)).toMatchObject({ status: 'canceled' })
})

test.each([
  ['goes down', 'downgrade', { new_tier: 'starter', at: 'period_end' }, GOES_DOWN],
  ['stays', 'cancel/undo', {}, { plan: 'pro', cancel_at: null, scheduled_change: null }],
  ['goes up', 'upgrade', { new_tier: 'pro', quantity: 2 }, { plan: 'pro', quantity: 2, cancel_at: null }],
  ['leaves at once', 'cancel', { immediate: true }, { plan: 'free', status: 'canceled' }],
] as const)('who has cancelled, and could not go down, %s', async (_, path, body, expected) => {
  const id = await leaving(`left_over_${path.replace('/', '_')}_${Object.keys(body).length}`)
  expect(await goingDownFails(id, 'POST /v1/subscription_schedules/*', 'serverError')).toBeGreaterThanOrEqual(500)
  expect((await post(id, path, body)).status).toBe(200)
  expect(await subscriptionOf(id)).toMatchObject(expected)
})

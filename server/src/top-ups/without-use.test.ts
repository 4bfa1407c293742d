import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { runAutoTopUps } from './auto.ts'

const billing = testUse({
  meters: { tokens: {} },
  plans: {
    free: { name: 'Free', allowances: { tokens: { amount: 100, period: 'calendar_month' } } },
    pro: { name: 'Pro', prices: { monthly: { amountMinor: 2000 } }, allowances: { tokens: { amount: 10_000 } } },
  },
  topUps: { small: { name: '500 tokens', balance: 'tokens', amount: 500, priceMinor: 1_000, expiresAfterDays: 20 } },
  defaultPlan: 'free',
})
const BILLING = '/api/v1/billing'
const setAuto = (id: string, below: number) =>
  billing.call(id, 'PUT', `${BILLING}/auto-top-up`, { top_up: 'small', below, most_per_month: 1 })

/** Looks as often as there may be something to buy, as if what waits had waited long enough. */
async function look(): Promise<void> {
  for (let time = 0; time < 3; time += 1) {
    await billing.database.db.query('update auto_top_up_requests set wait_until = null')
    await runAutoTopUps(billing.context)
  }
}

async function boughtBy(id: string): Promise<number> {
  return ((await billing.call(id, 'GET', `${BILLING}/top-ups`)).body['purchases'] as unknown[]).length
}

/** Somebody who bought what a month allows, and whose next purchase waits for the next one. */
async function waiting(below: number): Promise<string> {
  const id = await billing.customer('pro')
  expect((await setAuto(id, below)).status).toBe(200)
  await billing.use(id, 'tokens', 9_500)
  await look()
  await billing.use(id, 'tokens', 200)
  await look()
  expect(await boughtBy(id)).toBe(1)
  return id
}

async function monthsLater(id: string, months: number): Promise<number> {
  for (let month = 0; month < months; month += 1) {
    await billing.advance(id, '31d')
    await look()
  }
  return boughtBy(id)
}

test('what waits is not bought for a customer who has left; what they set anew, or use on the free plan, is', async () => {
  const id = await waiting(1_000)
  expect((await billing.call(id, 'POST', `${BILLING}/cancel`, { immediate: true })).status).toBe(200)
  expect(await monthsLater(id, 2)).toBe(1)
  await billing.use(id, 'tokens', 1)
  await look()
  expect(await boughtBy(id)).toBe(2)
  await billing.advance(id, '31d')
  await setAuto(id, 1_000)
  await look()
  expect(await boughtBy(id)).toBe(3)
})

test('what waits is bought once, in the next month, and no more without use', async () => {
  const id = await waiting(20_000)
  expect(await monthsLater(id, 3)).toBe(2)
  await billing.use(id, 'tokens', 1)
  await look()
  expect(await boughtBy(id)).toBe(3)
})

test('what waits goes on waiting while the subscription is paused', async () => {
  const id = await waiting(20_000)
  await billing.call(id, 'POST', `${BILLING}/pause`)
  expect(await monthsLater(id, 1)).toBe(1)
  expect((await billing.call(id, 'POST', `${BILLING}/resume`)).body).toMatchObject({ status: 'active' })
  await look()
  expect(await boughtBy(id)).toBe(2)
})

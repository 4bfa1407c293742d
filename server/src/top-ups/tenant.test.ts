import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
import { PATIENCE } from '../../test/patience.ts'
import { OPERATOR_KEY, testIdentity } from '../../test/identity.ts'
import { stripeAt } from '../sandbox.ts'

// The whole server, with the key of a customer: what it may see and write of tables beneath row-level security.

let sandbox: Sandbox
let key = ''

beforeAll(async () => {
  sandbox = await startSandbox()
})
// Hooks that end run in the opposite order: the server stops first.
afterAll(() => sandbox.stop())
const server = testIdentity(() => ({
  catalog: {
    meters: { tokens: {} },
    plans: { free: { name: 'Free', allowances: { tokens: { amount: 100, period: 'calendar_month', rollover: {} } } } },
    topUps: { small: { name: '500 tokens', balance: 'tokens', amount: 500, priceMinor: 1_000 } },
    defaultPlan: 'free',
  },
  stripe: { ...stripeAt(sandbox.url), webhookSecrets: ['whsec_of_this_test'] },
}))
beforeAll(async () => {
  await ask('POST', '/organizations', { id: 'mine', name: 'Mine', email: 'a@example.com', time_zone: 'asia/tokyo' }, OPERATOR_KEY)
  const made = await ask('POST', '/organizations/mine/api-keys', { name: 'test', scopes: ['admin'] }, OPERATOR_KEY)
  key = String(made.body['key'])
})

const ask = (method: string, path: string, body?: unknown, as = key) => server.as(as, method, `/api/v1${path}`, body)

test('a customer sets its zone, buys a package and has the next one bought by itself', async () => {
  expect((await ask('GET', '/organizations/mine')).body['time_zone']).toBe('Asia/Tokyo')
  expect(await ask('PUT', '/organizations/mine/time-zone', { time_zone: null })).toMatchObject({ status: 200 })
  expect(await ask('POST', '/billing/payment-methods', { payment_method_id: 'pm_card_visa' })).toMatchObject({ status: 200 })
  expect(await ask('POST', '/billing/top-ups', { top_up: 'small' })).toMatchObject({ status: 201, body: { status: 'paid' } })
  expect(await ask('PUT', '/billing/auto-top-up', { top_up: 'small', below: 50 })).toMatchObject({ status: 200 })
  const use = { meter: 'tokens', quantity: 560, idempotency_key: 'use' }
  expect((await ask('POST', '/usage/consume', use)).body['allowed']).toBe(true)
  await vi.waitFor(async () => {
    const { purchases } = (await ask('GET', '/billing/top-ups')).body as { purchases: Record<string, unknown>[] }
    expect(purchases.map(({ automatic, status }) => [automatic, status])).toEqual([
      [true, 'paid'],
      [false, 'paid'],
    ])
  }, PATIENCE)
  const { grants } = (await ask('GET', '/grants')).body as { grants: Record<string, unknown>[] }
  expect(grants.filter(({ kind }) => kind === 'top_up')).toHaveLength(2)
})

import { expect, test } from 'vitest'
import { startReceiver, startTestSandbox } from '../../test/contract.ts'
import { Chaos } from './chaos.ts'

const SECRET = 'whsec_test'

test('the same seed makes the same decisions, another seed others', () => {
  const decide = (seed: number) => {
    const chaos = new Chaos({ seed, api: [{ latency: 0.5, tooManyRequests: 0.2, serverError: 0.2, lostResponse: 0.2 }] }, 0)
    return Array.from({ length: 50 }, () => {
      const { latencyMs, refuse, loseResponse } = chaos.forRequest('POST /v1/customers')
      return [latencyMs, refuse?.status, loseResponse]
    })
  }
  expect(decide(7)).toEqual(decide(7))
  expect(decide(7)).not.toEqual(decide(8))
})

test('probabilities are kept to', () => {
  const chaos = new Chaos({ seed: 3, api: [{ route: 'GET *', serverError: 0.25 }] }, 0)
  const count = Array.from({ length: 4000 }, () => chaos.forRequest('GET /v1/customers').refuse).filter(
    (refuse) => refuse !== null,
  ).length
  expect(count).toBeGreaterThan(900)
  expect(count).toBeLessThan(1100)
  expect(chaos.forRequest('POST /v1/customers').refuse).toBeNull()
})

test('429 and 5xx do nothing; the right route only', async () => {
  const { stripe, sandbox } = await startTestSandbox({
    chaos: {
      api: [
        { route: 'POST /v1/customers', tooManyRequests: 1 },
        { route: 'POST /v1/products', serverError: 1 },
      ],
    },
  })
  await expect(stripe.customers.create()).rejects.toMatchObject({ statusCode: 429 })
  await expect(stripe.products.create({ name: 'x' })).rejects.toMatchObject({ statusCode: 500, type: 'StripeAPIError' })
  expect([...sandbox.all('customer'), ...sandbox.all('product')]).toEqual([])
  expect((await stripe.customers.list()).data).toEqual([])
})

test('deliveries are doubled, lost, or come again later', async () => {
  const { url, received } = await startReceiver(SECRET)
  const { stripe, sandbox } = await startTestSandbox({
    webhooks: [{ url, secret: SECRET }],
    chaos: { deliveries: { duplicate: 1, late: 1, lateMs: 20, delay: 0.5, delayMs: 10, reorder: 0.5 } },
  })
  await stripe.customers.create()
  await sandbox.settled()
  expect(received).toHaveLength(3)
  sandbox.setChaos({ deliveries: { drop: 1 } })
  await stripe.customers.create()
  await sandbox.settled()
  expect(received).toHaveLength(3)
  expect(sandbox.all('_delivery').map(({ state }) => state)).toEqual(['delivered', 'failed'])
})

test('settings that make no sense are refused', async () => {
  const { fetch } = await startTestSandbox()
  const set = async (settings: object) =>
    (await fetch('/_sandbox/chaos', { method: 'POST', body: JSON.stringify(settings) })).status
  expect(await set({ deliveries: { drop: 2 } })).toBe(400)
  expect(await set({ deliveries: { lose: 0.1 } })).toBe(400)
  expect(await set({ api: { serverError: 1 } })).toBe(400)
  expect(await set({ seed: 1, api: [{ serverError: 0.5 }] })).toBe(200)
})

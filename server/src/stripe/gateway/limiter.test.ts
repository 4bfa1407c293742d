import { afterAll, beforeAll, expect, test } from 'vitest'
import { startSandbox, type Sandbox } from '../../../../sandbox/src/index.ts'
import { createStripeClient } from './client.ts'
import { createRateLimiter } from './limiter.ts'

let sandbox: Sandbox
beforeAll(async () => {
  sandbox = await startSandbox({ rateLimits: { perSecond: 25, perEndpoint: 25 } })
})
afterAll(() => sandbox.stop())

test('a rush of calls stays within what Stripe allows a sandbox account in any second', async () => {
  const logged: unknown[] = []
  const note = (fields: Record<string, unknown>) => void logged.push(fields)
  const { host, port, protocol } = sandbox
  const gateway = createStripeClient({
    apiKey: 'sk_test_rush',
    endpoint: { host, port, protocol },
    log: { info: note, warn: note, error: note },
  })
  const { reads } = gateway
  const lists = [() => reads.listProducts(), () => reads.listPrices(), () => reads.listMeters()]
  await Promise.all(Array.from({ length: 60 }, (_, index) => lists[index % lists.length]!()))
  expect(logged).toEqual([])
})

test('a call that somebody waits for goes before those of workers, whenever it comes', async () => {
  const limiter = createRateLimiter({ perSecond: 100, burst: 1 })
  const order: string[] = []
  const take = async (name: string, priority: 'interactive' | 'background') => {
    await limiter.take(priority)
    order.push(name)
  }
  await limiter.take('background')
  await Promise.all([take('worker 1', 'background'), take('worker 2', 'background'), take('person', 'interactive')])
  expect(order).toEqual(['person', 'worker 1', 'worker 2'])
})

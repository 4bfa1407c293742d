import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { createStripeClient } from './client.ts'

// What Stripe answers while it works on the same thing for somebody else, which the sandbox never does.

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined }
const LOCKED = { type: 'invalid_request_error', code: 'lock_timeout', message: 'This object cannot be accessed right now.' }
const IN_USE = { type: 'idempotency_error', code: 'idempotency_key_in_use', message: 'There is another request in progress.' }

/** A product that is changed at a Stripe that answers so `times` times before it takes it; answers what came of it and under which keys it was asked. */
async function changeAt(status: number, error: object, times: number) {
  const keys: unknown[] = []
  const answer = (request: IncomingMessage): [number, object] => {
    keys.push(request.headers['idempotency-key'])
    return keys.length <= times ? [status, { error }] : [200, { id: 'prod_1', object: 'product' }]
  }
  const server = createServer((request, response) => {
    const [code, body] = answer(request)
    request.resume()
    response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const gateway = createStripeClient({
    apiKey: 'sk_test_conflicts',
    endpoint: { host: '127.0.0.1', port, protocol: 'http' },
    callsPerSecond: 500,
    log: silent,
  })
  const params = { productId: 'prod_1', name: 'Pro', description: 'For teams' }
  const outcome = await gateway.perform('update_product', params, { idempotencyKey: 'one wish' }).then(
    ({ id }) => id,
    (thrown: unknown) => thrown,
  )
  server.close()
  return { outcome, keys }
}

describe.concurrent('a conflict', () => {
  test.each([
    [409, LOCKED],
    [429, LOCKED],
    [409, IN_USE],
  ])('a conflict (%i, %o) is waited out under the same key', async (status, error) => {
    expect(await changeAt(status, error, 3)).toEqual({ outcome: 'prod_1', keys: Array(4).fill('one wish') })
  })

  test.each([
    [409, LOCKED],
    [429, LOCKED],
  ])('an object that stays locked (%i) is told to be, and that nothing was done', { timeout: 20_000 }, async (status, error) => {
    const { outcome, keys } = await changeAt(status, error, 100)
    expect(keys).toHaveLength(5)
    expect(outcome).toMatchObject({
      code: 'stripe_unavailable',
      outcome: 'later',
      message: 'Stripe is at work on the same thing for another request; nothing was done, please try again.',
      details: { retry_after: 5 },
    })
  })

  test('a key that stays in use leaves open what became of it', { timeout: 20_000 }, async () => {
    const { outcome, keys } = await changeAt(409, IN_USE, 100)
    expect(keys).toHaveLength(5)
    expect(outcome).toMatchObject({ code: 'stripe_unavailable', outcome: 'unanswered' })
    expect((outcome as Error).message).toMatch(/^Stripe is still at work on this: whether it is carried out is not known yet\./)
  })
})

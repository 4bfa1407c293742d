import { expect, test } from 'vitest'
import { NOW, startTestSandbox } from '../../test/contract.ts'

const DAY = 86_400

/** A header of an answer; the client that speaks `fetch` keeps the `Response`. */
function headerOf(answer: { lastResponse: object }, name: string): string | null {
  return (answer.lastResponse as Response).headers.get(name)
}

test('a repeat of a request is answered from the first, and says so', async () => {
  const { stripe, sandbox } = await startTestSandbox()
  const options = { idempotencyKey: 'key-1' }
  const first = await stripe.customers.create({ name: 'Ada', metadata: { a: '1' } }, options)
  const second = await stripe.customers.create({ metadata: { a: '1' }, name: 'Ada' }, options)
  expect(second.id).toBe(first.id)
  expect(headerOf(second, 'idempotent-replayed')).toBe('true')
  expect(headerOf(second, 'original-request')).toBe(headerOf(first, 'request-id'))
  expect(headerOf(first, 'idempotent-replayed')).toBeNull()
  expect(sandbox.all('customer')).toHaveLength(1)
  expect(sandbox.all('event')).toHaveLength(1)
})

test('the key with other parameters or another endpoint is an idempotency error', async () => {
  const { stripe, sandbox } = await startTestSandbox()
  const { id } = await stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k' })
  await expect(stripe.customers.create({ name: 'Bob' }, { idempotencyKey: 'k' })).rejects.toMatchObject({
    type: 'StripeIdempotencyError',
    statusCode: 400,
  })
  await expect(stripe.customers.update(id, { name: 'Ada' }, { idempotencyKey: 'k' })).rejects.toMatchObject({
    type: 'StripeIdempotencyError',
  })
  expect(sandbox.all('customer').map(({ name }) => name)).toEqual(['Ada'])
})

test('a request that failed its validation is not stored: the key is free', async () => {
  const { stripe } = await startTestSandbox()
  const wrong = { name: 'x', nonsense: 'y' } as { name: string }
  await expect(stripe.customers.create(wrong, { idempotencyKey: 'k' })).rejects.toMatchObject({ code: 'parameter_unknown' })
  expect(await stripe.customers.create({ name: 'x' }, { idempotencyKey: 'k' })).toMatchObject({ name: 'x' })
})

test('what the sandbox does not support leaves the key free as well', async () => {
  const { stripe } = await startTestSandbox()
  const create = (params: object) => stripe.paymentMethods.create(params, { idempotencyKey: 'k' })
  await expect(create({ type: 'klarna' })).rejects.toMatchObject({ message: expect.stringContaining('not supported') as string })
  expect(await create({ type: 'card', card: { token: 'tok_visa' } })).toMatchObject({ type: 'card' })
})

test('an operation that failed is answered with the same failure again', async () => {
  const { stripe } = await startTestSandbox()
  const create = () => stripe.prices.create({ currency: 'usd', unit_amount: 5, product: 'prod_later' }, { idempotencyKey: 'k' })
  await expect(create()).rejects.toMatchObject({ code: 'resource_missing', param: 'product' })
  await stripe.products.create({ id: 'prod_later', name: 'Later' })
  await expect(create()).rejects.toMatchObject({ code: 'resource_missing', headers: { 'idempotent-replayed': 'true' } })
})

test('a second request under the key while the first runs is a conflict, and is not stored', async () => {
  const { stripe, sandbox } = await startTestSandbox({ chaos: { api: [{ latency: 1, latencyMs: 60 }] } })
  const results = await Promise.allSettled([1, 2, 3].map(() => stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k' })))
  const refused = results.filter((result) => result.status === 'rejected')
  expect(refused).toHaveLength(2)
  expect(refused[0]?.reason).toMatchObject({ statusCode: 409, code: 'idempotency_key_in_use' })
  expect(await stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k' })).toMatchObject({ name: 'Ada' })
  expect(sandbox.all('customer')).toHaveLength(1)
})

test('a lost answer is found again by repeating the request', async () => {
  const { stripe, sandbox } = await startTestSandbox({ chaos: { api: [{ route: 'POST /v1/customers', lostResponse: 1 }] } })
  await expect(stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k' })).rejects.toMatchObject({
    type: 'StripeConnectionError',
  })
  expect(sandbox.all('customer')).toHaveLength(1)
  sandbox.setChaos({})
  const customer = await stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k' })
  expect(sandbox.all('customer').map(({ id }) => id)).toEqual([customer.id])
})

test('keys are kept for a day', async () => {
  const { stripe, sandbox } = await startTestSandbox()
  const create = () => stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k' })
  const first = await create()
  sandbox.advanceTo(NOW + DAY - 1)
  expect((await create()).id).toBe(first.id)
  sandbox.advanceTo(NOW + DAY)
  expect((await create()).id).not.toBe(first.id)
})

test('a key of more than 255 characters is refused; reading takes no key', async () => {
  const { stripe } = await startTestSandbox()
  await expect(stripe.customers.create({}, { idempotencyKey: 'x'.repeat(256) })).rejects.toMatchObject({ statusCode: 400 })
  await stripe.customers.list({}, { idempotencyKey: 'read' })
  expect(await stripe.customers.list({ limit: 1 }, { idempotencyKey: 'read' })).toMatchObject({ data: [] })
})

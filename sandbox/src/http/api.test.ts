import { expect, test } from 'vitest'
import { clientFor, startTestSandbox } from '../../test/contract.ts'
import { RequestLog } from '../control/request-log.ts'
import { clockStateOf } from '../engine/clock.ts'
import { Engine } from '../engine/engine.ts'
import { createRandom } from '../engine/random.ts'
import { Chaos } from '../events/chaos.ts'
import { Api } from './api.ts'
import { RateLimiter } from './rate-limit.ts'

const FORM = { 'content-type': 'application/x-www-form-urlencoded', authorization: 'Bearer sk_test_x' }

async function post(fetch: (path: string, init?: RequestInit) => Promise<Response>, path: string, body: string, headers = {}) {
  const response = await fetch(path, { method: 'POST', body, headers: { ...FORM, ...headers } })
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as { id?: string; error?: { [name: string]: unknown } },
  }
}

test.each([
  ['nme=x', { code: 'parameter_unknown', param: 'nme', message: 'Received unknown parameter: nme' }],
  ['address[town]=x', { code: 'parameter_unknown', param: 'address[town]' }],
  ['balance=ten', { code: 'parameter_invalid_integer', param: 'balance', message: 'Invalid integer: ten' }],
  ['balance=1.5', { code: 'parameter_invalid_integer', param: 'balance' }],
  ['tax_exempt=maybe', { param: 'tax_exempt', message: 'Invalid tax_exempt: must be one of exempt, none, or reverse' }],
  ['address=x', { param: 'address', message: 'Invalid object' }],
  ['preferred_locales=de', { param: 'preferred_locales', message: 'Invalid array' }],
  ['validate=perhaps', { param: 'validate', message: 'Invalid boolean: perhaps' }],
  ['test_clock=', { code: 'parameter_invalid_empty', param: 'test_clock' }],
  ['shipping[name]=x', { code: 'parameter_missing', param: 'shipping[address]' }],
])('refuses %s and changes nothing', async (body, expected) => {
  const { fetch, sandbox } = await startTestSandbox()
  const answer = await post(fetch, '/v1/customers', body)
  expect(answer).toMatchObject({ status: 400, body: { error: { type: 'invalid_request_error', ...expected } } })
  expect(sandbox.all('customer')).toEqual([])
})

test('names the missing parameter', async () => {
  const { fetch } = await startTestSandbox()
  expect(await post(fetch, '/v1/products', '')).toMatchObject({
    status: 400,
    body: { error: { code: 'parameter_missing', param: 'name' } },
  })
})

test('a parameter that is not emulated is refused by name, never answered with a made-up success', async () => {
  const { fetch, sandbox } = await startTestSandbox()
  const { status, body } = await post(fetch, '/v1/customers', 'name=x&cash_balance[settings][reconciliation_mode]=manual')
  expect([status, body.error?.['param']]).toEqual([400, 'cash_balance'])
  expect(body.error?.['message']).toBe("The parameter 'cash_balance' of POST /v1/customers is not supported by this sandbox.")
  expect(sandbox.all('customer')).toEqual([])
})

test('an operation of the contract that nothing carries out is refused by name', async () => {
  const clock = clockStateOf('real', 0)
  const engine = new Engine({ modules: [], random: createRandom(1), clock, journal: null, report: () => {} })
  const api = new Api(engine, [], { chaos: new Chaos({}, 1), limiter: new RateLimiter({}), log: new RequestLog(), apiKeys: null })
  const headers = { authorization: 'Bearer sk_test_x' }
  const answer = await api.answer({ method: 'POST', pathname: '/v1/customers', search: '', headers, body: 'name=x' })
  expect(answer.status).toBe(400)
  expect(answer.body).toContain('The operation POST /v1/customers (Customer.create) is not supported by this sandbox.')
})

test('wants a test key: by bearer or as user name, from the list when there is one', async () => {
  const { sandbox } = await startTestSandbox({ apiKeys: ['sk_test_right'] })
  const status = async (authorization?: string) =>
    (await fetch(`${sandbox.url}/v1/customers`, authorization === undefined ? {} : { headers: { authorization } })).status
  expect(await status('Bearer sk_test_right')).toBe(200)
  expect(await status(`Basic ${Buffer.from('sk_test_right:').toString('base64')}`)).toBe(200)
  expect(await status('Bearer sk_test_wrong')).toBe(401)
  expect(await status('Bearer sk_live_right')).toBe(401)
  expect(await status()).toBe(401)
  await expect(clientFor(sandbox, fetch, 'sk_test_wrong').customers.list()).rejects.toMatchObject({
    type: 'StripeAuthenticationError',
    message: 'Invalid API Key provided: sk_test_*rong',
  })
})

test('a publishable key reads no customers', async () => {
  const { sandbox } = await startTestSandbox()
  await expect(clientFor(sandbox, fetch, 'pk_test_x').customers.list()).rejects.toMatchObject({ code: 'secret_key_required' })
})

test('an unknown address is told so', async () => {
  const { sandbox, stripe } = await startTestSandbox()
  await expect(stripe.rawRequest('GET', '/v1/nonsense')).rejects.toMatchObject({ statusCode: 404 })
  expect((await fetch(`${sandbox.url}/nonsense`)).status).toBe(404)
})

test('answers carry a request id and the version, and errors link to their request', async () => {
  const { fetch, sandbox } = await startTestSandbox()
  const answer = await post(fetch, '/v1/customers', 'nme=x', { 'stripe-version': '2026-10-28.endive' })
  const id = answer.headers.get('request-id')
  expect(id).toMatch(/^req_[A-Za-z0-9]{14}$/)
  expect(answer.headers.get('stripe-version')).toBe('2026-10-28.endive')
  const log = await fetch(String(answer.body.error?.['request_log_url']).replace(sandbox.url, ''))
  expect(await log.json()).toMatchObject({ id, method: 'POST', path: '/v1/customers', status: 400 })
})

test('limits outside 1 to 100 and two cursors at once are refused', async () => {
  const { stripe } = await startTestSandbox()
  const { id } = await stripe.customers.create()
  await expect(stripe.customers.list({ limit: 0 })).rejects.toMatchObject({ param: 'limit' })
  await expect(stripe.customers.list({ limit: 101 })).rejects.toMatchObject({ param: 'limit' })
  await expect(stripe.customers.list({ starting_after: id, ending_before: id })).rejects.toMatchObject({
    code: 'parameters_exclusive',
  })
  await expect(stripe.customers.list({ starting_after: 'cus_no' })).rejects.toMatchObject({
    code: 'resource_missing',
    param: 'starting_after',
  })
})

test('lists filter by time of creation', async () => {
  const { stripe, sandbox } = await startTestSandbox()
  const start = sandbox.now()
  for (let step = 0; step < 4; step++) {
    await stripe.customers.create({ name: String(step) })
    sandbox.advanceTo(start + (step + 1) * 10)
  }
  const names = async (created: number | { gt?: number; gte?: number; lt?: number; lte?: number }) =>
    (await stripe.customers.list({ created })).data.map(({ name }) => name)
  expect(await names({ gt: start, lte: start + 20 })).toEqual(['2', '1'])
  expect(await names({ gte: start + 30 })).toEqual(['3'])
  expect(await names({ lt: start + 10 })).toEqual(['0'])
  expect(await names(start + 10)).toEqual(['1'])
})

test('too many requests in a second are refused when the switch is on', async () => {
  const { stripe, sandbox } = await startTestSandbox({ rateLimits: { perSecond: 3 } })
  const attempts = await Promise.allSettled(Array.from({ length: 20 }, () => stripe.customers.list()))
  const refused = attempts.filter((attempt) => attempt.status === 'rejected')
  expect(refused.length).toBeGreaterThan(0)
  expect(refused[0]?.reason).toMatchObject({ type: 'StripeRateLimitError', statusCode: 429 })
  sandbox.setRateLimits({})
  expect(await stripe.customers.list()).toMatchObject({ data: [] })
})

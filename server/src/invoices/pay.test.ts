import { beforeAll, expect, test, vi } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { startClock } from '../../test/test-clocks.ts'
import { pushCatalog } from '../stripe/push/push.ts'

const billing = testBilling()
const BILLING = '/api/v1/billing'

beforeAll(() => pushCatalog(billing.context, { variables: {} }))

test('an invoice about which the bank asks the customer has the page where they answer', async () => {
  const id = 'asked'
  await billing.createOrganization(id)
  await startClock(billing.context, id)
  const post = (path: string, body: Record<string, unknown> = {}) => billing.call(id, 'POST', `${BILLING}/${path}`, body)
  await post('subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  await post('payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
  await billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, { by: '33d' })
  const [owed] = (await billing.call(id, 'GET', `${BILLING}/invoices?status=open`)).body as unknown as { id: string }[]
  expect(await post(`invoices/${owed!.id}/pay`)).toMatchObject({
    status: 402,
    body: { code: 'payment_failed', requires_action: true, payment_url: expect.stringMatching(/^http/) },
  })
})

test('EM-7 whoever lost the subscription over a card that failed comes back with another card', async () => {
  const id = 'comes_back'
  await billing.createOrganization(id)
  await startClock(billing.context, id)
  const post = (path: string, body: Record<string, unknown> = {}) => billing.call(id, 'POST', `${BILLING}/${path}`, body)
  const advance = (by: string) => billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, { by })
  // What is bought on a page has a payment method of its own, which goes before the customer's.
  const { body: page } = await post('checkout', { plan: 'pro' })
  const card = new URLSearchParams({ email: 'buyer@example.com', card_number: '4242424242424242', exp: '12/34', cvc: '123' })
  await fetch(String(page['url']), { method: 'POST', body: card, redirect: 'manual' })
  await vi.waitFor(
    async () => {
      expect((await billing.call(id, 'GET', `${BILLING}/subscription`)).body).toMatchObject({ plan: 'pro', status: 'active' })
    },
    { timeout: 10_000 },
  )
  await post('payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
  await advance('33d')
  await advance('30d')
  const ended = await billing.call(id, 'GET', `${BILLING}/subscription`)
  expect(ended.body).toMatchObject({ plan: 'free', status: 'canceled' })
  const invoices = (await billing.call(id, 'GET', `${BILLING}/invoices`)).body as unknown as { id: string; status: string }[]
  const owed = invoices.find(({ status }) => status === 'open')!
  expect((await post(`invoices/${owed.id}/pay`)).status).toBe(402)

  expect((await post('payment-methods', { payment_method_id: 'pm_card_visa' })).status).toBe(200)
  expect(await post(`invoices/${owed.id}/pay`)).toMatchObject({ status: 200, body: { status: 'paid' } })
  expect(await post('subscribe', { tier: 'pro' })).toMatchObject({ status: 200, body: { status: 'active' } })
})

test('a page of invoices after one that is not there, or is another organization’s, is refused: it would look like the end', async () => {
  const invoicesOf = async (id: string, after = '') => {
    const { status, body } = await billing.call(id, 'GET', `${BILLING}/invoices${after && `?starting_after=${after}`}`)
    return { status, body: body as unknown as { id: string }[] }
  }
  for (const id of ['pages', 'pages_of_others']) {
    await billing.createOrganization(id)
    await billing.call(id, 'POST', `${BILLING}/subscribe`, { tier: 'pro', payment_method_id: 'pm_card_visa' })
  }
  const [own] = (await invoicesOf('pages')).body
  const [foreign] = (await invoicesOf('pages_of_others')).body
  expect(await invoicesOf('pages', own!.id)).toEqual({ status: 200, body: [] })
  for (const after of ['in_none', foreign!.id]) {
    expect(await invoicesOf('pages', after)).toMatchObject({ status: 400, body: { field: 'starting_after' } })
  }
})

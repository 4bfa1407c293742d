import { beforeAll, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'

// The answers that the five systems read, field by field: each name is there, with the type it is read as.

const billing = testSubscriptions()
const { invoicesOf, post, subscriptionOf, succeed } = billing
const BILLING = '/api/v1/billing'
const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string
const text = expect.any(String) as string

beforeAll(async () => {
  for (const id of ['payer', 'neighbour']) await billing.createOrganization(id)
  await post('payer', 'subscribe', { tier: 'PRO', payment_method_id: 'pm_card_visa' })
})

test('OC-1 the subscription, its price in major units', async () => {
  expect(await subscriptionOf('payer')).toMatchObject({
    tier: 'PRO',
    status: 'active',
    current_period_start: time,
    current_period_end: time,
    cancel_at_period_end: false,
    amount: 29,
    interval: 'month',
    currency: 'usd',
  })
})

test('OC-2 invoices are a bare array, the newest first, as many as asked for', async () => {
  const { body } = await billing.call('payer', 'GET', `${BILLING}/invoices?limit=10`)
  expect(body).toMatchObject([
    {
      id: expect.stringMatching(/^in_/) as string,
      number: text,
      amount_due: 29,
      amount_paid: 29,
      currency: 'usd',
      status: 'paid',
      created: time,
      due_date: null,
      paid: true,
      invoice_pdf: expect.stringMatching(/^http/) as string,
      hosted_invoice_url: expect.stringMatching(/^http/) as string,
    },
  ])
  await succeed('payer', 'upgrade', { new_tier: 'enterprise' })
  const two = await invoicesOf('payer', '?limit=10')
  const one = await invoicesOf('payer', '?limit=1')
  expect([two.length, one]).toEqual([2, [two[0]]])
  expect((await billing.call('neighbour', 'GET', `${BILLING}/invoices`)).body).toEqual([])
})

test('OC-3 payment methods are a bare array with the last four digits of a card and no more of them', async () => {
  const { body } = await billing.call('payer', 'GET', `${BILLING}/payment-methods`)
  const card = { brand: 'visa', last4: '4242', exp_month: expect.any(Number) as number, exp_year: expect.any(Number) as number }
  expect(body).toEqual([{ id: expect.stringMatching(/^pm_/) as string, type: 'card', card, created: time, is_default: true }])
  expect((await billing.call('neighbour', 'GET', `${BILLING}/payment-methods`)).body).toEqual([])
})

test('MR-12 KF-3 what the webhooks bring is kept with the organization, and read by operators', async () => {
  const { body } = await billing.call('operator', 'GET', '/api/v1/admin/billing')
  const organizations = body['organizations'] as { organization_id: string }[]
  expect(organizations.find(({ organization_id: id }) => id === 'payer')).toMatchObject({
    billing_status: 'active',
    stripe_customer_id: expect.stringMatching(/^cus_/) as string,
    stripe_subscription_id: expect.stringMatching(/^sub_/) as string,
    trial_ends_at: null,
    subscription_expires_at: time,
  })
})

test.each([
  ['4242 4242 4242 4242 succeeds', 'pm_card_visa', { status: 200, body: { status: 'active', requires_action: false } }],
  ['4000 0000 0000 0002 declines', 'pm_card_chargeDeclined', { status: 402, body: { decline_code: 'generic_decline' } }],
  ['4000 0025 0000 3155 asks the customer', 'pm_card_authenticationRequired', { status: 200, body: { requires_action: true } }],
])('KF-14 card %s', async (_name, card, answer) => {
  const id = await billing.createOrganization(`card_${card}`)
  expect(await post(id, 'subscribe', { tier: 'pro', payment_method_id: card })).toMatchObject(answer)
})

test('CB KF EM: pages learn the publishable key, and whether Stripe is there', async () => {
  const read = async (caller: string) => billing.call(caller, 'GET', `${BILLING}/config`)
  expect(await read('payer:read')).toMatchObject({
    status: 200,
    body: {
      stripe_enabled: true,
      publishable_key: 'pk_test_tollgate',
      environment: 'test',
      currency: 'usd',
      trial_period_days: 14,
    },
  })
  expect((await read('nobody')).status).toBe(401)
})

import { expect, test } from 'vitest'
import { payOn } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'

const billing = testSubscriptions()
const { advance, invoicesOf, onClock, post, subscriptionOf, succeed } = billing

test('an invoice about which the bank asks the customer has the page where they answer', async () => {
  const id = await billing.subscribed('asked', { tier: 'pro' })
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
  await advance(id, '33d')
  const [owed] = await invoicesOf(id, '?status=open')
  expect(await post(id, `invoices/${owed!.id}/pay`)).toMatchObject({
    status: 402,
    body: { code: 'payment_failed', requires_action: true, payment_url: expect.stringMatching(/^http/) },
  })
})

test('EM-7 whoever lost the subscription over a card that failed comes back with another card', async () => {
  const id = await onClock('comes_back')
  // What is bought on a page has a payment method of its own, which goes before the customer's.
  const { url } = await succeed(id, 'checkout', { plan: 'pro' })
  expect((await payOn(String(url))).status).toBe(303)
  await expect.poll(() => subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active' })
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
  await advance(id, '33d')
  await advance(id, '30d')
  expect(await subscriptionOf(id)).toMatchObject({ plan: 'free', status: 'canceled' })
  const owed = (await invoicesOf(id)).find(({ status }) => status === 'open')!
  const declined = await post(id, `invoices/${owed.id}/pay`)
  expect(declined).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
  // The bank asks nothing: there is no page to answer on.
  expect(declined.body).not.toHaveProperty('payment_url')
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  expect(await succeed(id, `invoices/${owed.id}/pay`)).toMatchObject({ status: 'paid' })
  expect(await succeed(id, 'subscribe', { tier: 'pro' })).toMatchObject({ status: 'active' })
})

test('a card that is replaced is the customer’s: the subscription has one of its own only where it had one', async () => {
  const id = await onClock('replaces')
  await succeed(id, 'subscribe', { tier: 'pro' })
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
  const { subscription_id: subscription, stripe_customer_id: customer } = await subscriptionOf(id)
  await succeed(id, 'payment-methods', { payment_method_id: 'pm_card_mastercard' })
  const methodsOf = async () => (await billing.call(id, 'GET', '/api/v1/billing/payment-methods')).body as unknown as Method[]
  const [first, second] = await methodsOf()
  expect([first!.is_default, second!.is_default]).toEqual([true, false])
  expect((await billing.stripe.subscriptions.retrieve(String(subscription))).default_payment_method).toBeNull()
  // So the next invoice is charged to whatever the customer makes the default at Stripe, and that comes first, however old it is.
  await billing.stripe.customers.update(String(customer), { invoice_settings: { default_payment_method: second!.id } })
  await expect.poll(methodsOf).toMatchObject([
    { id: second!.id, is_default: true },
    { id: first!.id, is_default: false },
  ])
  await advance(id, '15d')
  expect(await subscriptionOf(id)).toMatchObject({ status: 'active' })
  expect((await billing.stripe.charges.list({ customer: String(customer), limit: 1 })).data[0]!.payment_method).toBe(second!.id)
})

test('an invoice of a subscription that goes on is paid with what that is charged to, whatever the customer’s default is', async () => {
  const id = await onClock('own_method')
  const { url } = await succeed(id, 'checkout', { plan: 'pro' })
  expect((await payOn(String(url))).status).toBe(303)
  await expect.poll(() => subscriptionOf(id)).toMatchObject({ plan: 'pro', status: 'active' })
  const { subscription_id: subscription, stripe_customer_id: customer } = await subscriptionOf(id)
  const attached = (method: string) => billing.stripe.paymentMethods.attach(method, { customer: String(customer) })
  const [failing, good] = [await attached('pm_card_chargeCustomerFail'), await attached('pm_card_visa')]
  await billing.stripe.subscriptions.update(String(subscription), { default_payment_method: failing.id })
  await billing.stripe.customers.update(String(customer), { invoice_settings: { default_payment_method: good.id } })
  await advance(id, '33d')
  const [owed] = await invoicesOf(id, '?status=open')
  expect(await post(id, `invoices/${owed!.id}/pay`)).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
  expect(await succeed(id, `invoices/${owed!.id}/pay`, { payment_method_id: 'pm_card_visa' })).toMatchObject({ status: 'paid' })
})

type Method = { readonly id: string; readonly is_default: boolean }

test('a page of invoices after one that is not there, or is another organization’s, is refused: it would look like the end', async () => {
  const pageOf = async (id: string, after = '') => {
    const { status, body } = await billing.call(id, 'GET', `/api/v1/billing/invoices${after && `?starting_after=${after}`}`)
    return { status, body: body as unknown as { id: string }[] }
  }
  for (const id of ['pages', 'pages_of_others']) {
    await billing.createOrganization(id)
    await post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  }
  const [own] = (await pageOf('pages')).body
  const [foreign] = (await pageOf('pages_of_others')).body
  expect(await pageOf('pages', own!.id)).toEqual({ status: 200, body: [] })
  for (const after of ['in_none', foreign!.id]) {
    expect(await pageOf('pages', after)).toMatchObject({ status: 400, body: { field: 'starting_after' } })
  }
})

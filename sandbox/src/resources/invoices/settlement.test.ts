import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { NOW, startBillingBench } from '../../../test/billing.ts'

const intentOf = (invoice: Stripe.Invoice): string => {
  const [payment] = invoice.payments?.data ?? []
  return payment?.payment.payment_intent as string
}

test('confirming the first invoice’s intent makes an incomplete subscription active', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id } = await customer(null)
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    payment_behavior: 'default_incomplete',
    payment_settings: { save_default_payment_method: 'on_subscription' },
    expand: ['latest_invoice.payments'],
  })
  expect(subscription.status).toBe('incomplete')
  const intent = intentOf(subscription.latest_invoice as Stripe.Invoice)
  mark()
  await stripe.paymentIntents.confirm(intent, { payment_method: 'pm_card_visa', return_url: 'https://example.com/' })
  const active = await stripe.subscriptions.retrieve(subscription.id, { expand: ['latest_invoice'] })
  expect(active).toMatchObject({ status: 'active', latest_invoice: { status: 'paid', amount_paid: 2900 } })
  expect(active.default_payment_method).toMatch(/^pm_/)
  expect(since().filter((type) => type.startsWith('invoice') || type.startsWith('customer.subscription'))).toEqual([
    'invoice.updated',
    'invoice_payment.paid',
    'invoice.paid',
    'invoice.payment_succeeded',
    'customer.subscription.updated',
  ])
})

test('a declined confirmation tells of the failed payment and leaves the subscription incomplete', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id } = await customer(null)
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    payment_behavior: 'default_incomplete',
    expand: ['latest_invoice.payments'],
  })
  const intent = intentOf(subscription.latest_invoice as Stripe.Invoice)
  mark()
  await expect(
    stripe.paymentIntents.confirm(intent, { payment_method: 'pm_card_chargeDeclined', return_url: 'https://example.com/' }),
  ).rejects.toMatchObject({ statusCode: 402 })
  expect(since()).toContain('invoice.payment_failed')
  expect((await stripe.subscriptions.retrieve(subscription.id)).status).toBe('incomplete')
})

test('a card that wants authentication leaves the first invoice open until it is given', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const pro = await price(2900)
  const { id } = await customer('pm_card_authenticationRequired')
  mark()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], expand: ['latest_invoice'] })
  expect(subscription).toMatchObject({ status: 'incomplete', latest_invoice: { status: 'open', attempt_count: 1 } })
  expect(since()).toContain('invoice.payment_action_required')
})

test('a trial without anything to pay asks for the payment method with a setup intent', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(2900)
  const { id } = await customer(null)
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    trial_period_days: 7,
    payment_behavior: 'default_incomplete',
    expand: ['pending_setup_intent'],
  })
  expect(subscription).toMatchObject({ status: 'trialing', trial_end: NOW + 7 * 86_400 })
  const setup = subscription.pending_setup_intent as Stripe.SetupIntent
  await stripe.setupIntents.confirm(setup.id, { payment_method: 'pm_card_visa', return_url: 'https://example.com/' })
  const ready = await stripe.subscriptions.retrieve(subscription.id)
  expect(ready.pending_setup_intent).toBeNull()
  expect(ready.default_payment_method).toMatch(/^pm_/)
})

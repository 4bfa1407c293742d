import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { NOW, startTestSandbox, type TestSandbox } from '../../../test/contract.ts'
import { cardFields, openPage, sendForm, type Page } from '../../../test/pages.ts'
import { refusal } from '../../../test/refusal.ts'

interface Setting extends TestSandbox {
  readonly customer: string
  readonly starter: string
  readonly pro: string
  readonly subscription: Stripe.Subscription
  /** Opens a portal session and answers its address. */
  readonly portal: (more?: Partial<Stripe.BillingPortal.SessionCreateParams>) => Promise<string>
  readonly current: () => Promise<Stripe.Subscription>
}

async function subscribed(more: Partial<Stripe.SubscriptionCreateParams> = {}): Promise<Setting> {
  const test = await startTestSandbox()
  const { stripe } = test
  const plan = async (name: string, unit_amount: number): Promise<string> =>
    (await stripe.prices.create({ currency: 'usd', product_data: { name }, recurring: { interval: 'month' }, unit_amount })).id
  const [starter, pro] = [await plan('Starter', 1000), await plan('Pro', 2900)]
  const { id: customer } = await stripe.customers.create({
    email: 'payer@example.com',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
    name: 'P. Payer',
    payment_method: 'pm_card_visa',
  })
  const subscription = await stripe.subscriptions.create({ customer, items: [{ price: starter }], ...more })
  return {
    ...test,
    current: () => stripe.subscriptions.retrieve(subscription.id),
    customer,
    portal: async (options = {}) =>
      (await stripe.billingPortal.sessions.create({ customer, return_url: 'https://shop.example/account', ...options })).url,
    pro,
    starter,
    subscription,
  }
}

/** Follows a redirect within the sandbox. */
async function follow(test: TestSandbox, page: Page): Promise<Page> {
  expect(page.status).toBe(303)
  return openPage(new URL(page.location, test.sandbox.url).href)
}

describe('the billing portal', () => {
  it('shows subscription, card, information and invoices, and the way back', async () => {
    const test = await subscribed()
    const page = await openPage(await test.portal())
    expect(page.status).toBe(200)
    for (const words of [
      'Starter',
      '$10.00 per month',
      'Next invoice on February 15, 2026',
      'Visa ending in 4242',
      'payer@example.com',
      'paid',
    ]) {
      expect(page.text).toContain(words)
    }
    expect(page.html).toContain('href="https://shop.example/account"')
    expect(test.eventTypes()).toContain('billing_portal.session.created')
  })

  it('changes the plan after showing what it comes to: the preview is the deed', async () => {
    const test = await subscribed()
    const url = await test.portal()
    const step = `${url}/subscriptions/${test.subscription.id}`
    const choice = await openPage(`${step}/update`)
    expect(choice.text).toContain('Pro $29.00 per month')
    const before = test.events().length
    const preview = await openPage(`${step}/confirm?price=${test.pro}`)
    expect(preview.text).toContain('To Pro, $29.00 per month')
    expect(preview.text).toContain('-$10.00')
    expect(preview.text).toContain('Next invoice on February 15, 2026 $48.00')
    expect(test.events()).toHaveLength(before)
    expect((await test.current()).items.data[0]?.price.id).toBe(test.starter)

    const home = await follow(test, await sendForm(`${step}/confirm`, { price: test.pro }))
    expect(home.text).toContain('The plan was changed.')
    expect((await test.current()).items.data[0]?.price.id).toBe(test.pro)
    expect(test.eventTypes(before)).toContain('customer.subscription.updated')
    const upcoming = await test.stripe.invoices.createPreview({ subscription: test.subscription.id })
    expect(upcoming.amount_due).toBe(4800)
  })

  it('leaves the plan as it was when the card is declined', async () => {
    const test = await subscribed()
    const configuration = await test.stripe.billingPortal.configurations.create({
      features: {
        subscription_update: {
          default_allowed_updates: ['price'],
          enabled: true,
          products: [{ prices: [test.pro], product: (await test.stripe.prices.retrieve(test.pro)).product as string }],
          proration_behavior: 'always_invoice',
        },
      },
    })
    const bad = await test.stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: test.customer })
    await test.stripe.customers.update(test.customer, { invoice_settings: { default_payment_method: bad.id } })
    const step = `${await test.portal({ configuration: configuration.id })}/subscriptions/${test.subscription.id}/confirm`
    expect((await openPage(`${step}?price=${test.pro}`)).text).toContain('Due now $19.00')
    const declined = await sendForm(step, { price: test.pro })
    expect(declined.status).toBe(402)
    expect(declined.text).toContain('Your card was declined.')
    expect((await test.current()).items.data[0]?.price.id).toBe(test.starter)
    expect(test.sandbox.all('invoice')).toHaveLength(1)
  })

  it('refuses a plan or a quantity that is not offered', async () => {
    const test = await subscribed()
    const other = await test.stripe.prices.create({ currency: 'usd', product_data: { name: 'Once' }, unit_amount: 5 })
    const step = `${await test.portal()}/subscriptions/${test.subscription.id}/confirm`
    expect((await openPage(`${step}?price=${other.id}`)).text).toContain('This plan is not offered.')
    expect((await openPage(`${step}?price=${test.pro}&quantity=0`)).text).toContain('The quantity must be 1 or more.')
    expect((await sendForm(step, { price: other.id })).status).toBe(400)
    expect((await openPage(`${step}?price=${test.pro}&quantity=3`)).text).toContain('$29.00 × 3 per month')
  })

  it.each([
    ['flexible', { cancel_at: NOW + 31 * 86_400, cancel_at_period_end: false }],
    ['classic', { cancel_at: NOW + 31 * 86_400, cancel_at_period_end: true }],
  ] as const)('cancels at the period end (%s mode), and takes it back', async (type, expected) => {
    const test = await subscribed({ billing_mode: { type } })
    const url = await test.portal()
    const step = `${url}/subscriptions/${test.subscription.id}`
    expect((await openPage(`${step}/cancel`)).text).toContain('Starter can be used until February 15, 2026')
    const home = await follow(test, await sendForm(`${step}/cancel`))
    expect(home.text).toContain('The cancellation is scheduled.')
    expect(home.text).toContain('Ends on February 15, 2026.')
    expect(await test.current()).toMatchObject({
      ...expected,
      cancellation_details: { reason: 'cancellation_requested' },
      status: 'active',
    })
    await follow(test, await sendForm(`${step}/renew`))
    expect(await test.current()).toMatchObject({ cancel_at: null, cancel_at_period_end: false, status: 'active' })
  })

  it('cancels at once where configured, with the reason', async () => {
    const test = await subscribed()
    const configuration = await test.stripe.billingPortal.configurations.create({
      features: {
        subscription_cancel: {
          cancellation_reason: { enabled: true, options: ['too_expensive', 'other'] },
          enabled: true,
          mode: 'immediately',
        },
      },
    })
    const step = `${await test.portal({ configuration: configuration.id })}/subscriptions/${test.subscription.id}/cancel`
    expect((await openPage(step)).text).toContain('It is too expensive')
    expect((await sendForm(step, { comment: 'Too much <money>', feedback: 'too_expensive' })).status).toBe(303)
    expect(await test.current()).toMatchObject({
      cancellation_details: { comment: 'Too much <money>', feedback: 'too_expensive' },
      status: 'canceled',
    })
    expect((await sendForm(step)).status).toBe(404)
  })

  it('replaces the card for customer and subscription, declines in words, and asks for authentication', async () => {
    const test = await subscribed()
    const method = (await test.stripe.customers.listPaymentMethods(test.customer)).data[0]?.id ?? ''
    await test.stripe.subscriptions.update(test.subscription.id, { default_payment_method: method })
    const url = await test.portal()
    expect((await sendForm(`${url}/payment-method`, cardFields('4000000000000002'))).text).toContain('Your card was declined.')
    const home = await follow(test, await sendForm(`${url}/payment-method`, cardFields('4000000000009995')))
    expect(home.text).toContain('The card was saved.')
    expect(home.text).toContain('Visa ending in 9995 default')
    const customer = (await test.stripe.customers.retrieve(test.customer)) as Stripe.Customer
    expect((await test.current()).default_payment_method).toBe(customer.invoice_settings.default_payment_method)

    const asked = await sendForm(`${url}/payment-method`, cardFields('4000002500003155'))
    const back = await sendForm(asked.location, { outcome: 'complete' })
    expect((await follow(test, await openPage(back.location))).text).toContain('Visa ending in 3155 default')
  })

  it('changes what the customer may change', async () => {
    const test = await subscribed()
    const url = `${await test.portal()}/customer`
    const wrong = await sendForm(url, { email: 'nobody', name: 'N. Ew' })
    expect(wrong.status).toBe(400)
    expect(wrong.html).toContain('value="N. Ew"')
    await sendForm(url, {
      city: 'Berlin',
      country: 'de',
      email: 'new@example.com',
      line1: 'Allee 1',
      name: 'N. Ew',
      phone: '+49',
      postal_code: '10115',
    })
    expect((await test.stripe.customers.retrieve(test.customer)) as unknown).toMatchObject({
      address: { city: 'Berlin', country: 'DE' },
      email: 'new@example.com',
      name: 'N. Ew',
    })
  })

  it('pauses without an end and resumes, or for a time', async () => {
    const test = await subscribed()
    const configure = async (pause: Stripe.BillingPortal.ConfigurationCreateParams.Features.SubscriptionPause): Promise<string> =>
      (await test.stripe.billingPortal.configurations.create({ features: { subscription_pause: pause } })).id
    const open = await configure({ enabled: true })
    const step = `${await test.portal({ configuration: open })}/subscriptions/${test.subscription.id}`
    expect((await follow(test, await sendForm(`${step}/pause`))).text).toContain('Paused until you resume it.')
    expect((await test.current()).status).toBe('paused')
    await sendForm(`${step}/resume`)
    expect((await test.current()).status).toBe('active')

    const limited = await configure({
      duration: { interval_options: [{ interval: 'month', interval_count: 2 }], type: 'interval_options' },
      enabled: true,
    })
    const timed = `${await test.portal({ configuration: limited })}/subscriptions/${test.subscription.id}`
    expect((await openPage(`${timed}/pause`)).text).toContain('2 months until March 15, 2026')
    const refused = await sendForm(`${timed}/pause`, { duration: '9-year' })
    expect(refused.status).toBe(400)
    expect(refused.text).toContain('Choose for how long to pause.')
    expect((await test.current()).pause_collection).toBeNull()
    expect((await follow(test, await sendForm(`${timed}/pause`, { duration: '2-month' }))).text).toContain(
      'Paused until March 15, 2026.',
    )
    await sendForm(`${timed}/resume`)
    expect(await test.current()).toMatchObject({ pause_collection: null, status: 'active' })
  })

  it('is closed to other customers, to unknown addresses and after an hour', async () => {
    const test = await subscribed()
    const url = await test.portal()
    const other = await test.stripe.customers.create({})
    const foreign = (await test.stripe.billingPortal.sessions.create({ customer: other.id })).url
    expect((await sendForm(`${foreign}/subscriptions/${test.subscription.id}/cancel`)).status).toBe(404)
    expect((await openPage(`${url}x`)).status).toBe(404)
    test.sandbox.advanceTo(NOW + 3600)
    expect((await openPage(url)).status).toBe(404)
    expect((await test.current()).status).toBe('active')
  })
})

describe('flows into the billing portal', () => {
  it.each([
    ['customer_update', '/customer', 'Update information'],
    ['payment_method_update', '/payment-method', 'Update payment method'],
  ] as const)('%s leads straight to its step', async (type, path, title) => {
    const test = await subscribed()
    const url = await test.portal({ flow_data: { type } })
    const page = await openPage(url)
    expect(page.location).toBe(new URL(url).pathname + path)
    expect((await follow(test, page)).text).toContain(title)
  })

  it('a cancellation ends at the address that the flow names, and the portal is open afterwards', async () => {
    const test = await subscribed()
    const url = await test.portal({
      flow_data: {
        after_completion: { redirect: { return_url: 'https://shop.example/bye' }, type: 'redirect' },
        subscription_cancel: { subscription: test.subscription.id },
        type: 'subscription_cancel',
      },
    })
    const step = new URL((await openPage(url)).location, url).href
    expect((await sendForm(step)).location).toBe('https://shop.example/bye')
    expect((await openPage(url)).status).toBe(200)
  })

  it('a confirmed change shows and makes exactly that change', async () => {
    const test = await subscribed()
    const url = await test.portal({
      flow_data: {
        after_completion: { hosted_confirmation: { custom_message: 'Welcome to Pro' }, type: 'hosted_confirmation' },
        subscription_update_confirm: {
          items: [{ id: test.subscription.items.data[0]?.id ?? '', price: test.pro, quantity: 2 }],
          subscription: test.subscription.id,
        },
        type: 'subscription_update_confirm',
      },
    })
    const step = new URL((await openPage(url)).location, url).href
    expect((await openPage(step)).text).toContain('To Pro, $29.00 × 2 per month')
    // What the form says does not matter: the flow decides.
    const done = await follow(test, await sendForm(step, { price: test.starter, quantity: '9' }))
    expect(done.text).toContain('Welcome to Pro')
    expect((await test.current()).items.data[0]).toMatchObject({ price: { id: test.pro }, quantity: 2 })
  })

  it('an offer may keep the customer', async () => {
    const test = await subscribed()
    const coupon = await test.stripe.coupons.create({ duration: 'forever', name: 'Half price', percent_off: 50 })
    const url = await test.portal({
      flow_data: {
        subscription_cancel: {
          retention: { coupon_offer: { coupon: coupon.id }, type: 'coupon_offer' },
          subscription: test.subscription.id,
        },
        type: 'subscription_cancel',
      },
    })
    const step = new URL((await openPage(url)).location, url).href
    expect((await openPage(step)).text).toContain('Stay, with Half price')
    await sendForm(step, { action: 'stay' })
    expect(await test.current()).toMatchObject({ cancel_at: null, discounts: [expect.any(String)] })
  })

  it('subscription_update offers the plans', async () => {
    const test = await subscribed()
    const url = await test.portal({
      flow_data: { subscription_update: { subscription: test.subscription.id }, type: 'subscription_update' },
    })
    expect((await follow(test, await openPage(url))).text).toContain('Change plan')
  })
})

describe('what the portal API refuses', () => {
  it('flows of disabled features, foreign subscriptions and missing steps', async () => {
    const test = await subscribed()
    const other = await test.stripe.customers.create({})
    const open = (params: Partial<Stripe.BillingPortal.SessionCreateParams>): Promise<unknown> =>
      test.stripe.billingPortal.sessions.create({ customer: test.customer, ...params })
    const flow = { subscription_cancel: { subscription: test.subscription.id }, type: 'subscription_cancel' } as const
    expect(await refusal(open({ customer: other.id, flow_data: flow }))).toMatchObject({
      param: 'flow_data[subscription_cancel][subscription]',
    })
    expect(await refusal(open({ flow_data: { type: 'subscription_cancel' } }))).toMatchObject({ code: 'parameter_missing' })
    const bare = await test.stripe.billingPortal.configurations.create({ features: { invoice_history: { enabled: true } } })
    expect(await refusal(open({ configuration: bare.id, flow_data: flow }))).toMatchObject({ param: 'flow_data[type]' })
    const item = test.subscription.items.data[0]?.id ?? ''
    const confirm = (price: string) =>
      open({
        flow_data: {
          subscription_update_confirm: { items: [{ id: item, price, quantity: 1 }], subscription: test.subscription.id },
          type: 'subscription_update_confirm',
        },
      })
    expect(await refusal(confirm(test.starter))).toMatchObject({
      message: `Cannot update the subscription ${test.subscription.id} because there are no changes to confirm.`,
    })
    await confirm(test.pro)
    await test.stripe.subscriptions.update(test.subscription.id, { cancel_at_period_end: true })
    expect(await refusal(open({ flow_data: flow }))).toMatchObject({
      message: `The subscription ${test.subscription.id} is already set to be canceled at period end.`,
    })
    await test.stripe.billingPortal.configurations.update(bare.id, { active: false })
    expect(await refusal(open({ configuration: bare.id }))).toMatchObject({ param: 'configuration' })
    expect(await refusal(open({ return_url: 'javascript:alert(1)' }))).toMatchObject({ code: 'url_invalid' })
  })

  it('keeps configurations: created, changed, listed, announced', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const made = await stripe.billingPortal.configurations.create({
      business_profile: { headline: 'Acme billing' },
      default_return_url: 'https://shop.example',
      features: { customer_update: { allowed_updates: ['email'], enabled: true } },
    })
    expect(made).toMatchObject({ active: true, features: { customer_update: { allowed_updates: ['email'] } }, is_default: false })
    const changed = await stripe.billingPortal.configurations.update(made.id, {
      features: { invoice_history: { enabled: true } },
      metadata: { a: '1' },
    })
    expect(changed.features).toMatchObject({ customer_update: { enabled: true }, invoice_history: { enabled: true } })
    expect((await stripe.billingPortal.configurations.list({ is_default: false })).data.map(({ id }) => id)).toEqual([made.id])
    expect(eventTypes()).toEqual(['billing_portal.configuration.created', 'billing_portal.configuration.updated'])
    expect(
      await refusal(stripe.billingPortal.configurations.create({ features: { customer_update: { enabled: true } } })),
    ).toMatchObject({
      param: 'features[customer_update][allowed_updates]',
    })
  })

  it('answers a customer session with its components', async () => {
    const { stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const session = await stripe.customerSessions.create({
      components: { pricing_table: { enabled: true } },
      customer: customer.id,
    })
    expect(session).toMatchObject({
      components: { buy_button: { enabled: false }, pricing_table: { enabled: true } },
      customer: customer.id,
    })
    expect(session.expires_at).toBe(session.created + 1800)
  })
})

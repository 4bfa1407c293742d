import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { startTestSandbox, type TestSandbox } from '../../../test/contract.ts'
import { idOf } from '../../../test/ids.ts'
import { cardFields, openPage, sendForm } from '../../../test/pages.ts'
import { refusal } from '../../../test/refusal.ts'

const success_url = 'https://shop.example/done?session={CHECKOUT_SESSION_ID}'
const cancel_url = 'https://shop.example/prices'

async function proPrice(stripe: Stripe, more: Partial<Stripe.PriceCreateParams> = {}): Promise<Stripe.Price> {
  return stripe.prices.create({
    currency: 'usd',
    product_data: { name: 'Pro <plan>' },
    recurring: { interval: 'month' },
    unit_amount: 2900,
    ...more,
  })
}

async function subscriptionSession(
  { stripe }: Pick<TestSandbox, 'stripe'>,
  more: Partial<Stripe.Checkout.SessionCreateParams> = {},
): Promise<Stripe.Checkout.Session & { url: string }> {
  const price = await proPrice(stripe)
  const session = await stripe.checkout.sessions.create({
    cancel_url,
    line_items: [{ price: price.id, quantity: 1 }],
    mode: 'subscription',
    success_url,
    ...more,
  })
  return { ...session, url: session.url ?? '' }
}

const payer = { email: 'payer@example.com' }

describe('a checkout session in subscription mode', () => {
  it('shows the order and sells the subscription when the page is paid', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test, { client_reference_id: 'org_1', metadata: { plan: 'pro' } })
    expect(session).toMatchObject({
      amount_total: 2900,
      currency: 'usd',
      payment_status: 'unpaid',
      status: 'open',
      subscription: null,
    })
    const page = await openPage(session.url)
    expect(page.status).toBe(200)
    expect(page.text).toContain('Pro <plan> $29.00 per month')
    for (const name of ['email', 'card_number', 'exp', 'cvc']) expect(page.html).toContain(`name="${name}"`)
    expect(page.html).toContain(`href="${cancel_url}"`)

    const before = test.eventTypes().length
    const paid = await sendForm(session.url, { ...payer, ...cardFields('4242424242424242') })
    expect(paid.status).toBe(303)
    expect(paid.location).toBe(`https://shop.example/done?session=${session.id}`)

    const done = await test.stripe.checkout.sessions.retrieve(session.id, { expand: ['subscription', 'invoice', 'customer'] })
    expect(done).toMatchObject({
      client_reference_id: 'org_1',
      customer: { email: 'payer@example.com' },
      customer_details: { email: 'payer@example.com' },
      invoice: { amount_paid: 2900, status: 'paid' },
      metadata: { plan: 'pro' },
      payment_status: 'paid',
      status: 'complete',
      subscription: { status: 'active' },
      url: null,
    })
    const types = test.eventTypes(before)
    expect(types.indexOf('customer.created')).toBe(0)
    for (const [earlier, later] of [
      ['payment_method.attached', 'payment_intent.created'],
      ['payment_intent.created', 'charge.succeeded'],
      ['charge.succeeded', 'payment_intent.succeeded'],
      ['invoice.created', 'invoice.finalized'],
      ['invoice.finalized', 'invoice.paid'],
      ['invoice.paid', 'invoice.payment_succeeded'],
      ['customer.subscription.created', 'checkout.session.completed'],
    ] as const) {
      expect(types.indexOf(earlier), `${earlier} in ${types.join(' ')}`).toBeGreaterThanOrEqual(0)
      expect(types.indexOf(later), `${later} after ${earlier}`).toBeGreaterThan(types.indexOf(earlier))
    }
    expect(types.at(-1)).toBe('checkout.session.completed')
  })

  it('says in words why a card was declined, keeps what was typed and begins nothing', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test)
    const page = await sendForm(session.url, { ...payer, ...cardFields('4000000000000002') })
    expect(page.status).toBe(402)
    expect(page.text).toContain('Your card was declined.')
    expect(page.html).toContain('value="payer@example.com"')
    expect(page.html).toContain('value="12/34"')
    expect(page.html).not.toContain('4000000000000002')
    const lacking = await sendForm(session.url, { ...payer, ...cardFields('4000000000009995') })
    expect(lacking.text).toContain('Your card has insufficient funds.')
    expect(test.sandbox.all('subscription')).toEqual([])
    expect(test.sandbox.all('customer')).toEqual([])
    const paid = await sendForm(session.url, { ...payer, ...cardFields('4242424242424242') })
    expect(paid.status).toBe(303)
  })

  it.each([
    [{ ...cardFields('4242424242424241') }, 402, 'Your card number is incorrect.'],
    [{ ...cardFields('4242424242424242'), exp: '13/34' }, 400, 'Enter the expiry as month and year'],
    [{ ...cardFields('4242424242424242'), exp: '01/20' }, 402, 'expiration year is invalid'],
    [{ ...cardFields('4242424242424242'), cvc: '' }, 400, 'Enter the security code.'],
    [{ ...cardFields('4242424242424242'), email: 'nobody' }, 400, 'Enter an e-mail address such as'],
  ])('points at the field that is wrong: %j', async (fields, status, words) => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test)
    const page = await sendForm(session.url, { ...payer, ...fields })
    expect(page.status).toBe(status)
    expect(page.text).toContain('There is a problem')
    expect(page.text).toContain(words)
    expect(page.html).toContain('aria-invalid="true"')
  })

  it('begins a trial without a payment, with the card saved for its end', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test, { subscription_data: { metadata: { org: '7' }, trial_period_days: 14 } })
    expect(session).toMatchObject({ amount_total: 0 })
    const page = await openPage(session.url)
    expect(page.text).toContain('14 days free. Then $29.00 per month, from January 29, 2026 on.')
    expect((await sendForm(session.url, { ...payer, ...cardFields('4242424242424242') })).status).toBe(303)
    const done = await test.stripe.checkout.sessions.retrieve(session.id, { expand: ['subscription'] })
    expect(done.payment_status).toBe('no_payment_required')
    const subscription = done.subscription as Stripe.Subscription
    expect(subscription).toMatchObject({ metadata: { org: '7' }, status: 'trialing', trial_end: session.created + 14 * 86_400 })
    const methods = await test.stripe.paymentMethods.list({ customer: idOf(done.customer) })
    expect(subscription.default_payment_method).toBe(methods.data[0]?.id)
    expect(test.sandbox.all('charge')).toEqual([])
  })

  it('charges the part up to the anchor, as the page says', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test, { subscription_data: { billing_cycle_anchor: Date.UTC(2026, 1, 1) / 1000 } })
    const { text } = await openPage(session.url)
    await sendForm(session.url, { ...payer, ...cardFields('4242424242424242') })
    const done = await test.stripe.checkout.sessions.retrieve(session.id, { expand: ['invoice'] })
    const paid = (done.invoice as Stripe.Invoice).amount_paid
    expect(paid).toBeGreaterThan(1400)
    expect(paid).toBeLessThan(1700)
    expect(session.amount_total).toBe(paid)
    expect(text).toContain(`Due today $${(paid / 100).toFixed(2)}`)
  })

  it('takes off the discount that the session gives', async () => {
    const test = await startTestSandbox()
    const coupon = await test.stripe.coupons.create({ duration: 'forever', name: 'Partner', percent_off: 50 })
    const customer = await test.stripe.customers.create({ email: 'known@example.com' })
    const first = await subscriptionSession(test, { customer: customer.id, discounts: [{ coupon: coupon.id }] })
    await sendForm(first.url, cardFields('4242424242424242'))
    const done = await test.stripe.checkout.sessions.retrieve(first.id, { expand: ['invoice'] })
    expect(done).toMatchObject({ amount_total: 1450, invoice: { amount_paid: 1450 } })
  })

  it('asks for no card when nothing is due and the session says so', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test, {
      payment_method_collection: 'if_required',
      subscription_data: { trial_period_days: 7 },
    })
    expect((await openPage(session.url)).html).not.toContain('card_number')
    expect((await sendForm(session.url, payer)).status).toBe(303)
    expect(test.sandbox.all('subscription')[0]).toMatchObject({ default_payment_method: null, status: 'trialing' })
    expect(test.sandbox.all('payment_method')).toEqual([])
  })

  it('takes a promotion code where allowed, and counts it when the page is paid', async () => {
    const test = await startTestSandbox()
    const coupon = await test.stripe.coupons.create({ duration: 'forever', name: 'A fifth off', percent_off: 20 })
    await test.stripe.promotionCodes.create({ code: 'LAUNCH', promotion: { coupon: coupon.id, type: 'coupon' } })
    const session = await subscriptionSession(test, { allow_promotion_codes: true })
    const wrong = await sendForm(session.url, { action: 'apply_promotion_code', promotion_code: 'NOPE', ...payer })
    expect(wrong.text).toContain('This code is not valid.')
    const applied = await sendForm(session.url, { action: 'apply_promotion_code', promotion_code: 'launch', ...payer })
    expect(applied.text).toContain('A fifth off -$5.80')
    expect(applied.text).toContain('Due today $23.20')
    const removed = await sendForm(session.url, { action: 'remove_promotion_code', ...payer })
    expect(removed.text).toContain('Due today $29.00')
    await sendForm(session.url, { ...payer, ...cardFields('4242424242424242'), promotion_code: 'LAUNCH' })
    const done = await test.stripe.checkout.sessions.retrieve(session.id, { expand: ['invoice'] })
    expect(done).toMatchObject({ amount_total: 2320, invoice: { amount_paid: 2320 }, total_details: { amount_discount: 580 } })
    expect((await test.stripe.coupons.retrieve(coupon.id)).times_redeemed).toBe(1)
  })

  it('uses the customer given, and does not ask for their address', async () => {
    const test = await startTestSandbox()
    const customer = await test.stripe.customers.create({ email: 'known@example.com' })
    const session = await subscriptionSession(test, { customer: customer.id })
    expect((await openPage(session.url)).html).toContain('value="known@example.com" readonly')
    expect((await sendForm(session.url, cardFields('5555555555554444'))).status).toBe(303)
    expect(test.sandbox.all('customer')).toHaveLength(1)
    expect(test.sandbox.all('subscription')[0]?.customer).toBe(customer.id)
  })

  it('asks the holder of a 3D Secure card to authenticate before anything is sold', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test)
    const sent = await sendForm(session.url, { ...payer, ...cardFields('4000002500003155') })
    expect(sent).toMatchObject({ location: `/c/pay/${session.id}/authenticate`, status: 303 })
    expect(test.sandbox.all('subscription')).toEqual([])
    const challenge = test.sandbox.url + sent.location
    expect((await openPage(challenge)).text).toContain('pay $29.00 with Visa ending in 3155')
    const failed = await sendForm(challenge, { outcome: 'fail' })
    expect(failed.status).toBe(402)
    expect(failed.text).toContain('unable to authenticate')
    expect(test.sandbox.all('subscription')).toEqual([])
    await sendForm(session.url, { ...payer, ...cardFields('4000002500003155') })
    expect((await sendForm(challenge, { outcome: 'complete' })).location).toContain('https://shop.example/done')
    expect(test.sandbox.all('subscription')[0]?.status).toBe('active')
    expect((await openPage(challenge)).status).toBe(410)
  })
})

describe('the life of a checkout session', () => {
  it('expires after a day, or when told to, and sells nothing afterwards', async () => {
    const test = await startTestSandbox()
    const [first, second] = [await subscriptionSession(test), await subscriptionSession(test)]
    await test.stripe.checkout.sessions.expire(first.id)
    expect(await refusal(test.stripe.checkout.sessions.expire(first.id))).toMatchObject({ statusCode: 400 })
    test.sandbox.advanceTo(second.created + 86_400)
    expect((await test.stripe.checkout.sessions.retrieve(second.id)).status).toBe('expired')
    expect(test.eventTypes().filter((type) => type === 'checkout.session.expired')).toHaveLength(2)
    const page = await sendForm(second.url, { ...payer, ...cardFields('4242424242424242') })
    expect(page.status).toBe(410)
    expect(page.text).toContain('expired')
    expect(test.sandbox.all('subscription')).toEqual([])
  })

  it('is paid once: a second payment shows that it is complete and charges nothing', async () => {
    const test = await startTestSandbox()
    const session = await subscriptionSession(test)
    const fields = { ...payer, ...cardFields('4242424242424242') }
    const pages = await Promise.all([sendForm(session.url, fields), sendForm(session.url, fields)])
    expect(pages.map((page) => page.status).sort((left, right) => left - right)).toEqual([200, 303])
    expect(test.sandbox.all('charge')).toHaveLength(1)
    expect((await openPage(session.url)).text).toContain('This checkout is complete')
  })

  it('lists sessions by what they led to, and their lines in pages', async () => {
    const test = await startTestSandbox()
    const price = await proPrice(test.stripe)
    const other = await test.stripe.prices.create({ currency: 'usd', product_data: { name: 'Set-up' }, unit_amount: 1000 })
    const session = await subscriptionSession(test, {
      line_items: [
        { price: price.id, quantity: 2 },
        { price: other.id, quantity: 1 },
      ],
    })
    expect(session.amount_total).toBe(6800)
    await sendForm(session.url, { ...payer, ...cardFields('4242424242424242') })
    const done = await test.stripe.checkout.sessions.retrieve(session.id)
    const listed = await test.stripe.checkout.sessions.list({ subscription: idOf(done.subscription) })
    expect(listed.data.map(({ id }) => id)).toEqual([session.id])
    const lines = await test.stripe.checkout.sessions.listLineItems(session.id, { limit: 1 })
    expect(lines).toMatchObject({ data: [{ amount_total: 5800, quantity: 2 }], has_more: true })
    const invoice = await test.stripe.invoices.retrieve(idOf(done.invoice))
    expect(invoice.amount_paid).toBe(6800)
  })
})

describe('what a checkout session refuses', () => {
  it.each([
    [{ mode: undefined }, 'mode'],
    [{ line_items: [] }, 'line_items'],
    [{ mode: 'payment' as const }, 'mode'],
    [{ customer: 'cus_1', customer_email: 'a@example.com' }, 'customer'],
    [{ allow_promotion_codes: true, discounts: [{ coupon: 'x' }] }, 'allow_promotion_codes'],
    [{ success_url: 'javascript:alert(1)' }, 'success_url'],
    [{ expires_at: 1 }, 'expires_at'],
    [{ payment_intent_data: { description: 'x' } }, 'payment_intent_data'],
    [{ ui_mode: 'embedded_page' as const }, 'ui_mode'],
    [{ subscription_data: { trial_end: 1 } }, 'subscription_data[trial_end]'],
  ])('%j', async (change, param) => {
    const { stripe } = await startTestSandbox()
    const price = await proPrice(stripe)
    const base = { line_items: [{ price: price.id, quantity: 1 }], mode: 'subscription' as const, success_url }
    expect(
      await refusal(stripe.checkout.sessions.create({ ...base, ...change } as Stripe.Checkout.SessionCreateParams)),
    ).toMatchObject({ param, statusCode: 400 })
  })
})

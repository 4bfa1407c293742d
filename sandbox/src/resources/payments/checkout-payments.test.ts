import { describe, expect, it } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'
import { cardFields, openPage, sendForm } from '../../../test/pages.ts'

const success_url = 'https://shop.example/done?session={CHECKOUT_SESSION_ID}'
const payer = { email: 'payer@example.com' }

describe('a checkout session in payment mode', () => {
  it('takes one payment, for a guest unless a customer is wanted', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const session = await stripe.checkout.sessions.create({
      line_items: [{ price_data: { currency: 'eur', product_data: { name: 'Credits' }, unit_amount: 1050 }, quantity: 3 }],
      mode: 'payment',
      payment_intent_data: { description: 'Top-up', metadata: { kind: 'top_up' } },
      success_url,
    })
    expect(session).toMatchObject({ amount_total: 3150, currency: 'eur', customer: null, payment_intent: null })
    const declined = await sendForm(session.url ?? '', { ...payer, ...cardFields('4000000000009987') })
    expect(declined.status).toBe(402)
    await sendForm(session.url ?? '', { ...payer, ...cardFields('4242424242424242') })
    const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ['payment_intent', 'line_items'] })
    expect(done).toMatchObject({
      customer: null,
      line_items: { data: [{ amount_total: 3150, description: 'Credits', quantity: 3 }] },
      payment_intent: { amount_received: 3150, description: 'Top-up', metadata: { kind: 'top_up' }, status: 'succeeded' },
      payment_status: 'paid',
      status: 'complete',
    })
    expect(sandbox.all('charge').map((charge) => charge.status)).toEqual(['failed', 'succeeded'])
    expect(sandbox.all('customer')).toEqual([])
  })

  it('makes the paid invoice of a payment where asked for, with the coupon counted once', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const coupon = await stripe.coupons.create({ duration: 'once', percent_off: 10 })
    const session = await stripe.checkout.sessions.create({
      discounts: [{ coupon: coupon.id }],
      invoice_creation: { enabled: true, invoice_data: { description: 'Thanks', metadata: { order: '7' } } },
      line_items: [{ price_data: { currency: 'usd', product_data: { name: 'Book' }, unit_amount: 1000 }, quantity: 2 }],
      mode: 'payment',
      success_url,
    })
    await sendForm(session.url ?? '', { ...payer, ...cardFields('4242424242424242') })
    const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ['invoice.payments', 'customer'] })
    expect(done).toMatchObject({
      amount_total: 1800,
      customer: { email: 'payer@example.com' },
      invoice: {
        amount_paid: 1800,
        description: 'Thanks',
        metadata: { order: '7' },
        payments: { data: [{ payment: { payment_intent: done.payment_intent }, status: 'paid' }] },
        status: 'paid',
      },
    })
    expect(sandbox.all('charge')).toHaveLength(1)
    expect((await stripe.coupons.retrieve(coupon.id)).times_redeemed).toBe(1)
  })

  it('counts the coupon of a payment without an invoice as well', async () => {
    const { stripe } = await startTestSandbox()
    const coupon = await stripe.coupons.create({ amount_off: 300, currency: 'usd', duration: 'once', max_redemptions: 1 })
    const book = { price_data: { currency: 'usd', product_data: { name: 'Book' }, unit_amount: 1000 }, quantity: 1 }
    const open = async (): Promise<string> =>
      (
        await stripe.checkout.sessions.create({
          discounts: [{ coupon: coupon.id }],
          line_items: [book],
          mode: 'payment',
          success_url,
        })
      ).url ?? ''
    const [first, second] = [await open(), await open()]
    expect((await sendForm(first, { ...payer, ...cardFields('4242424242424242') })).status).toBe(303)
    expect((await sendForm(second, { ...payer, ...cardFields('4242424242424242') })).text).toContain('is used up')
    expect((await stripe.charges.list()).data.map(({ amount }) => amount)).toEqual([700])
  })

  it('lets the visitor change quantities within bounds, and charges no total that was not shown', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const session = await stripe.checkout.sessions.create({
      line_items: [
        {
          adjustable_quantity: { enabled: true, maximum: 5, minimum: 1 },
          price_data: { currency: 'usd', product_data: { name: 'Seat' }, unit_amount: 500 },
          quantity: 2,
        },
      ],
      mode: 'payment',
      success_url,
    })
    const url = session.url ?? ''
    const field = /name="(quantity_li_\w+)"/.exec((await openPage(url)).html)?.[1] ?? ''
    const fields = { ...payer, ...cardFields('4242424242424242') }
    expect((await sendForm(url, { ...fields, [field]: '9' })).text).toContain('Enter a quantity from 1 to 5.')
    const changed = await sendForm(url, { ...fields, [field]: '3' })
    expect(changed.status).toBe(200)
    expect(changed.text).toContain('The total has changed.')
    expect(changed.text).toContain('Due today $15.00')
    expect(sandbox.all('charge')).toEqual([])
    expect((await sendForm(url, { ...fields, [field]: '3' })).status).toBe(303)
    expect((await stripe.checkout.sessions.retrieve(session.id)).amount_total).toBe(1500)
  })

  it('asks for the questions and the billing address that the session requires', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const session = await stripe.checkout.sessions.create({
      billing_address_collection: 'required',
      custom_fields: [
        { key: 'team', label: { custom: 'Team', type: 'custom' }, text: { maximum_length: 8 }, type: 'text' },
        {
          dropdown: { options: [{ label: 'Small', value: 's' }] },
          key: 'size',
          label: { custom: 'Size', type: 'custom' },
          optional: true,
          type: 'dropdown',
        },
      ],
      customer_creation: 'always',
      line_items: [{ price_data: { currency: 'usd', product_data: { name: 'Book' }, unit_amount: 500 }, quantity: 1 }],
      mode: 'payment',
      success_url,
    })
    const url = session.url ?? ''
    const lacking = await sendForm(url, { ...payer, ...cardFields('4242424242424242'), custom_team: 'far too long' })
    for (const words of ['Team must have at most 8 characters.', 'Enter a city.', 'Enter the country as two letters']) {
      expect(lacking.text).toContain(words)
    }
    const address = { city: 'Berlin', country: 'de', line1: 'Allee 1', name: 'P. Payer', postal_code: '10115' }
    expect(
      (await sendForm(url, { ...payer, ...cardFields('4242424242424242'), ...address, custom_size: 's', custom_team: 'Blue' }))
        .status,
    ).toBe(303)
    const done = await stripe.checkout.sessions.retrieve(session.id)
    expect(done.custom_fields).toMatchObject([{ text: { value: 'Blue' } }, { dropdown: { value: 's' } }])
    expect(done.customer_details).toMatchObject({ address: { city: 'Berlin', country: 'DE' }, name: 'P. Payer' })
    expect(sandbox.all('customer')[0]).toMatchObject({ address: { postal_code: '10115' }, name: 'P. Payer' })
  })
})

describe('a checkout session in setup mode', () => {
  it('saves a card for the customer', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create({ email: 'known@example.com' })
    const session = await stripe.checkout.sessions.create({ currency: 'usd', customer: customer.id, mode: 'setup', success_url })
    expect(session).toMatchObject({ amount_total: null, payment_status: 'no_payment_required' })
    const declined = await sendForm(session.url ?? '', cardFields('4000000000000002'))
    expect(declined.status).toBe(402)
    expect((await sendForm(session.url ?? '', cardFields('4242424242424242'))).status).toBe(303)
    const done = await stripe.checkout.sessions.retrieve(session.id, { expand: ['setup_intent'] })
    expect(done).toMatchObject({ setup_intent: { customer: customer.id, status: 'succeeded' }, status: 'complete' })
    expect((await stripe.paymentMethods.list({ customer: customer.id })).data).toHaveLength(1)
    expect(eventTypes()).toEqual([
      'customer.created',
      'setup_intent.created',
      'setup_intent.setup_failed',
      'payment_method.attached',
      'setup_intent.succeeded',
      'checkout.session.completed',
    ])
  })
})

import { describe, expect, it } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'
import { refusal } from '../../../test/refusal.ts'

describe('payment methods', () => {
  it('keeps brand, last four digits, expiry and a fingerprint of a card, and no number anywhere', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const method = await stripe.paymentMethods.create(
      {
        type: 'card',
        card: { number: '4242 4242 4242 4242', exp_month: 12, exp_year: 2034, cvc: '737' },
        metadata: { plan: 'pro' },
      },
      { idempotencyKey: 'card' },
    )
    expect(method.card).toMatchObject({ brand: 'visa', last4: '4242', exp_month: 12, exp_year: 2034, funding: 'credit' })
    const kept = (['payment_method', 'event', '_idempotent_answer', '_delivery', '_setting'] as const).flatMap((name) =>
      sandbox.all(name),
    )
    expect(JSON.stringify(kept)).not.toContain('4242424242424242')
    expect(JSON.stringify(kept)).not.toContain('4242 4242 4242 4242')
    expect(JSON.stringify(kept)).not.toContain('737')
  })

  it('gives the same card the same fingerprint, and another card another', async () => {
    const { stripe } = await startTestSandbox()
    const [first, again, other] = await Promise.all(
      ['4242424242424242', '4242424242424242', '5555555555554444'].map((number) =>
        stripe.paymentMethods.create({ type: 'card', card: { number, exp_month: 1, exp_year: 2030 } }),
      ),
    )
    expect(again?.card?.fingerprint).toBe(first?.card?.fingerprint)
    expect(other?.card?.fingerprint).not.toBe(first?.card?.fingerprint)
    expect(other?.card?.brand).toBe('mastercard')
  })

  it.each([
    [{ number: '4242424242424241' }, 'incorrect_number', 'number'],
    [{ exp_month: 13 }, 'invalid_expiry_month', 'exp_month'],
    [{ exp_year: 2025 }, 'invalid_expiry_year', 'exp_year'],
    [{ exp_month: 0 }, 'invalid_expiry_month', 'exp_month'],
    [{ cvc: '12' }, 'invalid_cvc', 'cvc'],
  ])('refuses a card with %j: %s', async (change, code, param) => {
    const { stripe } = await startTestSandbox()
    const card = { number: '4242424242424242', exp_month: 12, exp_year: 2030, ...change }
    expect(await refusal(stripe.paymentMethods.create({ type: 'card', card }))).toMatchObject({
      code,
      param,
      statusCode: 402,
      type: 'StripeCardError',
    })
  })

  it('declines a valid number that is not a test card, and keeps nothing of it', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const card = { number: '4111111111111111', exp_month: 12, exp_year: 2030 }
    const error = await refusal(stripe.paymentMethods.create({ type: 'card', card }))
    expect(error).toMatchObject({ code: 'card_declined', decline_code: 'test_mode_live_card' })
    expect(sandbox.all('payment_method')).toEqual([])
  })

  it('makes a new method of a test id each time, attaches it and lists it newest first', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const first = await stripe.paymentMethods.attach('pm_card_visa', { customer: customer.id })
    const second = await stripe.paymentMethods.attach('pm_card_mastercard', { customer: customer.id })
    expect(first.id).toMatch(/^pm_\w{24}$/)
    expect(first.customer).toBe(customer.id)
    expect(eventTypes()).toEqual(['customer.created', 'payment_method.attached', 'payment_method.attached'])
    const listed = await stripe.paymentMethods.list({ customer: customer.id, type: 'card' })
    expect(listed.data.map((method) => method.id)).toEqual([second.id, first.id])
    const ofCustomer = await stripe.customers.listPaymentMethods(customer.id, { limit: 1 })
    expect(ofCustomer).toMatchObject({ has_more: true, data: [{ id: second.id }] })
    expect(await stripe.customers.retrievePaymentMethod(customer.id, first.id)).toMatchObject({ id: first.id })
  })

  it.each([
    ['pm_card_visa_chargeDeclined', 'card_declined', 'generic_decline'],
    ['pm_card_visa_chargeDeclinedLostCard', 'card_declined', 'lost_card'],
    ['pm_card_chargeDeclinedExpiredCard', 'expired_card', 'expired_card'],
    ['pm_card_chargeDeclinedIncorrectCvc', 'incorrect_cvc', 'incorrect_cvc'],
    ['pm_card_chargeDeclinedProcessingError', 'processing_error', 'processing_error'],
  ])('declines to attach %s', async (id, code, decline_code) => {
    const { eventTypes, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const error = await refusal(stripe.paymentMethods.attach(id, { customer: customer.id }))
    expect(error).toMatchObject({
      code,
      decline_code,
      statusCode: 402,
      doc_url: expect.stringContaining(code.replaceAll('_', '-')) as string,
    })
    expect(eventTypes()).toEqual(['customer.created'])
  })

  it('makes no customer when the method that comes with it is declined, and attaches it when it is not', async () => {
    const { events, sandbox, stripe } = await startTestSandbox()
    const declined = stripe.customers.create({ payment_method: 'pm_card_visa_chargeDeclined' })
    expect(await refusal(declined)).toMatchObject({ code: 'card_declined', statusCode: 402 })
    expect([sandbox.all('customer'), sandbox.all('payment_method'), events()]).toEqual([[], [], []])
    const customer = await stripe.customers.create({
      invoice_settings: { default_payment_method: 'pm_card_visa' },
      payment_method: 'pm_card_visa',
    })
    const [method] = (await stripe.customers.listPaymentMethods(customer.id)).data
    expect(customer.invoice_settings.default_payment_method).toBe(method?.id)
  })

  it('refuses a method of another customer, and a second life after detaching', async () => {
    const { stripe } = await startTestSandbox()
    const [one, two] = [await stripe.customers.create(), await stripe.customers.create()]
    const method = await stripe.paymentMethods.attach('pm_card_visa', { customer: one.id })
    expect(await refusal(stripe.paymentMethods.attach(method.id, { customer: two.id }))).toMatchObject({ statusCode: 400 })
    await stripe.paymentMethods.detach(method.id)
    expect(await refusal(stripe.paymentMethods.attach(method.id, { customer: one.id }))).toMatchObject({
      message: expect.stringContaining('may not be used again') as string,
    })
  })

  it('takes a detached method off the customer as default, and tells of it', async () => {
    const { events, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const method = await stripe.paymentMethods.attach('pm_card_visa', { customer: customer.id })
    await stripe.customers.update(customer.id, { invoice_settings: { default_payment_method: method.id } })
    await stripe.paymentMethods.detach(method.id)
    expect((await stripe.customers.retrieve(customer.id)) as unknown).toMatchObject({
      invoice_settings: { default_payment_method: null },
    })
    expect(events().slice(-2)).toMatchObject([
      { type: 'payment_method.detached', data: { previous_attributes: { customer: customer.id } } },
      { type: 'customer.updated', data: { previous_attributes: { invoice_settings: { default_payment_method: method.id } } } },
    ])
  })

  it('changes expiry, billing details and metadata of an attached method only', async () => {
    const { events, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const loose = await stripe.paymentMethods.create({ type: 'card', card: { token: 'tok_visa' } })
    expect(await refusal(stripe.paymentMethods.update(loose.id, { metadata: { a: '1' } }))).toMatchObject({ statusCode: 400 })
    await stripe.paymentMethods.attach(loose.id, { customer: customer.id })
    const changed = await stripe.paymentMethods.update(loose.id, {
      billing_details: { email: 'payer@example.com', address: { postal_code: '10115' } },
      card: { exp_month: 3, exp_year: 2040 },
      metadata: { a: '1' },
    })
    expect(changed).toMatchObject({
      billing_details: { email: 'payer@example.com', address: { postal_code: '10115', city: null } },
      card: { exp_month: 3, exp_year: 2040 },
      metadata: { a: '1' },
    })
    expect(events().at(-1)).toMatchObject({ type: 'payment_method.updated' })
  })

  it('says by name which kinds of method it does not play', async () => {
    const { stripe } = await startTestSandbox()
    const error = await refusal(
      stripe.paymentMethods.create({ type: 'sepa_debit', sepa_debit: { iban: 'DE89370400440532013000' } }),
    )
    expect(error.message).toContain('not supported')
  })
})

import { describe, expect, it } from 'vitest'
import type { Stripe } from 'stripe'
import { NOW, startTestSandbox } from '../../../test/contract.ts'
import { idOf } from '../../../test/ids.ts'
import { cardFields, openPage, sendForm } from '../../../test/pages.ts'
import { refusal } from '../../../test/refusal.ts'

const byCardAlone = { automatic_payment_methods: { allow_redirects: 'never', enabled: true } } as const
const ten = { amount: 1000, currency: 'usd', ...byCardAlone }

describe('payment intents', () => {
  it('charges a card in one call, with the events in order', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create({
      ...ten,
      confirm: true,
      description: 'Report',
      expand: ['latest_charge.balance_transaction'],
      metadata: { order: '7' },
      payment_method: 'pm_card_visa',
    })
    expect(intent).toMatchObject({ amount_received: 1000, last_payment_error: null, next_action: null, status: 'succeeded' })
    expect(intent.latest_charge).toMatchObject({
      amount: 1000,
      balance_transaction: { amount: 1000, fee: 59, net: 941, status: 'pending', type: 'charge' },
      captured: true,
      description: 'Report',
      metadata: { order: '7' },
      outcome: { network_status: 'approved_by_network', type: 'authorized' },
      paid: true,
      payment_method_details: { card: { brand: 'visa', last4: '4242' }, type: 'card' },
      status: 'succeeded',
    })
    expect(eventTypes()).toEqual(['payment_intent.created', 'charge.succeeded', 'payment_intent.succeeded'])
  })

  it('keeps a declined payment: a failed charge, the error on the intent, and 402 with both', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const error = await refusal(
      stripe.paymentIntents.create({ ...ten, confirm: true, payment_method: 'pm_card_visa_chargeDeclinedInsufficientFunds' }),
    )
    expect(error).toMatchObject({
      advice_code: 'try_again_later',
      code: 'card_declined',
      decline_code: 'insufficient_funds',
      doc_url: 'https://stripe.com/docs/error-codes/card-declined',
      message: 'Your card has insufficient funds.',
      statusCode: 402,
      type: 'StripeCardError',
    })
    const intent = await stripe.paymentIntents.retrieve(error.payment_intent?.id ?? '', { expand: ['latest_charge'] })
    expect(intent).toMatchObject({
      last_payment_error: {
        charge: error.charge,
        code: 'card_declined',
        payment_method: { card: { last4: '9995' } },
        type: 'card_error',
      },
      latest_charge: {
        failure_code: 'card_declined',
        outcome: { reason: 'insufficient_funds', type: 'issuer_declined' },
        paid: false,
        status: 'failed',
      },
      payment_method: null,
      status: 'requires_payment_method',
    })
    expect(eventTypes()).toEqual(['payment_intent.created', 'charge.failed', 'payment_intent.payment_failed'])
    const paid = await stripe.paymentIntents.confirm(intent.id, { payment_method: 'pm_card_visa' })
    expect(paid).toMatchObject({ last_payment_error: null, status: 'succeeded' })
  })

  it('replays a decline under its idempotency key without trying the card again', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const params = { ...ten, confirm: true, payment_method: 'pm_card_visa_chargeDeclined' } as const
    const first = await refusal(stripe.paymentIntents.create(params, { idempotencyKey: 'k' }))
    const again = await refusal(stripe.paymentIntents.create(params, { idempotencyKey: 'k' }))
    expect(again.charge).toBe(first.charge)
    expect(sandbox.all('charge')).toHaveLength(1)
  })

  it('needs a way back unless redirects are ruled out, as current API versions do', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const error = await refusal(
      stripe.paymentIntents.create({ amount: 1000, confirm: true, currency: 'usd', payment_method: 'pm_card_visa' }),
    )
    expect(error.message).toContain('you must provide a `return_url`')
    expect(sandbox.all('payment_intent')).toEqual([])
    const intent = await stripe.paymentIntents.create({
      amount: 1000,
      confirm: true,
      currency: 'usd',
      payment_method: 'pm_card_visa',
      return_url: 'https://shop.example/back',
    })
    expect(intent.status).toBe('succeeded')
  })

  it('holds and captures less than was authorized, and gives back an authorization that is canceled', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const held = await stripe.paymentIntents.create({
      ...ten,
      capture_method: 'manual',
      confirm: true,
      payment_method: 'pm_card_visa',
    })
    expect(held).toMatchObject({ amount_capturable: 1000, amount_received: 0, status: 'requires_capture' })
    expect(eventTypes().at(-1)).toBe('payment_intent.amount_capturable_updated')
    const captured = await stripe.paymentIntents.capture(held.id, { amount_to_capture: 700 }, { idempotencyKey: 'c' })
    expect(captured).toMatchObject({ amount_capturable: 0, amount_received: 700, status: 'succeeded' })
    expect(await stripe.charges.retrieve(idOf(captured.latest_charge))).toMatchObject({
      amount: 1000,
      amount_captured: 700,
      amount_refunded: 300,
      refunded: false,
    })
    const other = await stripe.paymentIntents.create({
      ...ten,
      capture_method: 'manual',
      confirm: true,
      payment_method: 'pm_card_visa',
    })
    const canceled = await stripe.paymentIntents.cancel(other.id, { cancellation_reason: 'requested_by_customer' })
    expect(canceled).toMatchObject({ cancellation_reason: 'requested_by_customer', status: 'canceled' })
    expect(await stripe.charges.retrieve(idOf(canceled.latest_charge))).toMatchObject({
      amount_refunded: 1000,
      captured: false,
      refunded: true,
    })
  })

  it('releases an authorization after seven days', async () => {
    const { eventTypes, sandbox, stripe } = await startTestSandbox()
    const held = await stripe.paymentIntents.create({
      ...ten,
      capture_method: 'manual',
      confirm: true,
      payment_method: 'pm_card_visa',
    })
    sandbox.advanceTo(NOW + 7 * 86_400)
    expect(await stripe.paymentIntents.retrieve(held.id)).toMatchObject({ cancellation_reason: 'automatic', status: 'canceled' })
    expect(eventTypes().slice(-2)).toEqual(['charge.expired', 'payment_intent.canceled'])
  })

  it.each([
    [{ amount: 0 }, 'parameter_invalid_integer', 'amount'],
    [{ amount: 49 }, 'amount_too_small', 'amount'],
    [{ amount: 100_000_000 }, 'amount_too_large', 'amount'],
    [{ currency: 'dollars' }, undefined, 'currency'],
    [{ customer: 'cus_none' }, 'resource_missing', 'customer'],
    [{ payment_method: 'pm_none' }, 'resource_missing', 'payment_method'],
    [{ off_session: true }, undefined, 'off_session'],
    [{ payment_method_options: { card: { moto: true } } }, undefined, 'payment_method_options.card.moto'],
  ])('refuses %j and makes nothing', async (change, code, param) => {
    const { sandbox, stripe } = await startTestSandbox()
    expect(await refusal(stripe.paymentIntents.create({ ...ten, ...change }))).toMatchObject({ code, param, statusCode: 400 })
    expect(sandbox.all('payment_intent')).toEqual([])
  })

  it('names the state when a step is not possible in it', async () => {
    const { stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create(ten)
    const missing = await refusal(stripe.paymentIntents.confirm(intent.id))
    expect(missing).toMatchObject({
      code: 'payment_intent_unexpected_state',
      message: expect.stringContaining("it's missing a payment method") as string,
    })
    expect(await refusal(stripe.paymentIntents.capture(intent.id))).toMatchObject({ code: 'payment_intent_unexpected_state' })
    await stripe.paymentIntents.confirm(intent.id, { payment_method: 'pm_card_visa' })
    for (const step of [
      stripe.paymentIntents.confirm(intent.id, { payment_method: 'pm_card_visa' }),
      stripe.paymentIntents.cancel(intent.id),
      stripe.paymentIntents.update(intent.id, { amount: 2000 }),
    ]) {
      expect(await refusal(step)).toMatchObject({ code: 'payment_intent_unexpected_state', payment_intent: { id: intent.id } })
    }
  })

  it('uses up a method that no customer keeps, and attaches one that is set up for later', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const method = await stripe.paymentMethods.create({ card: { token: 'tok_visa' }, type: 'card' })
    await stripe.paymentIntents.create({ ...ten, confirm: true, payment_method: method.id })
    expect((await refusal(stripe.paymentIntents.create({ ...ten, confirm: true, payment_method: method.id }))).message).toContain(
      'may not be used again',
    )
    const customer = await stripe.customers.create()
    const kept = await stripe.paymentIntents.create({
      ...ten,
      confirm: true,
      customer: customer.id,
      payment_method: 'pm_card_visa',
      setup_future_usage: 'off_session',
    })
    expect(eventTypes()).toContain('payment_method.attached')
    const again = await stripe.paymentIntents.create({
      ...ten,
      confirm: true,
      customer: customer.id,
      off_session: true,
      payment_method: idOf(kept.payment_method),
    })
    expect(again.status).toBe('succeeded')
  })

  it('pays by the form that stands where Stripe.js would', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create(ten)
    const url = `${sandbox.url}/pay/${intent.client_secret ?? ''}`
    expect((await openPage(url)).text).toContain('Pay $10.00')
    expect((await sendForm(url, cardFields('4000000000000002'))).text).toContain('Your card was declined.')
    expect((await sendForm(url, cardFields('4242424242424242'))).status).toBe(200)
    expect((await stripe.paymentIntents.retrieve(intent.id)).status).toBe('succeeded')
    expect((await openPage(`${url}x`)).status).toBe(404)
  })
})

describe('3D Secure', () => {
  const withCard = (payment_method: string): Stripe.PaymentIntentCreateParams => ({
    ...ten,
    confirm: true,
    payment_method,
    return_url: 'https://shop.example/back?order=7',
  })

  it('leads to a page, and back with the outcome', async () => {
    const { eventTypes, sandbox, stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create(withCard('pm_card_threeDSecure2Required'))
    expect(intent).toMatchObject({ latest_charge: null, next_action: { type: 'redirect_to_url' }, status: 'requires_action' })
    const url = intent.next_action?.redirect_to_url?.url ?? ''
    expect(url.startsWith(sandbox.url)).toBe(true)
    expect((await openPage(url)).text).toContain('pay $10.00 with Visa ending in 3220')
    const back = await sendForm(url, { outcome: 'complete' })
    expect(back.status).toBe(303)
    expect(Object.fromEntries(new URL(back.location).searchParams)).toEqual({
      order: '7',
      payment_intent: intent.id,
      payment_intent_client_secret: intent.client_secret,
      redirect_status: 'succeeded',
    })
    const paid = await stripe.paymentIntents.retrieve(intent.id, { expand: ['latest_charge'] })
    expect(paid).toMatchObject({
      latest_charge: { payment_method_details: { card: { three_d_secure: { result: 'authenticated' } } } },
      status: 'succeeded',
    })
    expect(eventTypes()).toEqual([
      'payment_intent.created',
      'payment_intent.requires_action',
      'charge.succeeded',
      'payment_intent.succeeded',
    ])
    expect((await sendForm(url, { outcome: 'complete' })).status).toBe(410)
    expect(sandbox.all('charge')).toHaveLength(1)
  })

  it('keeps the failure of an authentication on the intent', async () => {
    const { stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create(withCard('pm_card_authenticationRequired'))
    const back = await sendForm(intent.next_action?.redirect_to_url?.url ?? '', { outcome: 'fail' })
    expect(new URL(back.location).searchParams.get('redirect_status')).toBe('failed')
    expect(await stripe.paymentIntents.retrieve(intent.id)).toMatchObject({
      last_payment_error: { code: 'payment_intent_authentication_failure', payment_method: { card: { last4: '3184' } } },
      status: 'requires_payment_method',
    })
  })

  it('declines after the authentication where the card says so', async () => {
    const { stripe } = await startTestSandbox()
    const intent = await stripe.paymentIntents.create(withCard('pm_card_threeDSecureRequiredChargeDeclined'))
    const back = await sendForm(intent.next_action?.redirect_to_url?.url ?? '', { outcome: 'complete' })
    expect(new URL(back.location).searchParams.get('redirect_status')).toBe('failed')
    expect(await stripe.paymentIntents.retrieve(intent.id)).toMatchObject({ last_payment_error: { code: 'card_declined' } })
  })

  it('declines a payment without the holder until the card is set up (4000 0025 0000 3155)', async () => {
    const { stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const method = await stripe.paymentMethods.attach('pm_card_authenticationRequiredOnSetup', { customer: customer.id })
    const offSession = { ...ten, confirm: true, customer: customer.id, off_session: true, payment_method: method.id } as const
    const declined = await refusal(stripe.paymentIntents.create(offSession))
    expect(declined).toMatchObject({ code: 'authentication_required', decline_code: 'authentication_required', statusCode: 402 })
    const setup = await stripe.setupIntents.create({
      ...byCardAlone,
      confirm: true,
      customer: customer.id,
      payment_method: method.id,
      return_url: 'https://shop.example',
    })
    await sendForm(setup.next_action?.redirect_to_url?.url ?? '', { outcome: 'complete' })
    expect((await stripe.paymentIntents.create(offSession)).status).toBe('succeeded')
  })

  it('fails at once where the caller cannot handle an action', async () => {
    const { stripe } = await startTestSandbox()
    const params = { ...ten, confirm: true, error_on_requires_action: true, payment_method: 'pm_card_threeDSecure2Required' }
    expect(await refusal(stripe.paymentIntents.create(params))).toMatchObject({
      code: 'authentication_required',
      statusCode: 402,
    })
  })
})

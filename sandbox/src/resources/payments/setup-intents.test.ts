import { describe, expect, it } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'
import { idOf } from '../../../test/ids.ts'
import { cardFields, openPage, sendForm } from '../../../test/pages.ts'
import { refusal } from '../../../test/refusal.ts'

const byCardAlone = { automatic_payment_methods: { allow_redirects: 'never', enabled: true } } as const

describe('setup intents', () => {
  it('save a card for its customer by confirmation, and keep the attempt', async () => {
    const { eventTypes, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const intent = await stripe.setupIntents.create({ ...byCardAlone, customer: customer.id, metadata: { org: '1' } })
    expect(intent).toMatchObject({
      client_secret: expect.stringMatching(`^${intent.id}_secret_`) as string,
      status: 'requires_payment_method',
      usage: 'off_session',
    })
    const done = await stripe.setupIntents.confirm(intent.id, { payment_method: 'pm_card_visa' })
    expect(done).toMatchObject({ metadata: { org: '1' }, next_action: null, status: 'succeeded' })
    expect((await stripe.paymentMethods.retrieve(idOf(done.payment_method))).customer).toBe(customer.id)
    const attempts = await stripe.setupAttempts.list({ setup_intent: intent.id })
    expect(attempts.data).toMatchObject([{ id: done.latest_attempt, payment_method: done.payment_method, status: 'succeeded' }])
    expect(eventTypes()).toEqual([
      'customer.created',
      'setup_intent.created',
      'payment_method.attached',
      'setup_intent.succeeded',
    ])
  })

  it('keep a decline as an attempt, and take another card afterwards', async () => {
    const { stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const error = await refusal(
      stripe.setupIntents.create({
        ...byCardAlone,
        confirm: true,
        customer: customer.id,
        payment_method: 'pm_card_visa_chargeDeclined',
      }),
    )
    expect(error).toMatchObject({
      code: 'card_declined',
      decline_code: 'generic_decline',
      setup_intent: { status: 'requires_payment_method' },
      statusCode: 402,
    })
    const id = error.setup_intent?.id ?? ''
    expect((await stripe.setupIntents.retrieve(id)).last_setup_error).toMatchObject({
      code: 'card_declined',
      payment_method: { card: { last4: '0002' } },
    })
    await stripe.setupIntents.confirm(id, { payment_method: 'pm_card_mastercard' })
    const attempts = await stripe.setupAttempts.list({ setup_intent: id })
    expect(attempts.data.map((attempt) => attempt.status)).toEqual(['succeeded', 'failed'])
    expect((await stripe.paymentMethods.list({ customer: customer.id })).data).toHaveLength(1)
  })

  it('ask for authentication where the card does, without a way back too', async () => {
    const { eventTypes, sandbox, stripe } = await startTestSandbox()
    const intent = await stripe.setupIntents.create({
      ...byCardAlone,
      confirm: true,
      payment_method: 'pm_card_authenticationRequiredOnSetup',
    })
    expect(intent).toMatchObject({ next_action: { type: 'use_stripe_sdk' }, status: 'requires_action' })
    const url = `${sandbox.url}/3ds/${intent.client_secret ?? ''}`
    expect(intent.next_action?.use_stripe_sdk?.['stripe_js']).toBe(url)
    expect((await sendForm(url, { outcome: 'fail' })).status).toBe(402)
    expect((await stripe.setupIntents.retrieve(intent.id)).last_setup_error?.code).toBe('setup_intent_authentication_failure')
    await stripe.setupIntents.confirm(intent.id, { payment_method: 'pm_card_authenticationRequiredOnSetup' })
    expect((await sendForm(url, { outcome: 'complete' })).text).toContain('Authentication complete')
    expect((await stripe.setupIntents.retrieve(intent.id)).status).toBe('succeeded')
    expect(eventTypes().filter((type) => type !== 'setup_intent.created')).toEqual([
      'setup_intent.requires_action',
      'setup_intent.setup_failed',
      'setup_intent.requires_action',
      'setup_intent.succeeded',
    ])
  })

  it('are confirmed by a form that needs only the client secret, with the way back that the address carries', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const customer = await stripe.customers.create()
    const intent = await stripe.setupIntents.create({ customer: customer.id })
    const url = `${sandbox.url}/setup/${intent.client_secret ?? ''}?return_url=${encodeURIComponent('https://shop.example/wizard')}`
    expect((await openPage(url)).text).toContain('Save a card')
    expect((await sendForm(url, { card_number: '' })).text).toContain('Enter a card number.')
    expect((await sendForm(url, cardFields('4000000000000002'))).status).toBe(402)
    const saved = await sendForm(url, cardFields('4242424242424242'))
    expect(saved.status).toBe(303)
    expect(saved.location).toMatch(
      /^https:\/\/shop\.example\/wizard\?setup_intent=seti_\w+&setup_intent_client_secret=\w+&redirect_status=succeeded$/,
    )
    expect((await openPage(url)).text).toContain('The payment method was saved')
  })

  it('lead from the form over the challenge back to the shop', async () => {
    const { sandbox, stripe } = await startTestSandbox()
    const intent = await stripe.setupIntents.create({})
    const url = `${sandbox.url}/setup/${intent.client_secret ?? ''}?return_url=https%3A%2F%2Fshop.example%2F`
    const sent = await sendForm(url, cardFields('4000002500003155'))
    expect(sent.location).toBe(`${sandbox.url}/3ds/${intent.client_secret ?? ''}`)
    expect((await openPage(sent.location)).text).toContain('save this card')
    expect((await sendForm(sent.location, { outcome: 'complete' })).location).toContain('https://shop.example/?setup_intent=')
  })

  it('end when canceled, and refuse what their state does not allow', async () => {
    const { stripe } = await startTestSandbox()
    const intent = await stripe.setupIntents.create({})
    expect(await stripe.setupIntents.cancel(intent.id, { cancellation_reason: 'abandoned' })).toMatchObject({
      cancellation_reason: 'abandoned',
      status: 'canceled',
    })
    for (const step of [
      stripe.setupIntents.cancel(intent.id),
      stripe.setupIntents.confirm(intent.id, { payment_method: 'pm_card_visa' }),
      stripe.setupIntents.update(intent.id, { metadata: { a: '1' } }),
    ]) {
      expect(await refusal(step)).toMatchObject({ code: 'setup_intent_unexpected_state' })
    }
  })
})

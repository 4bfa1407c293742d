import { describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'

const billing = testSubscriptions({ webhooks: false })
const { advance, invoicesOf, onClock, post } = billing
const DISCOUNTS = '/api/v1/billing/discounts'

const make = (body: Record<string, unknown>) => billing.call('operator', 'POST', DISCOUNTS, body)
const read = (code: string) => billing.call('operator', 'GET', `${DISCOUNTS}/${code}`)

async function buy(id: string, code: string) {
  await billing.createOrganization(id)
  const body = { tier: 'pro', payment_method_id: 'pm_card_visa', discount_code: code }
  return post(id, 'subscribe', body)
}

describe('KF-12 a discount', () => {
  test('by percent lowers the first invoice, as previewed, and counts its redemptions', async () => {
    const made = await make({
      code: 'launch20',
      percent_off: 20,
      duration: 'repeating',
      duration_in_months: 3,
      max_redemptions: 10,
    })
    expect(made).toMatchObject({ status: 200, body: { code: 'LAUNCH20', percent_off: 20, times_redeemed: 0, valid: true } })
    await billing.createOrganization('previewing')
    const preview = await post('previewing', 'subscribe/preview', {
      tier: 'pro',
      payment_method_id: 'pm_card_visa',
      discount_code: 'Launch20',
    })
    expect(preview.body).toMatchObject({ amount_due_now_minor: 2320 })
    expect((await buy('bought', 'launch20')).status).toBe(200)
    const invoices = await billing.call('bought', 'GET', '/api/v1/billing/invoices')
    expect(invoices.body).toMatchObject([{ amount_paid_minor: 2320 }])
    expect((await read('LAUNCH20')).body).toMatchObject({ times_redeemed: 1, valid: true })
  })

  test.each([
    ['scheduled', []],
    ['scheduled, and again after an upgrade that was declined', ['pm_card_chargeCustomerFail']],
  ])('lives through a change at the end of the period: %s', async (how, declining) => {
    const code = `EVER${how.length}`
    await make({ code, percent_off: 50, duration: 'forever' })
    const id = await onClock(`ever${how.length}`)
    const call = (path: string, body: object) => post(id, path, body)
    await call('subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa', discount_code: code })
    const wish = { new_tier: 'starter', at: 'period_end' }
    const { body: preview } = await call('downgrade/preview', wish)
    expect(preview).toMatchObject({ next_invoice: { amount_minor: 450 } })
    expect((await call('downgrade', wish)).status).toBe(200)
    for (const card of declining) {
      await call('payment-methods', { payment_method_id: card })
      expect(await call('upgrade', { new_tier: 'enterprise' })).toMatchObject({ status: 402 })
    }
    await call('payment-methods', { payment_method_id: 'pm_card_visa' })
    const { body: subscription } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
    expect(subscription).toMatchObject({ scheduled_change: { tier: 'STARTER' } })
    await advance(id, '32d')
    const [renewal] = await invoicesOf(id)
    expect(renewal).toMatchObject({ billing_reason: 'subscription_cycle', amount_paid_minor: 450 })
    expect((await read(code)).body).toMatchObject({ times_redeemed: 1 })
  })

  test('by amount takes it off', async () => {
    expect((await make({ code: 'FIVE', amount_off: 500, duration: 'once' })).body).toMatchObject({
      amount_off: 500,
      currency: 'usd',
    })
    await buy('five_off', 'FIVE')
    const invoices = await billing.call('five_off', 'GET', '/api/v1/billing/invoices')
    expect(invoices.body).toMatchObject([{ amount_paid_minor: 2400 }])
  })

  test('of another currency is refused before anything is made, also by the preview', async () => {
    await make({ code: 'EUROS', amount_off: 500, currency: 'eur', duration: 'once' })
    expect(await buy('abroad', 'EUROS')).toMatchObject({ status: 400, body: { field: 'discount_code' } })
    const body = { tier: 'pro', payment_method_id: 'pm_card_visa', discount_code: 'EUROS' }
    const preview = await post('abroad', 'subscribe/preview', body)
    expect(preview).toMatchObject({ status: 400, body: { field: 'discount_code' } })
  })

  test('is redeemed as often as it may be, and not once more, however many ask at once', async () => {
    await make({ code: 'RACE', percent_off: 50, duration: 'once', max_redemptions: 2 })
    const answers = await Promise.all([1, 2, 3, 4, 5].map((index) => buy(`racer_${index}`, 'RACE')))
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 200, 409, 409, 409])
    expect((await read('RACE')).body).toMatchObject({ times_redeemed: 2, valid: false })
    const racers = billing.sandbox
      .all('subscription')
      .filter(({ metadata }) => metadata['tollgate_organization']?.startsWith('racer_'))
    expect(racers).toHaveLength(2)
  })

  test('made again is the same one, with other terms a conflict', async () => {
    const terms = { code: 'AGAIN', percent_off: 12.5, duration: 'forever' }
    expect((await make(terms)).status).toBe(200)
    expect((await make({ ...terms, code: 'again' })).status).toBe(200)
    expect((await make({ ...terms, percent_off: 13 })).status).toBe(409)
    expect(billing.sandbox.all('coupon').filter(({ id }) => id === 'AGAIN')).toHaveLength(1)
  })

  test('whose creation was cut off after the coupon was made is completed when it is asked for again', async () => {
    await make({ code: 'CUT', percent_off: 10, duration: 'once' })
    await billing.database.db.query(`delete from discounts where code = 'CUT'`)
    expect((await make({ code: 'CUT', percent_off: 10, duration: 'once' })).status).toBe(200)
    await billing.database.db.query(`delete from discounts where code = 'CUT'`)
    expect((await make({ code: 'CUT', percent_off: 90, duration: 'once' })).status).toBe(409)
  })

  test('that could not be stored is refused before anything is made at Stripe', async () => {
    const { status, body } = await make({ code: 'COUNTLESS', percent_off: 10, max_redemptions: 2 ** 31 })
    expect({ status, body }).toMatchObject({ status: 400, body: { errors: [{ field: 'max_redemptions' }] } })
    expect(billing.sandbox.all('coupon').filter(({ id }) => id === 'COUNTLESS')).toEqual([])
    expect((await make({ code: 'COUNTLESS', percent_off: 10, max_redemptions: 2 ** 31 - 1 })).status).toBe(200)
  })

  test('that makes no sense is refused, and one that is not there is not found', async () => {
    expect((await make({ code: 'BOTH', percent_off: 10, amount_off: 10 })).status).toBe(400)
    expect((await make({ code: 'NONE' })).status).toBe(400)
    expect((await make({ code: 'MONTHS', percent_off: 10, duration: 'once', duration_in_months: 3 })).status).toBe(400)
    expect((await make({ code: 'MUCH', percent_off: 101 })).status).toBe(400)
    expect((await read('NOWHERE')).status).toBe(404)
    expect((await buy('hopeful', 'NOWHERE')).body).toMatchObject({ code: 'invalid_request', field: 'discount_code' })
    expect((await billing.call('hopeful', 'POST', DISCOUNTS, { code: 'MINE', percent_off: 100 })).status).toBe(403)
  })
})

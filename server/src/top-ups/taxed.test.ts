import { beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { PATIENCE } from '../../test/patience.ts'
import { buyTopUp } from './actions.ts'
import { runAutoTopUps } from './auto.ts'

const billing = testBilling({
  catalog: {
    meters: { tokens: {} },
    plans: { free: { name: 'Free', allowances: { tokens: { amount: 10 } } } },
    topUps: {
      small: { name: '500 tokens', balance: 'tokens', amount: 500, priceMinor: 1_000 },
      priced: { name: '100 tokens', balance: 'tokens', amount: 100, priceMinor: 1_190, priceVariable: 'STRIPE_PRICE_PACK' },
    },
    defaultPlan: 'free',
  },
  policy: { automaticTax: true },
})
const ADDRESS = { line1: 'Torstraße 1', city: 'Berlin', postal_code: '10119', country: 'DE' }
const ASKER = { actor: 'test', requestId: 'req' }
const PATH = '/api/v1/billing/top-ups'
let organization: string
let count = 0

beforeAll(async () => {
  const { tax } = billing.stripe
  await tax.settings.update({ head_office: { address: { country: 'DE', postal_code: '10115' } } })
  await tax.registrations.create({ country: 'DE', active_from: 'now', country_options: { de: { type: 'standard' } } })
})
beforeEach(async () => {
  organization = await billing.createOrganization(`taxed_${(count += 1)}`)
  await billing.call(organization, 'POST', '/api/v1/billing/payment-methods', { payment_method_id: 'pm_card_visa' })
})

const live = () => billing.call(organization, 'PUT', '/api/v1/billing/details', { address: ADDRESS })
const buy = (body: object) => billing.call(organization, 'POST', PATH, body)
const lastCharge = () => billing.sandbox.all('charge').at(-1)!

/** What Stripe's reports have of the payments of a charge: lines of amount, tax and name, by transaction. */
async function recorded(paymentIntent: string) {
  const { associations, transactions } = billing.stripe.tax
  const { tax_transaction_attempts: attempts } = await associations.find({ payment_intent: paymentIntent })
  const lines = await Promise.all(attempts!.map(({ committed }) => transactions.listLineItems(committed!.transaction)))
  return lines.map(({ data }) => data.map(({ amount, amount_tax: tax, reference }) => [amount, tax, reference]))
}

describe('with automatic tax, a package that a saved method pays', () => {
  test('is taxed where the customer is; its tax is recorded, and taken back with its payment', async () => {
    await live()
    const { status, body } = await buy({ top_up: 'small', quantity: 2 })
    expect([status, body]).toMatchObject([201, { status: 'paid', price_minor: 2_000, paid_minor: 2_380 }])
    const { id, amount, payment_intent: paymentIntent } = lastCharge()
    expect(amount).toBe(2_380)
    await billing.stripe.refunds.create({ charge: id, amount: 1_190 })
    expect(await recorded(String(paymentIntent))).toEqual([[[2_000, 380, body['id']]], [[-1_000, -190, body['id']]]])
    // Of what was paid a half is given back, and so is half of what was bought.
    await vi.waitFor(async () => {
      const { body: now } = await billing.call(organization, 'GET', PATH)
      expect(now['purchases']).toMatchObject([{ refunded_minor: 1_190, taken_back: 500, not_taken_back: 0 }])
    }, PATIENCE)
  })

  test('is taxed as its price at Stripe says: tax that is in it is not put on top', async () => {
    await live()
    const product = await billing.stripe.products.create({ name: 'Tokens' })
    const { id } = await billing.stripe.prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: 1_190,
      tax_behavior: 'inclusive',
    })
    const order = {
      organizationId: organization,
      topUpKey: 'priced',
      quantity: 1,
      idempotencyKey: 'priced',
      payWith: 'saved' as const,
    }
    const context = billing.with({ variables: { STRIPE_PRICE_PACK: id } })
    const bought = await buyTopUp(context, { ...order, successUrl: undefined, cancelUrl: undefined }, ASKER)
    expect(bought.status).toBe('paid')
    const { amount, payment_intent: paymentIntent } = lastCharge()
    expect(amount).toBe(1_190)
    expect(await recorded(String(paymentIntent))).toEqual([[[1_190, 190, bought.id]]])
  })

  test('is paid on a page where it is not known where the customer is, which asks for it', async () => {
    const charges = billing.sandbox.all('charge').length
    const { status, body } = await buy({ top_up: 'small' })
    expect([status, body['status']]).toEqual([202, 'pending'])
    const page = billing.sandbox.all('checkout.session').at(-1)
    expect(page).toMatchObject({ url: body['url'], automatic_tax: { enabled: true }, billing_address_collection: 'required' })
    expect(billing.sandbox.all('charge').length).toBe(charges)
  })
})

describe('with automatic tax, a package that is bought by itself', () => {
  const set = () =>
    billing.call(organization, 'PUT', '/api/v1/billing/auto-top-up', { top_up: 'small', below: 50, most_per_month: 2 })
  const state = async () => {
    const { body } = await billing.call(organization, 'GET', PATH)
    return {
      automatic: (body['automatic'] as { stopped: { code: string } | null }[]).map(({ stopped }) => stopped?.code ?? null),
      bought: (body['purchases'] as { status: string }[]).map(({ status }) => status),
    }
  }

  test('is taxed', async () => {
    await live()
    await set()
    await runAutoTopUps(billing.context)
    expect(await state()).toEqual({ automatic: [null], bought: ['paid'] })
    expect(lastCharge().amount).toBe(1_190)
  })

  test('waits for an address, and goes on once it is there', async () => {
    const charges = billing.sandbox.all('charge').length
    await set()
    await runAutoTopUps(billing.context)
    expect(await state()).toEqual({ automatic: ['tax_location_missing'], bought: ['failed'] })
    await live()
    await runAutoTopUps(billing.context)
    expect(await state()).toEqual({ automatic: [null], bought: ['paid', 'failed'] })
    expect(billing.sandbox.all('charge').length).toBe(charges + 1)
  })
})

import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startSandbox, type Sandbox } from '../../../../sandbox/src/index.ts'
import type { Log } from '../log.ts'
import { createStripeClient } from './client.ts'
import type { StripeGateway } from './gateway.ts'
import { NEXT_INVOICE } from './invoice-previews.ts'
import type { MutationKind, MutationResult, StripeMutations } from './mutations.ts'

// The same contract runs on Stripe itself when a test key is given; otherwise on the sandbox.
const testKey = process.env['STRIPE_TEST_KEY']
const where = testKey === undefined ? 'the sandbox (no STRIPE_TEST_KEY is set)' : 'Stripe'

let sandbox: Sandbox | null = null
let gateway: StripeGateway
let keys = 0
const run = String(process.pid) + String(process.hrtime.bigint())
const logged: unknown[] = []
const note = (fields: Record<string, unknown>): void => void logged.push(fields)
const log: Log = { info: note, warn: note, error: note }

beforeAll(async () => {
  sandbox = testKey === undefined ? await startSandbox({ seed: 'contract' }) : null
  gateway = createStripeClient({ apiKey: testKey ?? 'sk_test_contract', log, ...endpointOf(sandbox) })
})
afterAll(() => sandbox?.stop())

function endpointOf(stripe: Sandbox | null) {
  return stripe === null
    ? {}
    : { endpoint: { host: stripe.host, port: stripe.port, protocol: stripe.protocol }, callsPerSecond: 500 }
}

function perform<Kind extends MutationKind>(kind: Kind, params: StripeMutations[Kind]): Promise<MutationResult> {
  keys += 1
  return gateway.perform(kind, params, { idempotencyKey: `contract ${run} ${keys}` })
}

async function customerWith(paymentMethodId: string): Promise<{ customerId: string; methodId: string }> {
  const params = { email: 'contract@example.com', name: 'Contract', testClockId: null, metadata: { purpose: 'contract' } }
  const { id: customerId } = await perform('create_customer', params)
  const { id: methodId } = await perform('attach_payment_method', { customerId, paymentMethodId })
  await perform('update_customer', { customerId, defaultPaymentMethodId: methodId })
  return { customerId, methodId }
}

async function monthlyPrice(unitAmountMinor: number): Promise<string> {
  const { id: productId } = await perform('create_product', { name: 'Contract', description: '', metadata: {} })
  keys += 1
  const lookupKey = `contract:${run}:${keys}`
  const params = { productId, currency: 'usd', unitAmountMinor, interval: 'month' as const, lookupKey, metadata: {} }
  return (await perform('create_price', params)).id
}

const subscriptionTo = (customerId: string, priceId: string): StripeMutations['create_subscription'] => ({
  customerId,
  items: [{ itemId: null, priceId, quantity: 1 }],
  paymentMethodId: null,
  trialDays: null,
  trialEndBehavior: 'cancel',
  paymentBehavior: 'error_if_incomplete',
  discounts: [],
  metadata: { purpose: 'contract' },
})

describe(`the contract of the gateway, on ${where}`, () => {
  test('a customer is made, changed, read, and null where there is none', async () => {
    const { customerId, methodId } = await customerWith('pm_card_visa')
    expect(await gateway.reads.retrieveCustomer(customerId)).toMatchObject({
      id: customerId,
      deleted: false,
      email: 'contract@example.com',
      metadata: { purpose: 'contract' },
      defaultPaymentMethodId: methodId,
      balanceMinor: 0,
    })
    expect(await gateway.reads.retrieveCustomer('cus_nobodyatall')).toBeNull()
    expect(await gateway.reads.listPaymentMethods(customerId)).toMatchObject([
      { id: methodId, type: 'card', card: { brand: 'visa', last4: '4242' } },
    ])
  })

  test('a subscription is paid, read with its period on its items, previewed, changed and cancelled', async () => {
    const { customerId } = await customerWith('pm_card_visa')
    const [small, large] = [await monthlyPrice(900), await monthlyPrice(2900)]
    const { id, status } = await perform('create_subscription', subscriptionTo(customerId, small))
    expect(status).toBe('active')
    const [{ subscription, latestInvoice } = {}] = await gateway.reads.listSubscriptions(customerId)
    expect(subscription).toMatchObject({
      id,
      customerId,
      status: 'active',
      cancelAt: null,
      items: [{ priceId: small, quantity: 1, interval: 'month' }],
    })
    const [item] = subscription!.items
    expect(item!.currentPeriodEnd.getTime()).toBeGreaterThan(item!.currentPeriodStart.getTime())
    const [invoice] = await gateway.reads.listInvoices(customerId, 10)
    expect(invoice).toMatchObject({
      subscriptionId: id,
      status: 'paid',
      amountPaidMinor: 900,
      amountRemainingMinor: 0,
      currency: 'usd',
    })
    // The same invoice comes with its subscription, which names it as where it comes without.
    expect(latestInvoice).toEqual(invoice)
    expect(subscription!.data.toJSON()).toMatchObject({ latest_invoice: invoice!.id })
    expect(await gateway.reads.listCharges(customerId, 10)).toMatchObject([{ customerId, amountMinor: 900, status: 'succeeded' }])

    const items = [{ itemId: item!.id, priceId: large, quantity: 1 }]
    const preview = await gateway.reads.previewInvoice({
      ...NEXT_INVOICE,
      customerId,
      subscriptionId: id,
      items,
      prorationBehavior: 'always_invoice',
      prorationAtUnix: item!.currentPeriodStart.getTime() / 1000,
    })
    // The whole period is left: the new price less the old one.
    expect(preview).toMatchObject({ currency: 'usd', amountDueMinor: 2000 })
    expect(preview.lines.map(({ amountMinor, proration }) => [amountMinor, proration])).toEqual([
      [-900, true],
      [2900, true],
    ])
    await perform('update_subscription', { subscriptionId: id, items, prorationBehavior: 'none', cancelAtPeriodEnd: true })
    const [changed] = await gateway.reads.listSubscriptions(customerId)
    expect(changed?.subscription).toMatchObject({
      cancelAtPeriodEnd: true,
      items: [{ id: item!.id, priceId: large, unitAmountMinor: 2900 }],
    })
    await perform('cancel_subscription', { subscriptionId: id, prorate: false, invoiceNow: false })
    expect(await gateway.reads.listSubscriptions(customerId)).toMatchObject([{ subscription: { id, status: 'canceled' } }])
  })

  test('a declined card is payment_failed with its reason, and nothing is left behind', async () => {
    const { customerId } = await customerWith('pm_card_chargeCustomerFail')
    const priceId = await monthlyPrice(900)
    await expect(perform('create_subscription', subscriptionTo(customerId, priceId))).rejects.toMatchObject({
      code: 'payment_failed',
      outcome: 'refused',
      details: { decline_code: 'generic_decline' },
    })
    expect(await gateway.reads.listSubscriptions(customerId)).toEqual([])
  })

  test('what the caller named and Stripe does not know is the caller’s mistake', async () => {
    const { customerId } = await customerWith('pm_card_visa')
    await expect(perform('attach_payment_method', { customerId, paymentMethodId: 'pm_nothing' })).rejects.toMatchObject({
      code: 'invalid_request',
      details: { field: 'payment_method_id' },
    })
  })

  test('a customer without any payment method is told so', async () => {
    const { id } = await perform('create_customer', { email: 'bare@example.com', name: 'Bare', testClockId: null, metadata: {} })
    const priceId = await monthlyPrice(900)
    await expect(perform('create_subscription', subscriptionTo(id, priceId))).rejects.toMatchObject({
      code: 'payment_method_missing',
    })
  })

  test('the same key is the same wish: one customer, one answer; another body under it is refused', async () => {
    const params = { email: 'same@example.com', name: 'Same', testClockId: null, metadata: {} }
    const call = { idempotencyKey: `contract ${run} same` }
    const [one, two] = [
      await gateway.perform('create_customer', params, call),
      await gateway.perform('create_customer', params, call),
    ]
    expect(two.id).toBe(one.id)
    await expect(gateway.perform('create_customer', { ...params, name: 'Other' }, call)).rejects.toMatchObject({
      code: 'stripe_failed',
    })
  })

  test('a wrong key is a failure whose words stay in the log', async () => {
    logged.length = 0
    const stranger = createStripeClient({ apiKey: 'sk_live_wrong', log, ...endpointOf(sandbox) })
    expect(stranger.mode).toBe('live')
    const failure = await stranger.reads.retrieveCustomer('cus_x').catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'stripe_failed', details: {} })
    expect((failure as Error).message).toBe('Stripe could not carry this out.')
    expect(logged).toMatchObject([{ call: 'retrieve_customer', status: 401 }])
    expect(JSON.stringify(logged)).not.toContain('sk_live_wrong')
  })

  test('a clock for tests is made, and stands where it was put', async () => {
    const nowUnix = Date.UTC(2026, 0, 1) / 1000
    const { id } = await perform('create_test_clock', { name: 'contract', nowUnix })
    expect(await gateway.reads.retrieveTestClock(id)).toMatchObject({ id, status: 'ready', now: new Date(nowUnix * 1000) })
  })

  test('events are listed with whom they concern', async () => {
    const { customerId } = await customerWith('pm_card_visa')
    const { events } = await gateway.reads.listEvents({ since: new Date(Date.now() - 60_000), startingAfter: null })
    expect(events.map(({ envelope }) => envelope)).toContainEqual(
      expect.objectContaining({ type: 'customer.created', objectType: 'customer', objectId: customerId, customerId }),
    )
  })
})

describe.runIf(testKey === undefined)('in trouble', () => {
  test('a throttled call waits and comes through', async () => {
    let throttled = 0
    sandbox!.setChaos({ api: [{ route: 'GET /v1/prices', tooManyRequests: 1 }] })
    const calm = setTimeout(() => {
      throttled += 1
      sandbox!.setChaos({})
    }, 100)
    await gateway.reads.listPrices()
    clearTimeout(calm)
    expect(throttled).toBe(1)
  })

  test('an answer that is lost on the way is asked for again with the same key', async () => {
    const before = sandbox!.all('customer').length
    const failures: unknown[] = []
    sandbox!.setChaos({ seed: 3, api: [{ route: 'POST /v1/customers', lostResponse: 0.5 }] })
    for (let index = 0; index < 5; index += 1) {
      await perform('create_customer', {
        email: `lost${index}@example.com`,
        name: 'Lost',
        testClockId: null,
        metadata: {},
      }).catch((error: unknown) => failures.push(error))
    }
    for (const failure of failures) expect(failure).toMatchObject({ code: 'stripe_unavailable', outcome: 'unanswered' })
    sandbox!.setChaos({})
    expect(sandbox!.all('customer')).toHaveLength(before + 5)
  })

  test('a failure of Stripe’s own is unknown in its outcome', async () => {
    sandbox!.setChaos({ api: [{ route: 'POST *', serverError: 1 }] })
    const failing = perform('create_product', { name: 'x', description: '', metadata: {} })
    await expect(failing).rejects.toMatchObject({ code: 'stripe_failed', outcome: 'unknown' })
    sandbox!.setChaos({})
  })
})

describe('a webhook’s signature', () => {
  const payload = JSON.stringify({
    id: 'evt_1',
    object: 'event',
    type: 'payment_method.detached',
    created: 1_700_000_000,
    livemode: false,
    data: { object: { object: 'payment_method', id: 'pm_1', customer: null }, previous_attributes: { customer: 'cus_before' } },
  })
  const sign = (secret: string, at = Math.floor(Date.now() / 1000)) =>
    `t=${at},v1=${createHmac('sha256', secret).update(`${at}.${payload}`).digest('hex')}`

  test('is right under any of the secrets, and the envelope says whom it concerns', () => {
    expect(gateway.verifyWebhook(payload, sign('whsec_b'), ['whsec_a', 'whsec_b'])).toEqual({
      id: 'evt_1',
      type: 'payment_method.detached',
      livemode: false,
      createdAt: new Date(1_700_000_000_000),
      objectType: 'payment_method',
      objectId: 'pm_1',
      customerId: 'cus_before',
    })
  })

  test('is wrong under another, too old, or over other bytes', () => {
    const wrong = expect.objectContaining({ code: 'invalid_signature' }) as Error
    expect(() => gateway.verifyWebhook(payload, sign('whsec_c'), ['whsec_a'])).toThrow(wrong)
    expect(() => gateway.verifyWebhook(payload, sign('whsec_a', 1_700_000_000), ['whsec_a'])).toThrow(wrong)
    expect(() => gateway.verifyWebhook(`${payload}\n`, sign('whsec_a'), ['whsec_a'])).toThrow(wrong)
    expect(() => gateway.verifyWebhook(payload, '', ['whsec_a'])).toThrow(wrong)
  })
})

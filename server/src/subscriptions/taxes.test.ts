import { beforeAll, describe, expect, test } from 'vitest'
import { OFFERED, testSubscriptions } from '../../test/subscriptions.ts'
import { START } from '../../test/test-clocks.ts'
import { toUnix, type StripeObject } from '../stripe/gateway/wire.ts'

const billing = testSubscriptions({ catalog: OFFERED, policy: { automaticTax: true } })
const { advance, call, onClock, post, succeed } = billing
const ADDRESS = { line1: 'Torstraße 1', city: 'Berlin', postal_code: '10119', country: 'DE' }

const readSetup = () => billing.context.gateway!.reads.readTaxSetup()
let setupBefore: Awaited<ReturnType<typeof readSetup>>

beforeAll(async () => {
  const { tax } = billing.stripe
  setupBefore = await readSetup()
  await tax.settings.update({ head_office: { address: { country: 'DE', postal_code: '10115' } } })
  const standard = { place_of_supply_scheme: 'standard' } as const
  await tax.registrations.create({
    country: 'DE',
    active_from: toUnix(START),
    country_options: { de: { type: 'standard', standard } },
  })
})

/** An organization on its clock, in Germany, where 19 % are put on top. */
async function german(id: string): Promise<string> {
  await onClock(id)
  expect(await call(id, 'PUT', '/api/v1/billing/details', { address: ADDRESS })).toMatchObject({ status: 200 })
  return id
}

const paidOf = async (id: string): Promise<readonly number[]> => {
  const { body } = await call(id, 'GET', '/api/v1/billing/invoices?limit=100')
  return (body as unknown as { amount_paid_minor: number }[]).map(({ amount_paid_minor: paid }) => paid).toSorted((a, b) => a - b)
}
const newest = <Found extends StripeObject>(found: readonly Found[]): Found => found.at(-1)!

describe('with automatic tax', () => {
  test('what Stripe lacks for it is told until it is there, then where tax is collected', async () => {
    expect(setupBefore).toEqual({ missing: ['head_office'], countries: [] })
    expect(await readSetup()).toEqual({ missing: [], countries: ['DE'] })
  })

  test('nobody subscribes without a page whose address is not known: nothing is bought, and it says what is missing', async () => {
    await onClock('nowhere')
    const refused = await post('nowhere', 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
    expect(refused).toMatchObject({ status: 422, body: { code: 'tax_location_missing' } })
    expect(billing.sandbox.all('subscription')).toEqual([])
    await call('nowhere', 'PUT', '/api/v1/billing/details', { address: ADDRESS })
    await succeed('nowhere', 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
  })

  test('a purchase, a change, an add-on and renewals cost what their previews say, tax included', async () => {
    const id = await german('taxed')
    const dueOf = async (path: string, body: object) =>
      Number((await post(id, `${path}/preview`, body)).body['amount_due_now_minor'])
    const pro = { plan: 'pro', payment_method_id: 'pm_card_visa' }
    expect(await dueOf('subscribe', pro)).toBe(2_380)
    await succeed(id, 'subscribe', pro)
    expect(await dueOf('upgrade', { plan: 'max' })).toBe(8_330)
    await succeed(id, 'upgrade', { plan: 'max' })
    expect(await dueOf('add-ons', { add_on: 'support', quantity: 1 })).toBe(3_570)
    await succeed(id, 'add-ons', { add_on: 'support', quantity: 1 })
    await advance(id, '32d')
    expect(await paidOf(id)).toEqual([2_380, 3_570, 8_330, 14_280])
  })

  test('a change at the period’s end goes on being taxed: each phase of its schedule says so', async () => {
    const id = await german('scheduled')
    await succeed(id, 'subscribe', { plan: 'max', payment_method_id: 'pm_card_visa' })
    await succeed(id, 'downgrade', { plan: 'pro', at: 'period_end' })
    const { phases } = newest(billing.sandbox.all('subscription_schedule'))
    expect(phases.map((phase) => phase.automatic_tax)).toMatchObject([{ enabled: true }, { enabled: true }])
    await advance(id, '32d')
    expect(await paidOf(id)).toEqual([2_380, 10_710])
  })

  test('the next invoice is told with its tax', async () => {
    const id = await german('told')
    await succeed(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
    const { body } = await call('operator', 'GET', `/api/v1/billing/status/tenant/${id}`)
    expect(body['next_invoice_amount_cents']).toBe(2_380)
  })

  test('monthly revenue has no tax in it', async () => {
    const id = await german('revenue')
    await succeed(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa' })
    const { rows } = await billing.database.db.query<{ mrr: bigint }>('select mrr from mrr_accounts where organization_id = $1', [
      id,
    ])
    expect(rows.map(({ mrr }) => Number(mrr) / 1_000_000)).toEqual([2_000])
  })

  test('a checkout page asks for the address and the tax id, and keeps them', async () => {
    await billing.createOrganization('page')
    await succeed('page', 'checkout', { plan: 'pro' })
    expect(newest(billing.sandbox.all('checkout.session'))).toMatchObject({
      automatic_tax: { enabled: true },
      billing_address_collection: 'required',
      tax_id_collection: { enabled: true },
    })
  })
})

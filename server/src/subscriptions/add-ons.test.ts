import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { testClocks } from '../../test/test-clocks.ts'
import { defineBilling } from '../catalog/define.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { readBalances } from '../metering/reads.ts'
import type { BillingContext } from '../stripe/context.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { changeAddOn, listAddOns, previewAddOn } from './add-ons.ts'
import { findAccountSubscription } from './store.ts'

const moreCalls = {
  name: 'More calls',
  prices: { monthly: { amountMinor: 500 }, yearly: { amountMinor: 5000 } },
  allowances: { calls: 250 },
  maxQuantity: 5,
}
const catalog = defineBilling({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2000 }, yearly: { amountMinor: 20_000 } },
      allowances: { calls: { amount: 1000 } },
    },
    max: { name: 'Max', prices: { monthly: { amountMinor: 9000 } }, allowances: { calls: { amount: 9000 } } },
  },
  addOns: {
    more_calls: moreCalls,
    support: { name: 'Support', prices: { monthly: { amountMinor: 3000 } } },
  },
  defaultPlan: 'free',
})
const billing = testBilling({ catalog })
const { advance, onClock } = testClocks(billing)
const { invoicesOf, post, subscriptionOf, succeed } = billing
const ADD_ONS = '/api/v1/billing/add-ons'

beforeAll(async () => {
  const { lines } = await pushCatalog(billing.context, { variables: {} })
  if (!lines.some((line) => line.includes('price of add-on more_calls, monthly: 5.00 usd'))) throw new Error(lines.join('\n'))
})

async function subscribed(id: string, more: object = {}): Promise<string> {
  await onClock(id)
  await succeed(id, 'subscribe', { plan: 'pro', payment_method_id: 'pm_card_visa', ...more })
  return id
}

async function granted(id: string): Promise<bigint> {
  const { rows } = await billing.database.db.query<{ amount: bigint }>(
    `select amount from grants where organization_id = $1 and kind = 'plan'
       and expires_at > (select test_clock_now from organizations where id = $1) order by starts_at desc limit 1`,
    [id],
  )
  return rows[0]!.amount
}

const change = (id: string, body: object) => billing.call(id, 'POST', ADD_ONS, body)
const quantities = async (id: string) => {
  const { add_ons } = (await billing.call(`${id}:read`, 'GET', ADD_ONS)).body as {
    add_ons: { add_on: string; quantity: number }[]
  }
  return Object.fromEntries(add_ons.map(({ add_on, quantity }) => [add_on, quantity]))
}

describe('an add-on', () => {
  test('in the place of an upgrade that the bank asks about has the credit that this had taken along, as its preview says', async () => {
    const id = await subscribed('instead', { plan: 'max' })
    const ask = (path: string, body: object) => post(id, path, body)
    expect(await ask('downgrade', { new_tier: 'pro', at: 'now' })).toMatchObject({ status: 200 })
    await ask('payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
    expect((await ask('upgrade', { new_tier: 'max', quantity: 2 })).body).toMatchObject({ requires_action: true })
    await ask('payment-methods', { payment_method_id: 'pm_card_visa' })
    const support = { add_on: 'support', quantity: 1 }
    const { amount_due_now_minor: due, proration_date } = (await ask('add-ons/preview', support)).body
    expect(await change(id, { ...support, proration_date })).toMatchObject({ status: 200 })
    const paid = (await billing.call(id, 'GET', '/api/v1/billing/invoices?status=paid')).body as unknown as Record<
      string,
      number
    >[]
    // The credit of seventy dollars is more than the add-on's thirty. The clock stands, so the list has no order between the two.
    expect(paid.map((invoice) => invoice['amount_due_minor']!).toSorted((a, b) => a - b)).toEqual([0, 9000])
    expect(due).toBe(0)
  })

  test('is paid at once, to the cent of its preview, and adds to the allowance of the period', async () => {
    const id = await subscribed('growing')
    expect(await granted(id)).toBe(parseQuantity(1000))
    const preview = await billing.call(id, 'POST', `${ADD_ONS}/preview`, { add_on: 'more_calls', quantity: 2 })
    expect(preview).toMatchObject({ status: 200, body: { from: 0, to: 2, currency: 'usd' } })
    expect(await quantities(id)).toEqual({ more_calls: 0, support: 0 })
    const { amount_due_now_minor: due, proration_date } = preview.body
    expect(due).toBe(1000)
    const changed = await change(id, { add_on: 'more_calls', quantity: 2, proration_date })
    expect(changed.status, JSON.stringify(changed.body)).toBe(200)
    expect(await quantities(id)).toEqual({ more_calls: 2, support: 0 })
    expect(await granted(id)).toBe(parseQuantity(1500))
    const invoices = await invoicesOf(id)
    expect(invoices.map(({ amount_paid }) => amount_paid).toSorted((a, b) => Number(a) - Number(b))).toEqual([10, 20])
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'pro', quantity: 1 })
  })

  test('is renewed with the plan, and its allowance opens anew', async () => {
    const id = await subscribed('renewing')
    await change(id, { add_on: 'support', quantity: 1 })
    await change(id, { add_on: 'more_calls', quantity: 1 })
    await advance(id, '32d')
    const [renewal] = await invoicesOf(id)
    expect(renewal).toMatchObject({ status: 'paid', amount_paid: 55 })
    expect(await quantities(id)).toEqual({ more_calls: 1, support: 1 })
  })

  test('goes along with another plan, and with another interval where it is sold at that', async () => {
    const id = await subscribed('switching')
    await change(id, { add_on: 'more_calls', quantity: 2 })
    await change(id, { add_on: 'support', quantity: 1 })
    await succeed(id, 'upgrade', { plan: 'max' })
    expect(await quantities(id)).toEqual({ more_calls: 2, support: 1 })
    expect(await granted(id)).toBe(parseQuantity(9500))
    await succeed(id, 'upgrade', { plan: 'pro', interval: 'yearly', at: 'now' })
    expect(await quantities(id)).toEqual({ more_calls: 2, support: 0 })
  })

  test('stays through a change that waits for the period’s end', async () => {
    const id = await subscribed('waiting', { plan: 'max' })
    await change(id, { add_on: 'more_calls', quantity: 1 })
    await post(id, 'downgrade', { plan: 'pro', at: 'period_end' })
    expect(await change(id, { add_on: 'more_calls', quantity: 2 })).toMatchObject({ status: 409, body: { code: 'conflict' } })
    await advance(id, '32d')
    expect(await subscriptionOf(id)).toMatchObject({ tier: 'pro' })
    expect(await quantities(id)).toEqual({ more_calls: 1, support: 0 })
  })

  test('ended, is credited on the next invoice, and its allowance goes', async () => {
    const id = await subscribed('shrinking')
    await change(id, { add_on: 'more_calls', quantity: 4 })
    const preview = await billing.call(id, 'POST', `${ADD_ONS}/preview`, { add_on: 'more_calls', quantity: 0 })
    expect(preview.body).toMatchObject({ from: 4, to: 0, amount_due_now_minor: 0, credit_minor: 2000 })
    expect((await change(id, { add_on: 'more_calls', quantity: 0 })).status).toBe(200)
    expect(await quantities(id)).toEqual({ more_calls: 0, support: 0 })
    expect(await granted(id)).toBe(parseQuantity(1000))
    await post(id, 'cancel', { immediate: true })
    const { rows } = await billing.database.db.query('select add_ons from accounts where organization_id = $1', [id])
    expect(rows).toEqual([{ add_ons: {} }])
  })

  test('whose payment is declined changes nothing', async () => {
    const id = await subscribed('declined')
    await post(id, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    expect(await change(id, { add_on: 'support', quantity: 1 })).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
    expect(await quantities(id)).toEqual({ more_calls: 0, support: 0 })
  })

  test('is refused where it makes no sense, and says why', async () => {
    const id = await subscribed('refused')
    await billing.createOrganization('bare')
    const codeOf = async (who: string, body: object) => (await change(who, body)).body['code']
    expect(await codeOf(id, { add_on: 'nothing', quantity: 1 })).toBe('not_found')
    expect(await codeOf(id, { add_on: 'more_calls', quantity: 6 })).toBe('invalid_request')
    expect(await codeOf(id, { add_on: 'more_calls', quantity: 0 })).toBe('nothing_to_change')
    expect(await codeOf('bare', { add_on: 'support', quantity: 1 })).toBe('subscription_missing')
    expect((await change(`${id}:write`, { add_on: 'support', quantity: 1 })).status).toBe(403)
    const yearly = await subscribed('yearly', { interval: 'yearly' })
    expect(await codeOf(yearly, { add_on: 'support', quantity: 1 })).toBe('plan_not_offered')
  })
})

describe('of another catalog than a customer’s', () => {
  const asker = { actor: 'test', requestId: 'req' }
  const later = {
    name: 'Later',
    prices: { monthly: { amountMinor: 100 } },
    allowances: { calls: 300, searches: 7 },
    maxQuantity: 3,
  }
  const meters = { calls: {}, searches: {} }

  /** Servers that start with another catalog, which is pushed. */
  async function servedBy(definition: CatalogDefinition): Promise<BillingContext> {
    const { db, clock } = billing.context
    const catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, definition, clock.now()))
    const context = billing.with({ catalogs })
    await pushCatalog(context, { variables: {} })
    return context
  }

  async function included(context: BillingContext, id: string) {
    const { balances } = await readBalances(context.db, { ...context, graceDays: 3 }, id)
    return Object.fromEntries(balances.map(({ balanceKey, amount }) => [balanceKey, amount]))
  }

  const set = (context: BillingContext, organizationId: string, addOnKey: string, quantity: number) =>
    changeAddOn(context, { organizationId, request: { addOnKey, quantity }, prorationAt: null }, asker)

  test('an add-on gives what the newest catalog that has it says, and fewer of it can be had when none is sold any more', async () => {
    const id = await subscribed('earlier_terms')
    const second = await servedBy({ ...catalog, meters, addOns: { ...catalog.addOns, later } })
    await set(second, id, 'later', 3)
    await set(second, id, 'more_calls', 1)
    const all = { calls: parseQuantity(1000 + 250 + 3 * 300), searches: parseQuantity(21) }
    expect(await included(second, id)).toEqual(all)

    const third = await servedBy({ ...catalog, meters, addOns: {} })
    expect(await included(third, id)).toEqual(all)
    const found = await findAccountSubscription(billing.database.db, id)
    expect((await listAddOns(third, found)).map(({ addOn, ...own }) => [addOn.key, addOn.name, own])).toEqual([
      ['later', 'Later', { quantity: 3, purchasable: false }],
      ['more_calls', 'More calls', { quantity: 1, purchasable: false }],
    ])
    await expect(set(third, id, 'later', 4)).rejects.toMatchObject({ code: 'plan_not_offered' })
    await expect(set(third, id, 'support', 1)).rejects.toMatchObject({ code: 'not_found' })
    await set(third, id, 'later', 1)
    await set(third, id, 'more_calls', 0)
    expect(await included(third, id)).toEqual({ calls: parseQuantity(1000 + 300), searches: parseQuantity(7) })
  })

  test('one that is sold in another currency is refused before Stripe is asked, also in its preview, and who has it has more of it', async () => {
    const id = await subscribed('currency')
    const other = await servedBy({ ...catalog, currency: 'eur' })
    const refusal = {
      code: 'plan_not_offered',
      details: { add_on: 'support' },
      message: expect.stringContaining('in eur') as string,
    }
    await expect(set(other, id, 'support', 1)).rejects.toMatchObject(refusal)
    await expect(previewAddOn(other, id, { addOnKey: 'support', quantity: 1 })).rejects.toMatchObject(refusal)
    const back = await servedBy(catalog)
    await set(back, id, 'support', 1)
    await servedBy({ ...catalog, currency: 'eur' })
    await set(other, id, 'support', 2)
    expect(await quantities(id)).toMatchObject({ support: 2 })
    await servedBy(catalog)
  })

  test('fewer can be had of what there are more than are sold now', async () => {
    const id = await subscribed('above')
    await set(await servedBy(catalog), id, 'more_calls', 5)
    const fewer = await servedBy({ ...catalog, addOns: { more_calls: { ...moreCalls, maxQuantity: 2 } } })
    await set(fewer, id, 'more_calls', 4)
    await expect(set(fewer, id, 'more_calls', 5)).rejects.toMatchObject({ code: 'invalid_request' })
  })
})

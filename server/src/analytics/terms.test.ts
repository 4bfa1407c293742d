import { Stripe } from 'stripe'
import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { movementsOf } from '../../test/movements.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { recordRevenue } from './ledger.ts'

// What a subscription brings in a month where its seller has made terms at Stripe: discounts of single items, coupons for some products only, taxes.

const billing = testSubscriptions({
  catalog: {
    meters: { call: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      team: { name: 'Team', prices: { monthly: { amountMinor: 1000 } }, allowances: {} },
    },
    defaultPlan: 'free',
  },
})
const { advance, subscriptionOf } = billing
vi.setConfig({ testTimeout: 60_000 })

/** In minor units. */
async function mrrOf(id: string): Promise<number | null> {
  const { rows } = await billing.database.db.query<{ mrr: bigint }>('select mrr from mrr_accounts where organization_id = $1', [
    id,
  ])
  return rows[0] === undefined ? null : Number(rows[0].mrr) / 1_000_000
}

/** A subscription to the plan at 1000 a month, with support at 500 a month beside it. */
async function subscribed(id: string, params: Partial<Stripe.SubscriptionUpdateParams> = {}) {
  await billing.subscribed(id, { tier: 'team' })
  const product = await billing.stripe.products.create({ name: 'Support' })
  const support = await billing.stripe.prices.create({
    currency: 'usd',
    unit_amount: 500,
    recurring: { interval: 'month' },
    product: product.id,
  })
  const subscription = String((await subscriptionOf(id))['subscription_id'])
  const { items } = await billing.stripe.subscriptions.update(subscription, {
    items: [{ price: support.id }],
    proration_behavior: 'none',
    ...params,
  })
  const plan = items.data.find(({ price }) => price.id !== support.id)!
  const beside = items.data.find(({ price }) => price.id === support.id)!
  return { subscription, product: product.id, plan, beside }
}

/** The same where its taxes were found by Stripe Tax, which the sandbox does not emulate: the subscription has no rates, and its invoices have taxes. */
async function automaticMrrOf(id: string): Promise<number> {
  return billing.database.db.transaction(async (tx) => {
    await tx.query(
      `update stripe_subscriptions set data = data || '{"default_tax_rates": [], "automatic_tax": {"enabled": true}}' where organization_id = $1`,
      [id],
    )
    await recordRevenue(tx, { organizationId: id, now: new Date(), recordedAt: new Date() })
    const { rows } = await tx.query<{ mrr: bigint }>('select mrr from mrr_accounts where organization_id = $1', [id])
    return Number(rows[0]!.mrr) / 1_000_000
  })
}

describe('a discount', () => {
  test('of a single item counts while it recurs, in percent and in money, and not where it is taken off once', async () => {
    const { plan, beside } = await subscribed('items')
    await expect.poll(() => mrrOf('items'), PATIENCE).toBe(1500)
    const half = await billing.stripe.coupons.create({ percent_off: 50, duration: 'forever' })
    await billing.stripe.subscriptionItems.update(plan.id, { discounts: [{ coupon: half.id }] })
    await expect.poll(() => mrrOf('items'), PATIENCE).toBe(1000)
    const fewer = await billing.stripe.coupons.create({ amount_off: 125, currency: 'usd', duration: 'forever' })
    await billing.stripe.subscriptionItems.update(beside.id, { discounts: [{ coupon: fewer.id }] })
    await expect.poll(() => mrrOf('items'), PATIENCE).toBe(875)
    const once = await billing.stripe.coupons.create({ percent_off: 100, duration: 'once' })
    await billing.stripe.subscriptionItems.update(plan.id, { discounts: [{ coupon: once.id }] })
    await expect.poll(() => mrrOf('items'), PATIENCE).toBe(1375)
  })

  test('of some products is taken off theirs alone, an amount as far as they cost that', async () => {
    const { subscription, product } = await subscribed('products')
    const applies_to = { products: [product] }
    const half = await billing.stripe.coupons.create({ percent_off: 50, duration: 'forever', applies_to })
    await billing.stripe.subscriptions.update(subscription, { discounts: [{ coupon: half.id }] })
    await expect.poll(() => mrrOf('products'), PATIENCE).toBe(1250)
    const much = await billing.stripe.coupons.create({ amount_off: 700, currency: 'usd', duration: 'forever', applies_to })
    await billing.stripe.subscriptions.update(subscription, { discounts: [{ coupon: much.id }] })
    await expect.poll(() => mrrOf('products'), PATIENCE).toBe(1000)
  })

  test('of a coupon that was deleted since counts on, as Stripe goes on taking it off', async () => {
    const { subscription, product, plan } = await subscribed('deleted')
    await expect.poll(() => mrrOf('deleted'), PATIENCE).toBe(1500)
    const coupons = await Promise.all([
      billing.stripe.coupons.create({ percent_off: 50, duration: 'forever', applies_to: { products: [product] } }),
      billing.stripe.coupons.create({ percent_off: 25, duration: 'forever' }),
    ])
    await billing.stripe.subscriptions.update(subscription, { discounts: [{ coupon: coupons[0].id }] })
    await billing.stripe.subscriptionItems.update(plan.id, { discounts: [{ coupon: coupons[1].id }] })
    await expect.poll(() => mrrOf('deleted'), PATIENCE).toBe(1000)
    for (const { id } of coupons) await billing.stripe.coupons.del(id)
    await advance('deleted', '32d')
    expect(await mrrOf('deleted')).toBe(1000)
    const [renewal] = (await billing.stripe.invoices.list({ subscription, limit: 1 })).data
    expect(renewal!.total).toBe(1000)
  })

  test('that ends is an expansion, once, when it does', async () => {
    const { plan } = await subscribed('ending')
    await expect.poll(() => mrrOf('ending'), PATIENCE).toBe(1500)
    const half = await billing.stripe.coupons.create({ percent_off: 50, duration: 'repeating', duration_in_months: 2 })
    await billing.stripe.subscriptionItems.update(plan.id, { discounts: [{ coupon: half.id }] })
    await expect.poll(() => mrrOf('ending'), PATIENCE).toBe(1000)
    for (const by of ['32d', '32d', '32d']) await advance('ending', by)
    expect(await movementsOf(billing, 'ending')).toEqual([
      ['new', 1000],
      ['expansion', 500],
      ['contraction', -500],
      ['expansion', 500],
    ])
  })
})

test('a price of fractions of a cent counts to the fraction, and one of tiers nothing', async () => {
  const { subscription, product } = await subscribed('fractions')
  const recurring = { interval: 'month' } as const
  const fraction = await billing.stripe.prices.create({
    currency: 'usd',
    unit_amount_decimal: Stripe.Decimal.from('12.125'),
    recurring,
    product,
  })
  const tiers = [{ up_to: 'inf', unit_amount: 700 }] as const
  const tiered = await billing.stripe.prices.create({
    currency: 'usd',
    billing_scheme: 'tiered',
    tiers_mode: 'graduated',
    tiers: [...tiers],
    recurring,
    product,
  })
  const items = [{ price: fraction.id, quantity: 5 }, { price: tiered.id }]
  await billing.stripe.subscriptions.update(subscription, { items, proration_behavior: 'none' })
  await expect.poll(() => mrrOf('fractions'), PATIENCE).toBe(1500 + 60.625)
})

describe('a tax', () => {
  test('that a price includes is no revenue, of the subscription’s rates or an item’s own', async () => {
    const rate = (percentage: number) => billing.stripe.taxRates.create({ display_name: 'VAT', inclusive: true, percentage })
    const [quarter, ninth] = await Promise.all([rate(25), rate(11.5)])
    const { subscription, beside } = await subscribed('included', { default_tax_rates: [quarter.id] })
    await expect.poll(() => mrrOf('included'), PATIENCE).toBe(1200)
    await billing.stripe.subscriptionItems.update(beside.id, { tax_rates: [ninth.id] })
    await expect.poll(() => mrrOf('included'), PATIENCE).toBe(800 + 448.430493)
    const half = await billing.stripe.coupons.create({ percent_off: 50, duration: 'forever' })
    await billing.stripe.subscriptions.update(subscription, { discounts: [{ coupon: half.id }] })
    await expect.poll(() => mrrOf('included'), PATIENCE).toBe(624.215247)
  })

  test('that Stripe Tax finds in a price is no revenue either, as far as the last invoice says', async () => {
    const rate = await billing.stripe.taxRates.create({ display_name: 'VAT', inclusive: true, percentage: 19 })
    const { plan, beside } = await subscribed('automatic')
    const rates = { default_tax_rates: [rate.id] }
    await billing.stripe.subscriptions.update(String((await subscriptionOf('automatic'))['subscription_id']), rates)
    const free = await billing.stripe.coupons.create({ percent_off: 100, duration: 'forever' })
    await billing.stripe.subscriptionItems.update(beside.id, { discounts: [{ coupon: free.id }] })
    const found = () => automaticMrrOf('automatic')
    // Its only invoice is from before.
    await expect.poll(found, PATIENCE).toBe(1000)
    await advance('automatic', '32d')
    // 160 of 1000; of what costs nothing nothing is told, and the plan's line goes for it.
    await expect.poll(found, PATIENCE).toBe(840)
    await billing.stripe.subscriptionItems.update(beside.id, { discounts: '' })
    await expect.poll(found, PATIENCE).toBe(840 + 420)
    await billing.stripe.subscriptionItems.update(plan.id, { quantity: 2, proration_behavior: 'none' })
    await expect.poll(found, PATIENCE).toBe(1680 + 420)
  })

  test('that comes on top of a price changes nothing', async () => {
    const { id } = await billing.stripe.taxRates.create({ display_name: 'Sales tax', inclusive: false, percentage: 8.875 })
    await subscribed('on_top', { default_tax_rates: [id] })
    await expect.poll(() => mrrOf('on_top'), PATIENCE).toBe(1500)
    await advance('on_top', '32d')
    expect(await movementsOf(billing, 'on_top')).toEqual([
      ['new', 1000],
      ['expansion', 500],
    ])
  })
})

import { expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'

// Tax rates that were set, in Stripe's dashboard, on what bills use.

const calls = (unitAmountMinor: number) => ({
  calls: { amount: 10, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor } } as const,
})
const billing = testSubscriptions({
  catalog: {
    meters: { calls: {}, tokens: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      pro: { name: 'Pro', prices: { monthly: { amountMinor: 2000 } }, allowances: calls(5) },
      max: {
        name: 'Max',
        prices: { monthly: { amountMinor: 9000 } },
        allowances: { ...calls(3), tokens: { amount: 1, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 1 } } },
      },
    },
    defaultPlan: 'free',
  },
})
const { advance, call, subscribed, subscriptionOf, succeed } = billing

const itemsOf = async (id: string) => {
  const { items } = await billing.stripe.subscriptions.retrieve((await subscriptionOf(id))['subscription_id'] as string)
  return items.data
}

/** An organization whose use is taxed with a rate of its own; answers that rate. */
async function taxedUse(id: string, tier: string): Promise<string> {
  await subscribed(id, { tier })
  const rate = await billing.stripe.taxRates.create({ display_name: 'VAT', percentage: 20, inclusive: false })
  const metered = (await itemsOf(id)).filter(({ price }) => price.recurring?.usage_type === 'metered')
  const [first] = metered.filter(({ price }) => tier === 'pro' || price.unit_amount === 3)
  await billing.stripe.subscriptionItems.update(first!.id, { tax_rates: [rate.id] })
  const mirrored = () =>
    billing.database.db.query(
      `select from stripe_subscriptions where organization_id = $1 and data::text like '%' || $2 || '%'`,
      [id, rate.id],
    )
  await expect.poll(async () => (await mirrored()).rowCount).toBe(1)
  return rate.id
}

/** The tax rates of items, by the amount of one unit. */
const ratesOf = async (id: string) =>
  Object.fromEntries((await itemsOf(id)).map(({ price, tax_rates: rates }) => [price.unit_amount, rates?.map((rate) => rate.id)]))

test('go over to what bills the same use under another plan', async () => {
  const rate = await taxedUse('at_once', 'pro')
  await succeed('at_once', 'upgrade', { new_tier: 'max' })
  expect(await ratesOf('at_once')).toEqual({ 9000: [], 3: [rate], 1: [] })
})

test('go over at the end of the period too', async () => {
  const rate = await taxedUse('later', 'max')
  await succeed('later', 'downgrade', { new_tier: 'pro', at: 'period_end' })
  await advance('later', '32d')
  expect(await ratesOf('later')).toEqual({ 2000: [], 5: [rate] })
})

test('are there again where a change that was released for a pause is brought back', async () => {
  const rate = await taxedUse('brought_back', 'max')
  await succeed('brought_back', 'downgrade', { new_tier: 'pro', at: 'period_end' })
  await succeed('brought_back', 'pause')
  await succeed('brought_back', 'resume')
  await advance('brought_back', '32d')
  expect((await call('brought_back', 'GET', '/api/v1/billing/subscription')).body).toMatchObject({ status: 'active' })
  expect(Object.values(await ratesOf('brought_back')).flat()).toEqual([rate])
})

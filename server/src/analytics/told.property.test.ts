import fc from 'fast-check'
import type { Stripe } from 'stripe'
import { beforeAll, expect, test } from 'vitest'
import { monthlyRevenueOf } from '../../test/revenue-reference.ts'
import { priced } from '../../test/subscriptions.ts'
import { START, startClock } from '../../test/test-clocks.ts'
import { testUse } from '../../test/used.ts'
import { ManualClock } from '../lib/clock.ts'
import { DAY_MS, SECOND_MS } from '../lib/period.ts'
import { reportRevenue } from './actions.ts'
import { closeDays } from './jobs.ts'

// Whatever a customer does, the ledger comes to what a reference works out from Stripe's own objects, and days that a report has told stay as they were.

const use = { calls: { amount: 10, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 7 } } } as const
const billing = testUse({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    open: { name: 'Open', prices: priced(0), allowances: use },
    team: { name: 'Team', prices: priced(1001), allowances: use },
    company: { name: 'Company', prices: priced(4900), allowances: {} },
  },
  addOns: { support: { name: 'Support', prices: priced(300), maxQuantity: 3 } },
  defaultPlan: 'free',
})

const DISCOUNTS = [
  { code: 'NOTHING', percent_off: 100, duration: 'repeating', duration_in_months: 2 },
  { code: 'THIRD', percent_off: 33.33, duration: 'repeating', duration_in_months: 3 },
  { code: 'ONCE', percent_off: 50, duration: 'once' },
  { code: 'LESS', amount_off: 770, duration: 'forever' },
] as const
const coupons = new Map<string, Stripe.Coupon>()
let vat = ''

beforeAll(async () => {
  for (const terms of DISCOUNTS) {
    const made = await billing.call('operator', 'POST', '/api/v1/billing/discounts', terms)
    if (made.status !== 200) throw new Error(JSON.stringify(made.body))
  }
  const { id: product } = (await billing.stripe.products.list({ limit: 100 })).data.find(({ name }) => name === 'Support')!
  await billing.stripe.coupons.create({ percent_off: 60, duration: 'forever', applies_to: { products: [product] } })
  const { data } = await billing.stripe.coupons.list({ limit: 100, expand: ['data.applies_to'] })
  for (const coupon of data) coupons.set(coupon.id, coupon)
  vat = (await billing.stripe.taxRates.create({ display_name: 'VAT', inclusive: true, percentage: 19 })).id
})

const kind = <Kind extends string>(...kinds: Kind[]) => fc.constantFrom(...kinds)
const terms = {
  tier: fc.constantFrom('open', 'team', 'company'),
  interval: fc.constantFrom('monthly', 'monthly', 'yearly'),
  quantity: fc.integer({ min: 1, max: 3 }),
}
const discount_code = fc.constantFrom(undefined, ...DISCOUNTS.map(({ code }) => code))
const trial_period_days = fc.constantFrom(undefined, undefined, 14)
const subscribe = fc.record({ kind: kind('subscribe'), ...terms, discount_code, trial_period_days })
/** Most bring nothing at first. */
const first = fc.oneof(
  subscribe,
  subscribe.map((each) => ({ ...each, tier: 'open' as const })),
  subscribe.map((each) => ({ ...each, discount_code: 'NOTHING' as const })),
)
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: kind('pass'), hours: fc.integer({ min: 1, max: 24 * 70 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: kind('upgrade'), ...terms, at: fc.constantFrom('now', 'now', 'period_end') }) },
  { weight: 2, arbitrary: fc.record({ kind: kind('add-ons'), quantity: fc.integer({ min: 0, max: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: kind('pause', 'resume', 'cancel', 'cancel/undo') }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('leave') }) },
  { weight: 2, arbitrary: subscribe },
  {
    weight: 2,
    arbitrary: fc.record({ kind: kind('card'), card: fc.constantFrom('pm_card_visa', 'pm_card_chargeCustomerFail') }),
  },
  { weight: 3, arbitrary: fc.record({ kind: kind('sell'), what: kind('coupon', 'tax', 'hold', 'go on'), which: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('close') }) },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/** What is not possible now is refused, and changes nothing. */
async function post(id: string, route: string, body: object = {}): Promise<void> {
  const { status, body: answer } = await billing.post(id, route, body)
  expect([200, 402, 404, 409], JSON.stringify(answer)).toContain(status)
}

async function subscriptionsOf(id: string): Promise<Stripe.Subscription[]> {
  const { stripe_customer_id: customer } = await billing.subscriptionOf(id)
  const wanted = { customer: String(customer), status: 'all' as const, limit: 100, expand: ['data.discounts'] }
  return (await billing.stripe.subscriptions.list(wanted)).data
}

/** What is done at Stripe by the seller. */
async function sell(id: string, { what, which }: Extract<Step, { kind: 'sell' }>): Promise<void> {
  const live = (await subscriptionsOf(id)).find(({ status }) => !['canceled', 'incomplete_expired'].includes(status))
  if (live === undefined) return
  const coupon = [...coupons.keys()][which]
  const params: Readonly<Record<typeof what, Stripe.SubscriptionUpdateParams>> = {
    coupon: { discounts: coupon === undefined ? '' : [{ coupon }] },
    tax: { default_tax_rates: which > 2 ? '' : [vat] },
    hold: { pause_collection: { behavior: 'void' } },
    'go on': { pause_collection: '' },
  }
  await billing.stripe.subscriptions.update(live.id, params[what])
  expect((await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)).status).toBe(200)
}

async function take(id: string, each: Step): Promise<void> {
  // Nothing happens in the second of the step before.
  await billing.advance(id, '2s')
  switch (each.kind) {
    case 'pass':
      return billing.advance(id, `${each.hours}h`)
    case 'subscribe': {
      const { kind: route, ...body } = each
      return post(id, route, { ...body, payment_method_id: 'pm_card_visa' })
    }
    case 'upgrade': {
      const { kind: route, tier, ...body } = each
      return post(id, route, { ...body, new_tier: tier })
    }
    case 'add-ons':
      return post(id, each.kind, { add_on: 'support', quantity: each.quantity })
    case 'leave':
      return post(id, 'cancel', { immediate: true })
    case 'card':
      return post(id, 'payment-methods', { payment_method_id: each.card })
    case 'sell':
      return sell(id, each)
    case 'close':
      return closeDays(billing.context.db, new ManualClock(new Date((await billing.nowOf(id)).getTime() + 2 * DAY_MS)))
    case 'pause':
    case 'resume':
    case 'cancel':
    case 'cancel/undo':
      return post(id, each.kind, each.kind === 'cancel' ? { immediate: false } : {})
  }
}

const report = (to: Date) => reportRevenue({ ...billing.context, rates: null }, { from: START, to, interval: 'day' })

const tell = async (until: Date) => ({ until, figures: await report(until) })

let made = 0

test('the ledger comes to what a reference works out, and what has been told of days stays so', async () => {
  await fc.assert(
    fc.asyncProperty(first, fc.array(step, { minLength: 5, maxLength: 10 }), async (beginning, steps) => {
      made += 1
      const id = await billing.createOrganization(`told${made}`)
      await startClock(billing.context, id)
      // The clock starts where the reports do, and a report of no time is refused.
      await billing.advance(id, '1h')
      let told = await tell(await billing.nowOf(id))
      for (const each of [beginning, ...steps]) {
        await take(id, each)
        const now = await billing.nowOf(id)
        const subscriptions = await subscriptionsOf(id)
        const own = subscriptions.reduce((sum, one) => sum + monthlyRevenueOf(one, coupons, now.getTime() / SECOND_MS), 0)
        const { rows } = await billing.database.db.query<{ sum: bigint | null }>(
          'select sum(amount)::bigint as sum from mrr_movements where organization_id = $1',
          [id],
        )
        expect(Number(rows[0]!.sum ?? 0n) / 1_000_000, JSON.stringify(each)).toBeCloseTo(own, 4)
        expect(await report(told.until), JSON.stringify(each)).toEqual(told.figures)
        told = await tell(now)
      }
    }),
    { numRuns: Number(process.env['TOLD_RUNS'] ?? 4), endOnFailure: true },
  )
}, 600_000)

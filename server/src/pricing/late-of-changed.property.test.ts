import fc from 'fast-check'
import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { giveGrant } from '../grants/giving.ts'
import { HOUR_MS } from '../lib/period.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { chargeDueLateUse } from './late-charges.ts'
import { readStatement } from './statement.ts'

const allowance = (amount: number, overage: object) => ({ amount, limit: 'soft' as const, overage })
const PLANS = {
  unit: allowance(100, { model: 'per_unit', unitAmountMinor: '0.7' }),
  graduated: allowance(200, {
    model: 'graduated',
    tiers: [
      { upTo: 100, unitAmountMinor: '0.5' },
      { upTo: 'infinity', unitAmountMinor: '0.25', flatAmountMinor: 75 },
    ],
  }),
  package: allowance(30, { model: 'package', size: 40, amountMinor: 90 }),
  volume: allowance(0, {
    model: 'volume',
    tiers: [
      { upTo: 150, unitAmountMinor: 4 },
      { upTo: 'infinity', unitAmountMinor: 3 },
    ],
  }),
}
type PlanKey = keyof typeof PLANS
const PLAN_KEYS = Object.keys(PLANS) as PlanKey[]

const billing = testUse({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 10 } } },
    ...Object.fromEntries(
      PLAN_KEYS.map((key, index) => [
        key,
        { name: key, prices: { monthly: { amountMinor: 1000 * (index + 1) } }, allowances: { calls: PLANS[key] as never } },
      ]),
    ),
  },
  defaultPlan: 'free',
})

/** A use within the time of a plan; `later`: how many plans later it is told; `isAsked`: whether its item is made before anything else. */
const use = fc.record({
  quantity: fc.integer({ min: 1, max: 180 }),
  // Told too much of it, taken back at once.
  mistaken: fc.constantFrom(0, 0, 45),
  later: fc.integer({ min: 0, max: 3 }),
  isAsked: fc.boolean(),
})
const stay = fc.record({
  plan: fc.constantFrom(...PLAN_KEYS),
  topUp: fc.constantFrom(0, 0, 60),
  uses: fc.array(use, { maxLength: 4 }),
})
type Stay = typeof stay extends fc.Arbitrary<infer S> ? S : never

let keys = 0

/** Lives through some plans of one period; answers what its use costs, and how its balance stands. */
async function live(stays: readonly Stay[], isInTime: boolean) {
  const id = await billing.customer(stays[0]!.plan)
  const told: { at: Date; quantity: number; mistaken: number; when: number; isAsked: boolean }[] = []
  const tell = async (index: number): Promise<void> => {
    for (const { at, quantity, mistaken, isAsked } of told.filter(({ when }) => when === index)) {
      const key = `${id} ${(keys += 1)}`
      await billing.use(id, 'calls', quantity + mistaken, { key, occurredAt: at })
      if (isAsked) await chargeDueLateUse(billing.context)
      if (mistaken > 0) await billing.correct(id, key, -mistaken)
    }
  }
  for (const [index, { plan, topUp, uses }] of stays.entries()) {
    if (index > 0) await billing.succeed(id, 'upgrade', { new_tier: plan })
    if (topUp > 0) await give(id, topUp, index)
    await billing.advance(id, '20h')
    for (const { quantity, mistaken, later, isAsked } of uses) {
      await billing.advance(id, '1h')
      const at = await billing.nowOf(id)
      if (isInTime || later === 0) await billing.use(id, 'calls', quantity, { occurredAt: at })
      else {
        const when = Math.min(index + later, stays.length - 1)
        // What is taken back of the present plan's use comes off its overage first, whichever plan that is of (decision 0190).
        told.push({ at, quantity, mistaken: when > index ? mistaken : 0, when, isAsked })
      }
    }
    await billing.advance(id, '20h')
    await tell(index)
  }
  const { usage } = await readStatement(billing.context, { organizationId: id, at: null })
  const { balance } = await billing.use(id, 'calls', 0)
  const { amount, used, overage, remaining } = balance
  return {
    id,
    minor: usage.reduce((sum, { amountMinor, creditedMinor }) => sum + amountMinor - creditedMinor, 0),
    balance: { amount, used, overage, remaining },
  }
}

async function give(organizationId: string, amount: number, index: number): Promise<void> {
  const grant = {
    organizationId,
    id: `given ${index}`,
    balanceKey: 'calls',
    kind: 'top_up',
    amount: parseQuantity(amount),
  } as const
  const { db, clock, catalogs } = billing.context
  await giveGrant({ db, clock, catalogs, graceDays: 3 }, grant, { actor: 'operator:test', requestId: null })
}

test('use costs the same told in time or late, whatever plans it lies before, and is on invoices to the cent', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(stay, { minLength: 2, maxLength: 4 }), async (all) => {
      const stays = all.filter(({ plan }, index) => plan !== all[index - 1]?.plan)
      const inTime = await live(stays, true)
      const late = await live(stays, false)
      expect({ minor: late.minor, balance: late.balance }).toEqual({ minor: inTime.minor, balance: inTime.balance })
      const began = (await billing.nowOf(late.id)).getTime()
      const { period } = await readStatement(billing.context, { organizationId: late.id, at: null })
      await billing.advance(late.id, `${Math.ceil((period.end.getTime() - began) / HOUR_MS) + 3}h`)
      const first = await readStatement(billing.context, { organizationId: late.id, at: period.start })
      const second = await readStatement(billing.context, { organizationId: late.id, at: null })
      expect(first.isFinal).toBe(true)
      const customer = (
        await billing.database.db.query<{ customer: string }>(
          'select stripe_customer_id as customer from organizations where id = $1',
          [late.id],
        )
      ).rows[0]!.customer
      const invoices = billing.sandbox.all('invoice').filter((invoice) => invoice.customer === customer)
      expect(first.totalMinor + second.totalMinor).toBe(invoices.reduce((sum, { total }) => sum + total, 0))
    }),
    { numRuns: Number(process.env['LATE_RUNS'] ?? 20), endOnFailure: true },
  )
}, 600_000)

import { expect, test } from 'vitest'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { showPrice } from '../catalog/price-views.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import {
  allowanceChanges,
  featureChanges,
  isMove,
  moveOf,
  newlyBilled,
  repricings,
  withDefaultOf,
  yearlyTotals,
  type Candidate,
} from './rules.ts'

type Overage = NonNullable<NonNullable<CatalogDefinition['plans'][string]['allowances'][string]>['overage']>

const catalogOf = (overages: Readonly<Record<string, Overage | null>>) =>
  normalizeCatalog({
    meters: Object.fromEntries(Object.keys(overages).map((key) => [key, {}])),
    plans: {
      pro: {
        name: 'Pro',
        allowances: Object.fromEntries(
          Object.entries(overages).map(([key, overage]) => [
            key,
            overage === null ? { amount: 1 } : { amount: 1, limit: 'soft', overage },
          ]),
        ),
      },
    },
    defaultPlan: 'pro',
  })

test('what costs something else is told with both prices, and what costs the same, begins or ceases to cost is not', () => {
  const same = { model: 'per_unit', unitAmountMinor: '0.5' } as const
  const before = catalogOf({
    calls: { model: 'per_unit', unitAmountMinor: 2 },
    words: { model: 'package', size: 100, amountMinor: 10 },
    users: { model: 'graduated', tiers: [{ upTo: 'infinity', unitAmountMinor: 100 }] },
    same,
    begins: null,
    ceases: same,
  })
  const after = catalogOf({
    calls: { model: 'per_unit', unitAmountMinor: '2.5' },
    words: { model: 'package', size: 50, amountMinor: 10 },
    users: {
      model: 'graduated',
      tiers: [
        { upTo: 5, unitAmountMinor: 100, flatAmountMinor: 7 },
        { upTo: 'infinity', unitAmountMinor: 1 },
      ],
    },
    same,
    begins: same,
    ceases: null,
    new: same,
  })
  const told = repricings('pro', before, after).map(({ balanceKey, from, to }) => [balanceKey, showPrice(from), showPrice(to)])
  expect(told).toEqual([
    ['calls', { model: 'per_unit', unit_amount_minor: '2' }, { model: 'per_unit', unit_amount_minor: '2.5' }],
    [
      'words',
      { model: 'package', package_size: 100, package_amount_minor: 10 },
      { model: 'package', package_size: 50, package_amount_minor: 10 },
    ],
    [
      'users',
      { model: 'graduated', tiers: [{ up_to: null, unit_amount_minor: '100', flat_amount_minor: 0 }] },
      {
        model: 'graduated',
        tiers: [
          { up_to: 5, unit_amount_minor: '100', flat_amount_minor: 7 },
          { up_to: null, unit_amount_minor: '1', flat_amount_minor: 0 },
        ],
      },
    ],
  ])
})

test('what begins to cost is told, and neither what cost before nor what costs nothing', () => {
  const price = { model: 'per_unit', unitAmountMinor: 1 } as const
  const dearer = { model: 'per_unit', unitAmountMinor: 2 } as const
  const before = catalogOf({ begins: null, costs: price, ceases: price, free: null })
  const after = catalogOf({ begins: price, costs: dearer, ceases: null, free: null, new: price })
  expect(newlyBilled('pro', before, after)).toEqual(['begins', 'new'])
})

test('features are told that begin, end or become something else, and no others', () => {
  const catalogOfFeatures = (features: CatalogDefinition['plans'][string]['features']) =>
    normalizeCatalog({
      meters: {},
      features: { sso: {}, projects: { type: 'number' }, support: { type: 'choice', values: ['email', 'phone'] }, same: {} },
      plans: { pro: { name: 'Pro', allowances: {}, ...(features === undefined ? {} : { features }) } },
      defaultPlan: 'pro',
    })
  const before = catalogOfFeatures({ projects: 20, support: 'email', same: true })
  const after = catalogOfFeatures({ sso: true, projects: 'unlimited', same: true })
  expect(featureChanges('pro', before, after)).toEqual([
    { featureKey: 'sso', from: null, to: true },
    { featureKey: 'projects', from: 20_000_000n, to: 'unlimited' },
    { featureKey: 'support', from: 'email', to: null },
  ])
  expect(featureChanges('gone', before, after)).toEqual([])
})

const candidate: Candidate = {
  organizationId: 'acme',
  name: 'Acme',
  planKey: 'pro',
  catalogVersion: 1,
  interval: 'monthly',
  quantity: 1,
  priceId: 'price_before',
  amountMinor: 1900,
  currency: 'eur',
  currentPeriodEnd: null,
}

test('who pays in another currency than the plan is sold in cannot be moved, and is not summed up with those who can', () => {
  const present = catalogOf({ calls: null })
  const offer = { planKey: 'pro', interval: 'monthly', priceId: 'price_now', amountMinor: 2000, currency: 'usd' }
  const refused = { organizationId: 'acme', planKey: 'pro', why: 'It is paid in eur, and the plan is sold in usd.' }
  expect(moveOf(candidate, present, [offer])).toEqual(refused)
  expect(moveOf(candidate, present, [])).toEqual(refused)
  expect(moveOf({ ...candidate, currency: 'usd' }, present, [offer])).toMatchObject({
    toPriceId: 'price_now',
    toAmountMinor: 2000,
  })
  expect(moveOf({ ...candidate, priceId: null, interval: null }, present, [offer])).toMatchObject({ toPriceId: null })
})

test('who is moved pays what the plan costs at their interval, or what they pay, where it has no such price any more', () => {
  const present = catalogOf({ calls: null })
  const inDollars = { ...candidate, currency: 'usd' }
  const offers = [
    { planKey: 'pro', interval: 'yearly', priceId: 'price_year', amountMinor: 20_000, currency: 'usd' },
    { planKey: 'max', interval: 'monthly', priceId: 'price_max', amountMinor: 9000, currency: 'usd' },
  ]
  expect(moveOf({ ...inDollars, interval: 'yearly' }, present, offers)).toMatchObject({
    toPriceId: 'price_year',
    toAmountMinor: 20_000,
  })
  expect(moveOf(inDollars, present, offers)).toMatchObject({ toPriceId: 'price_before', toAmountMinor: 1900 })
  const gone = moveOf({ ...inDollars, planKey: 'max' }, present, offers)
  expect([gone, isMove(gone)]).toEqual([
    { organizationId: 'acme', planKey: 'max', why: 'The catalog no longer has the plan "max".' },
    false,
  ])
})

test('a default plan that is gone is that of today under its old name; one that is still there stays what it is', () => {
  const plan = (name: string) => ({ name, allowances: {} })
  const before = normalizeCatalog({ meters: {}, plans: { free: plan('Free') }, defaultPlan: 'free' })
  const renamed = normalizeCatalog({ meters: {}, plans: { starter: plan('Starter') }, defaultPlan: 'starter' })
  expect(withDefaultOf(before, renamed).plans.get('free')).toBe(renamed.plans.get('starter'))
  const both = normalizeCatalog({ meters: {}, plans: { free: plan('Free'), starter: plan('Starter') }, defaultPlan: 'starter' })
  expect(withDefaultOf(before, both)).toBe(both)
})

test('allowances are told that begin, end or become another amount, by their balance', () => {
  const allowing = (amounts: Readonly<Record<string, number | 'unlimited'>>) =>
    normalizeCatalog({
      meters: Object.fromEntries(['a', 'b', 'c', 'd', 'same'].map((key) => [key, {}])),
      plans: {
        pro: { name: 'Pro', allowances: Object.fromEntries(Object.entries(amounts).map(([key, amount]) => [key, { amount }])) },
      },
      defaultPlan: 'pro',
    })
  const [before, after] = [allowing({ c: 1, b: 2, same: 3 }), allowing({ d: 4, b: 'unlimited', a: 5, same: 3 })]
  expect(allowanceChanges('pro', before, after)).toEqual([
    { balanceKey: 'a', from: undefined, to: 5_000_000n },
    { balanceKey: 'b', from: 2_000_000n, to: null },
    { balanceKey: 'c', from: 1_000_000n, to: undefined },
    { balanceKey: 'd', from: undefined, to: 4_000_000n },
  ])
})

test('what moves change is summed up by currency: of a year, of all seats', () => {
  const move = { ...candidate, quantity: 3, toPriceId: 'price_now', toAmountMinor: 2000 }
  const first = yearlyTotals([move, { ...move, interval: 'yearly', quantity: 1 }, { ...move, currency: 'usd', quantity: 1 }])
  expect(first).toEqual([
    { currency: 'eur', beforeMinor: 37 * 1900, afterMinor: 37 * 2000 },
    { currency: 'usd', beforeMinor: 12 * 1900, afterMinor: 12 * 2000 },
  ])
  expect(yearlyTotals([{ ...move, quantity: 1 }], first)).toMatchObject([{ beforeMinor: 49 * 1900, afterMinor: 49 * 2000 }, {}])
})

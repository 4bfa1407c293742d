import { expect, test } from 'vitest'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { showPrice } from '../catalog/price-views.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { featureChanges, moveOf, newlyBilled, repricings, type Candidate } from './rules.ts'

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

test('who pays in another currency than the plan is sold in cannot be moved, and is not summed up with those who can', () => {
  const present = catalogOf({ calls: null })
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

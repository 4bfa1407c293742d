import { expect, test } from 'vitest'
import { defineBilling } from './define.ts'
import { normalizeCatalog } from './normalize.ts'
import { byTier, planKeyOf, tierOf } from './tiers.ts'

const catalog = normalizeCatalog(
  defineBilling({
    meters: { call: {} },
    plans: {
      free: { name: 'Free', tier: 'FREE', allowances: {} },
      pro: { name: 'Pro', tier: 'PRO', allowances: {} },
      pro_2025: { name: 'Pro', tier: 'PRO', allowances: {} },
      plain: { name: 'Plain', allowances: {} },
    },
    defaultPlan: 'free',
  }),
)

test('EM-1 a plan is called by the tier that the catalog gives it, else by its key', () => {
  expect(['free', 'pro', 'plain', 'gone'].map((key) => tierOf(catalog, key))).toEqual(['FREE', 'PRO', 'plain', 'gone'])
})

test('EM-1 a plan is found by key and by tier, in capitals or not', () => {
  expect(['FREE', 'Pro', 'PRO_2025', 'PLAIN', 'Nothing'].map((name) => planKeyOf(catalog, name))).toEqual([
    'free',
    'pro',
    'pro_2025',
    'plain',
    'Nothing',
  ])
})

test('plans of one tier are counted together', () => {
  const counts = [
    ['pro', 2],
    ['plain', 1],
    ['pro_2025', 3],
  ] as const
  expect(byTier(catalog, counts)).toEqual(
    new Map([
      ['PRO', 5],
      ['plain', 1],
    ]),
  )
})

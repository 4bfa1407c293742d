import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { defineBilling } from '../catalog/define.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { deriveEntitlements, refusalOf, summaryOf, type FeatureOverride } from './rules.ts'

const LEVELS = ['community', 'email', 'phone'] as const
const definition = defineBilling({
  meters: {},
  features: {
    sso: { name: 'Single sign-on' },
    projects: { type: 'number', unit: 'project' },
    support: { type: 'choice', values: LEVELS },
  },
  plans: {
    free: { name: 'Free', allowances: {}, features: { projects: 1, sso: false } },
    bare: { name: 'Bare', allowances: {} },
    pro: { name: 'Pro', allowances: {}, features: { projects: 20, support: 'email' } },
    max: { name: 'Max', allowances: {}, features: { sso: true, projects: 'unlimited', support: 'phone' } },
  },
  addOns: {
    sso: { name: 'SSO', prices: { monthly: { amountMinor: 100 } }, features: { sso: true } },
    more: { name: 'More', prices: { monthly: { amountMinor: 100 } }, features: { projects: '2.5' } },
    chat: { name: 'Help', prices: { monthly: { amountMinor: 100 } }, features: { support: 'community' } },
    all: { name: 'All', prices: { monthly: { amountMinor: 100 } }, features: { projects: 'unlimited', support: 'phone' } },
  },
  defaultPlan: 'free',
})
const catalog = normalizeCatalog(definition)
const now = new Date('2026-05-01T00:00:00Z')
const active = { state: 'active', mayUse: true, reason: 'paid', since: null, until: null } as const

const terms = (planKey: string, addOns: Record<string, number> = {}) => ({ catalog, standing: { ...active, planKey }, addOns })
const derive = (planKey: string, addOns: Record<string, number> = {}, overrides: readonly FeatureOverride[] = []) =>
  deriveEntitlements(terms(planKey, addOns), catalog, overrides, now)
const word = (featureKey: string, value: FeatureOverride['value'], endsAt: Date | null = null) => ({ featureKey, value, endsAt })

describe('what an organization has of features', () => {
  it('is what its plan includes, in the order of the catalog; what is false or 0 is not included', () => {
    expect(summaryOf(derive('free'))).toEqual({ projects: 1 })
    expect(derive('free').map(({ feature, source }) => [feature.key, source])).toEqual([
      ['sso', null],
      ['projects', 'plan'],
      ['support', null],
    ])
    expect(summaryOf(derive('max'))).toEqual({ sso: true, projects: 'unlimited', support: 'phone' })
  })

  it('grows with add-ons: one switches on, numbers add up by their quantity, of choices the highest counts', () => {
    const grown = derive('pro', { sso: 1, more: 3, chat: 1 })
    expect(summaryOf(grown)).toEqual({ sso: true, projects: 27.5, support: 'email' })
    expect(grown.map(({ source }) => source)).toEqual(['add_on', 'add_on', 'plan'])
    expect(summaryOf(derive('pro', { all: 1, more: 2 }))).toEqual({ projects: 'unlimited', support: 'phone' })
    expect(summaryOf(derive('bare', { sso: 1, more: 2, chat: 1 }))).toEqual({ sso: true, projects: 5, support: 'community' })
    expect(summaryOf(derive('pro', { all: 0 }))).toEqual({ projects: 20, support: 'email' })
  })

  it('is an operator’s word first, up or down, until the moment at which it ends', () => {
    const end = new Date(now.getTime() + 1)
    const given = derive('max', {}, [word('sso', false), word('projects', 3, end), word('support', 'community', now)])
    expect(summaryOf(given)).toEqual({ projects: 3, support: 'phone' })
    expect(given.map(({ source, overrideEndsAt }) => [source, overrideEndsAt])).toEqual([
      ['override', null],
      ['override', end],
      ['plan', null],
    ])
  })

  it('is not a word about a value that there is no more', () => {
    expect(summaryOf(derive('pro', {}, [word('support', 'pigeon')]))).toEqual({ projects: 20, support: 'email' })
  })

  it('knows a feature that was declared after its terms, and does not include it unless an operator says so', () => {
    const before = { ...terms('pro'), catalog: { ...catalog, features: new Map([...catalog.features].slice(1)) } }
    expect(deriveEntitlements(before, catalog, [], now).find(({ feature }) => feature.key === 'sso')?.value).toBeNull()
    expect(summaryOf(deriveEntitlements(before, catalog, [word('sso', true)], now))['sso']).toBe(true)
  })

  it('has what an add-on gives that was declared after its terms, where they know the feature alike', () => {
    const addOns = new Map([...catalog.addOns].filter(([key]) => key === 'more'))
    const values = ['community', 'email']
    const support = { ...catalog.features.get('support')!, values }
    const own = { ...catalog, addOns, features: new Map([...catalog.features, ['support', support] as const].slice(1)) }
    const bought = { ...terms('pro', { sso: 1, more: 2, all: 1 }), catalog: own, otherAddOns: catalog.addOns }
    // Of what the present catalog has, support by phone is nothing that these terms know.
    expect(summaryOf(deriveEntitlements(bought, catalog, [], now))).toEqual({
      sso: true,
      projects: 'unlimited',
      support: 'email',
    })
    expect(deriveEntitlements(bought, catalog, [], now).map(({ source }) => source)).toEqual(['add_on', 'add_on', 'plan'])
    // What its terms say of an add-on counts, whatever the present catalog says.
    const otherAddOns = new Map([['more', { ...catalog.addOns.get('more')!, features: new Map() }]])
    expect(summaryOf(deriveEntitlements({ ...terms('pro', { more: 2 }), otherAddOns }, catalog, [], now))['projects']).toBe(25)
  })

  it('is told in the order of the present catalog, whatever order stored terms have, and last what that has no more', () => {
    const { features } = catalog
    const stored = { ...terms('pro'), catalog: { ...catalog, features: new Map([...features].toReversed()) } }
    expect(deriveEntitlements(stored, catalog, [], now).map(({ feature }) => feature.key)).toEqual([...features.keys()])
    const present = { ...catalog, features: new Map([...features].filter(([key]) => key !== 'sso')) }
    const keys = deriveEntitlements(stored, present, [], now).map(({ feature }) => feature.key)
    expect(keys).toEqual(['projects', 'support', 'sso'])
  })

  test('never shrinks by an add-on, whatever the order and the quantities', () => {
    const quantities = fc.record({ sso: fc.nat(3), more: fc.nat(3), chat: fc.nat(3), all: fc.nat(1) })
    fc.assert(
      fc.property(fc.constantFrom('free', 'pro', 'max'), quantities, quantities, (plan, one, other) => {
        const both = Object.fromEntries(Object.keys(one).map((key) => [key, Math.max(one[key as 'sso'], other[key as 'sso'])]))
        const [less, more] = [derive(plan, one), derive(plan, both)].map((all) => all.map(rankOf))
        expect(less!.every((rank, index) => rank <= more![index]!)).toBe(true)
        const reversed = Object.fromEntries(Object.entries(one).toReversed())
        expect(summaryOf(derive(plan, reversed))).toEqual(summaryOf(derive(plan, one)))
      }),
    )
  })
})

function rankOf({ feature, value }: ReturnType<typeof derive>[number]): bigint {
  if (value === null) return -1n
  if (value === 'unlimited') return parseQuantity(1_000_000)
  if (typeof value === 'bigint') return value
  return value === true ? 1n : BigInt(feature.values.indexOf(value))
}

describe('whether a feature may be used', () => {
  const [sso, projects] = derive('pro')
  it('is refused where it is not included, and whatever it is while use has stopped', () => {
    const suspended = { standing: { ...active, planKey: 'pro', state: 'suspended', mayUse: false } as const }
    const paused = { standing: { ...suspended.standing, state: 'paused' } as const }
    expect([refusalOf(sso!, terms('pro')), refusalOf(projects!, terms('pro'))]).toEqual(['not_included', null])
    expect([refusalOf(projects!, suspended), refusalOf(projects!, paused)]).toEqual(['suspended', 'paused'])
  })
})

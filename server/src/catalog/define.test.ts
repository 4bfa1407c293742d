import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseQuantity } from '../lib/quantity.ts'
import { defineBilling } from './define.ts'
import { normalizeCatalog, normalizeNewCatalog } from './normalize.ts'
import { CatalogError } from './problems.ts'
import { importCatalogDefinition } from './registry.ts'

const definition = defineBilling({
  meters: { ingestion: {}, search: { unit: 'query' }, storage: {} },
  credits: { credits: { costs: { ingestion: 1, search: '0.1' } } },
  plans: {
    free: { name: 'Free', allowances: { credits: { amount: 100, period: 'calendar_month' } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 } },
      allowances: { credits: { amount: 'unlimited' }, storage: { amount: 5 } },
    },
  },
  defaultPlan: 'free',
})

function problemsOf(input: unknown): readonly string[] {
  try {
    normalizeCatalog(input)
  } catch (error) {
    if (error instanceof CatalogError) return error.problems
    throw error
  }
  return []
}

describe('defineBilling', () => {
  it('makes a name that is not declared a type error', () => {
    const draft = {
      meters: { search: {} },
      plans: { free: { name: 'Free', allowances: {} } },
      defaultPlan: 'free',
    } as const
    // @ts-expect-error "serch" is no meter
    const misspelled = defineBilling({ ...draft, plans: { free: { name: 'Free', allowances: { serch: { amount: 1 } } } } })
    // @ts-expect-error "gratis" is no plan
    const unknownPlan = defineBilling({ ...draft, defaultPlan: 'gratis' })
    expect(problemsOf(misspelled)).toEqual([
      'plans.free.allowances.serch: nothing that can be used up is called "serch"; declared: search.',
    ])
    expect(problemsOf(unknownPlan)).toEqual(['defaultPlan: no plan is called "gratis"; declared: free.'])
  })
})

describe('normalizeCatalog', () => {
  const catalog = normalizeCatalog(definition)

  it('lets a meter draw from the pool that lists it, at its exact cost, else from its own balance', () => {
    expect(catalog.meters.get('search')).toMatchObject({ balanceKey: 'credits', cost: parseQuantity('0.1') })
    expect(catalog.meters.get('storage')).toMatchObject({ balanceKey: 'storage', cost: parseQuantity(1) })
    expect([...catalog.balances.keys()].sort()).toEqual(['credits', 'storage'])
  })

  it('fills in defaults: billing cycle, hard limit, purchasable when priced', () => {
    expect(catalog.plans.get('pro')?.allowances.get('storage')).toEqual({
      balanceKey: 'storage',
      amount: parseQuantity(5),
      period: 'billing_cycle',
      limit: 'hard',
      overage: null,
      spendLimitMinor: null,
      rollover: null,
      thresholds: [50, 80, 100],
    })
    expect(catalog.timeZone).toBe('UTC')
    expect(catalog.plans.get('pro')?.allowances.get('credits')?.amount).toBeNull()
    expect(catalog.plans.get('free')?.purchasable).toBe(false)
    expect(catalog.plans.get('pro')?.purchasable).toBe(true)
    expect(catalog.currency).toBe('usd')
  })

  it('names every problem with its place', () => {
    expect(
      problemsOf({
        ...definition,
        credits: {
          credits: { costs: { ingestion: '0.0000001' } },
          other: { costs: { ingestion: 1, nothing: 1 } },
          search: { costs: {} },
        },
        plans: { ...definition.plans, team: { name: 'Team', purchasable: true, allowances: {} } },
      }),
    ).toEqual([
      'credits.credits.costs.ingestion must be a decimal such as 12.5, with at most six places.',
      'credits.other.costs.ingestion: the meter already draws from "credits"; a meter draws from one balance.',
      'credits.other.costs.nothing: no meter is called "nothing"; declared: ingestion, search, storage.',
      'credits.search: a meter has the same name.',
      'plans.team: a plan without a price cannot be purchasable.',
    ])
  })

  it('refuses fields it does not know, fractions of a cent and misspelled periods', () => {
    expect(problemsOf({ ...definition, plan: {} })[0]).toContain('plan')
    const price = { ...definition, plans: { free: { name: 'Free', prices: { monthly: { amountMinor: 9.5 } }, allowances: {} } } }
    expect(problemsOf(price)).toEqual(['plans.free.prices.monthly.amountMinor: an amount is a whole number of minor units.'])
    const period = { ...definition, plans: { free: { name: 'Free', allowances: { credits: { amount: 1, period: 'monthly' } } } } }
    expect(problemsOf(period)[0]).toMatch(/^plans\.free\.allowances\.credits\.period: /)
  })
})

describe('limits and prices of use', () => {
  const plan = (allowance: object, more: object = {}) => ({
    ...definition,
    plans: { free: { name: 'Free', allowances: { credits: allowance }, ...more } },
  })
  const tiers = [
    { upTo: 1000, unitAmountMinor: '0.2' },
    { upTo: 'infinity', unitAmountMinor: '0.1', flatAmountMinor: 5 },
  ]

  it('are exact, with every default filled in', () => {
    const catalog = normalizeCatalog(
      plan(
        {
          amount: 500,
          limit: 'soft',
          overage: { model: 'graduated', tiers },
          spendLimitMinor: 10_000,
          rollover: {},
          thresholds: [100, 50, 100],
        },
        { rateLimits: { search: { limit: 60, per: 'minute' } } },
      ),
    )
    expect(catalog.plans.get('free')?.allowances.get('credits')).toMatchObject({
      overage: {
        model: 'graduated',
        tiers: [
          { upTo: parseQuantity(1000), unitAmount: 200_000_000_000n, flatAmountMinor: 0 },
          { upTo: null, unitAmount: 100_000_000_000n, flatAmountMinor: 5 },
        ],
      },
      spendLimitMinor: 10_000,
      rollover: { max: null, periods: 1 },
      thresholds: [50, 100],
    })
    expect(catalog.plans.get('free')?.rateLimits.get('search')).toEqual({ limit: parseQuantity(60), seconds: 60 })
  })

  it.each([
    [{ amount: 1, overage: { model: 'per_unit', unitAmountMinor: 1 } }, 'overage: only what has a soft limit'],
    [
      { amount: 'unlimited', limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 1 } },
      'overage: only what has a soft limit',
    ],
    [{ amount: 1, limit: 'soft', spendLimitMinor: 5 }, 'spendLimitMinor: it limits the price of overage'],
    [{ amount: 1, period: 'lifetime', rollover: {} }, 'rollover: an allowance that never ends'],
    [{ amount: 1, rollover: { max: 0 } }, 'rollover.max: it must be more than 0'],
    [
      { amount: 1, limit: 'soft', overage: { model: 'package', size: 0, amountMinor: 1 } },
      'overage.size: it must be more than 0',
    ],
    [
      { amount: 1, limit: 'soft', overage: { model: 'volume', tiers: tiers.slice(0, 1) } },
      "tiers.0.upTo: the last step, and no other, is up to 'infinity'",
    ],
    [
      { amount: 1, limit: 'soft', overage: { model: 'volume', tiers: [tiers[0], tiers[0], tiers[1]] } },
      'tiers.1.upTo: each step ends after',
    ],
    [
      { amount: 1, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: -1 } },
      'unitAmountMinor must be a decimal of minor units',
    ],
    [{ amount: 1, thresholds: [0] }, 'thresholds.0: '],
  ])('refuses %j', (allowance, problem) => {
    expect(problemsOf(plan(allowance)).join('\n')).toContain(problem)
  })

  it('refuses a zone, top-ups, add-ons and rate limits of what is not there', () => {
    expect(problemsOf({ ...definition, timeZone: 'Mars/Olympus' })[0]).toContain('timeZone: an IANA time zone')
    expect(
      problemsOf({
        ...definition,
        topUps: { pack: { name: 'Pack', balance: 'coins', amount: 5, priceMinor: 100 } },
        addOns: { pro: { name: 'More', prices: {}, allowances: { coins: 5 } } },
        plans: { ...definition.plans, free: { name: 'Free', allowances: {}, rateLimits: { calls: { limit: 1, per: 'hour' } } } },
      }),
    ).toEqual([
      'plans.free.rateLimits.calls: no meter is called "calls"; declared: ingestion, search, storage.',
      'topUps.pack.balance: nothing that can be used up is called "coins"; declared: credits, storage.',
      'addOns.pro.allowances.coins: nothing that can be used up is called so; declared: credits, storage.',
      'addOns.pro: an add-on without a price cannot be bought.',
      'addOns.pro: a plan has the same name.',
    ])
  })

  it('says what an add-on’s allowance is where it is written as a plan’s', () => {
    const allowances = { credits: { amount: 5 } } as unknown as { credits: number }
    const addOns = { pack: { name: 'Pack', prices: { monthly: { amountMinor: 100 } }, allowances } }
    expect(problemsOf({ ...definition, addOns })[0]).toContain(
      'addOns.pack.allowances.credits: a quantity is expected, such as 500',
    )
  })

  it('makes an unknown balance of a top-up or meter of a rate limit a type error', () => {
    const draft = { meters: { search: {} }, plans: { free: { name: 'Free', allowances: {} } }, defaultPlan: 'free' } as const
    // @ts-expect-error "coins" can not be used up
    const topUp = defineBilling({ ...draft, topUps: { pack: { name: 'Pack', balance: 'coins', amount: 5, priceMinor: 100 } } })
    expect(problemsOf(topUp)).toHaveLength(1)
  })
})

describe('features', () => {
  const features = {
    sso: { name: 'Single sign-on' },
    projects: { type: 'number', unit: 'project' },
    support: { type: 'choice', values: ['email', 'phone'] },
  } as const
  const offering = (values: object, declared: object = features) => ({
    meters: {},
    features: declared,
    plans: { free: { name: 'Free', allowances: {}, features: values } },
    defaultPlan: 'free',
  })

  it('are there or not, numbers or a choice; what is nothing is left out', () => {
    const { features: read, plans } = normalizeCatalog(offering({ sso: true, projects: '2.5', support: 'phone' }))
    expect(read.get('projects')).toEqual({ key: 'projects', name: 'projects', type: 'number', unit: 'project', values: [] })
    expect([...plans.get('free')!.features]).toEqual([
      ['sso', true],
      ['projects', parseQuantity('2.5')],
      ['support', 'phone'],
    ])
    const nothing = normalizeCatalog(offering({ sso: false, projects: 0, support: false }))
    expect(nothing.plans.get('free')!.features.size).toBe(0)
    expect(
      normalizeCatalog(offering({ projects: 'unlimited' }))
        .plans.get('free')!
        .features.get('projects'),
    ).toBe('unlimited')
  })

  it.each([
    [{ teleport: true }, 'plans.free.features.teleport: no feature is called "teleport"; declared: sso, projects, support.'],
    [{ sso: 'yes' }, 'plans.free.features.sso: true or false is expected.'],
    [{ projects: true }, "plans.free.features.projects: a number or 'unlimited' is expected."],
    [{ projects: -1 }, 'plans.free.features.projects: a negative amount means nothing here.'],
    [{ support: 'pigeon' }, 'plans.free.features.support: one of email, phone is expected.'],
  ])('of a plan are refused where they say %j', (values, problem) => {
    expect(problemsOf(offering(values))).toEqual([problem])
  })

  it.each([
    [{ sso: { unit: 'x' } }, 'features.sso.unit: only a number has one.'],
    [{ sso: { values: ['a'] } }, 'features.sso.values: a choice has them, and nothing else.'],
    [{ sso: { type: 'choice' } }, 'features.sso.values: a choice has them, and nothing else.'],
    [{ sso: { type: 'choice', values: ['a', 'a'] } }, 'features.sso.values: one is named twice.'],
  ])('are refused where they are declared as %j', (declared, problem) => {
    expect(problemsOf(offering({}, declared))).toEqual([problem])
  })

  it('make a name that is not declared a type error', () => {
    const draft = { meters: { search: {} }, features, defaultPlan: 'free' } as const
    // @ts-expect-error "teleport" is no feature
    const plan = defineBilling({ ...draft, plans: { free: { name: 'Free', allowances: {}, features: { teleport: true } } } })
    expect(problemsOf(plan)).toHaveLength(1)
  })
})

describe('a billing.config.ts', () => {
  it('sells nothing that Stripe would refuse each time: amounts of three places end in 0', () => {
    const selling = (currency: string, priceMinor: number) => ({
      ...definition,
      currency,
      topUps: { pack: { name: 'Pack', balance: 'credits', amount: 5, priceMinor } },
    })
    expect(() => normalizeNewCatalog(selling('kwd', 1_205))).toThrow(
      'topUps.pack.priceMinor: Stripe takes amounts in kwd only when they end in 0.',
    )
    expect(normalizeNewCatalog(selling('kwd', 1_200)).topUps.get('pack')?.priceMinor).toBe(1_200)
    expect(normalizeNewCatalog(selling('usd', 1_205)).topUps.get('pack')?.priceMinor).toBe(1_205)
    expect(normalizeCatalog(selling('kwd', 1_205)).topUps.get('pack')?.priceMinor).toBe(1_205)
  })

  it('may be a function of the environment (KF-1)', async () => {
    const path = join(await mkdtemp(join(tmpdir(), 'catalog-')), 'billing.config.ts')
    await writeFile(
      path,
      `export default (variables) => ({ meters: {}, plans: { free: { name: variables.PLAN_NAME ?? 'Free', allowances: {} } }, defaultPlan: 'free' })`,
    )
    expect((await importCatalogDefinition(path, { PLAN_NAME: 'Gratis' })).plans['free']?.name).toBe('Gratis')
    expect((await importCatalogDefinition(path)).plans['free']?.name).toBe('Free')
    await rm(dirname(path), { recursive: true })
  })
})

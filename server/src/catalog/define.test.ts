import { describe, expect, it } from 'vitest'
import { parseQuantity } from '../lib/quantity.ts'
import { defineBilling } from './define.ts'
import { CatalogError, normalizeCatalog } from './normalize.ts'

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
    })
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
      'credits.credits.costs.ingestion must be a decimal with at most six places and thirteen digits before the point.',
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

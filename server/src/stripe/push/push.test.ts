import { describe, expect, test } from 'vitest'
import { testBilling } from '../../../test/billing.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import type { PriceSnapshot } from '../gateway/gateway.ts'
import { PLAN_METADATA } from './former-prices.ts'
import { planPush, type StripeCatalog } from './push-plan.ts'
import { pushCatalog } from './push.ts'

const billing = testBilling()

const definition = {
  meters: { search: {}, seats: { aggregation: 'max' } },
  plans: {
    free: { name: 'Free', allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900, priceVariable: 'STRIPE_PRICE_ID_PRO' }, yearly: { amountMinor: 29_000 } },
      allowances: {},
    },
  },
  defaultPlan: 'free',
}
const catalog = normalizeCatalog(definition)
const nothing: StripeCatalog = { products: [], prices: [], meters: [] }
const product = { id: 'prod_1', name: 'Pro', description: null, active: true, metadata: { [PLAN_METADATA]: 'pro' } }
const monthly: PriceSnapshot = {
  id: 'price_m',
  productId: 'prod_1',
  active: true,
  currency: 'usd',
  unitAmountMinor: 2900,
  interval: 'month',
  intervalCount: 1,
  lookupKey: 'tollgate:pro:monthly',
  meterId: null,
  unitAmountDecimal: '2900',
  metadata: {},
}
const yearly = { ...monthly, id: 'price_y', unitAmountMinor: 29_000, interval: 'year', lookupKey: 'tollgate:pro:yearly' }
const pushed: StripeCatalog = {
  products: [product],
  prices: [monthly, yearly],
  meters: [],
}
const kindsOf = (stripe: StripeCatalog, variables = {}) => planPush(catalog, stripe, variables).steps.map(({ kind }) => kind)

describe('the difference between a catalog and Stripe', () => {
  test('is everything at first', () => {
    expect(kindsOf(nothing)).toEqual(['create_product', 'create_price', 'create_price'])
  })

  test('is nothing when all is there', () => {
    expect(kindsOf(pushed)).toEqual(['use_price', 'use_price'])
  })

  test('is a new price when an amount changed, and names the one that is replaced', () => {
    const { steps } = planPush(catalog, { ...pushed, prices: [{ ...monthly, unitAmountMinor: 1900 }, yearly] }, {})
    expect(steps[0]).toMatchObject({
      kind: 'create_price',
      amountMinor: 2900,
      replaces: { id: 'price_m', unitAmountMinor: 1900 },
    })
  })

  test('is a price of before that sells again, archived or not, where all that cannot be changed about it is as it is wanted', () => {
    const former = { ...monthly, id: 'price_former', lookupKey: null, metadata: { [PLAN_METADATA]: 'pro' } }
    const current = { ...monthly, unitAmountMinor: 1900 }
    const stepOf = (...prices: PriceSnapshot[]) => planPush(catalog, { ...pushed, prices: [...prices, yearly] }, {}).steps[0]
    const reused = { kind: 'reuse_price', priceId: 'price_former', amountMinor: 2900 }
    expect(stepOf(current, former)).toMatchObject({ ...reused, replaces: { id: 'price_m' } })
    expect(stepOf(current, { ...former, active: false })).toMatchObject(reused)
    expect(stepOf({ ...former, active: false, lookupKey: monthly.lookupKey })).toMatchObject({ ...reused, replaces: null })
    expect(stepOf(current, { ...former, id: 'price_archived', active: false }, former)).toMatchObject(reused)
    for (const other of [
      { unitAmountMinor: 2901 },
      { currency: 'eur' },
      { interval: 'year' },
      { intervalCount: 2 },
      { productId: 'prod_other' },
      { meterId: 'mtr_1' },
      { metadata: {} },
    ]) {
      expect(stepOf(current, { ...former, ...other })).toMatchObject({ kind: 'create_price', replaces: { id: 'price_m' } })
    }
  })

  test('is an update when a plan was renamed', () => {
    expect(kindsOf({ ...pushed, products: [{ ...product, name: 'Old' }] })).toEqual(['update_product', 'use_price', 'use_price'])
  })

  test('takes the price that a variable names, with its own amount', () => {
    const own = { ...monthly, id: 'price_own', lookupKey: null, unitAmountMinor: 3500, productId: 'prod_other' }
    const { steps } = planPush(catalog, { ...nothing, prices: [own] }, { STRIPE_PRICE_ID_PRO: 'price_own' })
    expect(steps).toContainEqual(
      expect.objectContaining({ kind: 'use_price', priceId: 'price_own', amountMinor: 3500, variable: 'STRIPE_PRICE_ID_PRO' }),
    )
  })

  test.each([
    ['is not at Stripe', []],
    ['is not monthly', [{ ...monthly, id: 'price_own', interval: 'year' }]],
  ])('is refused with a sentence when the price that a variable names %s', (_, prices) => {
    const { problems } = planPush(catalog, { ...pushed, prices }, { STRIPE_PRICE_ID_PRO: 'price_own' })
    expect(problems).toEqual([expect.stringContaining('STRIPE_PRICE_ID_PRO names the price price_own')])
  })

  test('is refused when one price would sell two plans', () => {
    const twice = normalizeCatalog({
      ...definition,
      plans: { ...definition.plans, team: { ...definition.plans.pro, name: 'Team' } },
    })
    const prices = [{ ...monthly, id: 'price_own' }, yearly]
    expect(planPush(twice, { ...pushed, prices }, { STRIPE_PRICE_ID_PRO: 'price_own' }).problems).toEqual([
      'The price price_own is named twice: for pro, monthly and for team, monthly.',
    ])
  })
})

describe('a push', () => {
  const raisedTo = (amountMinor: number) => {
    const raised = normalizeCatalog({
      meters: {},
      plans: {
        free: { name: 'Free', allowances: {} },
        pro: { name: 'Pro', prices: { monthly: { amountMinor } }, allowances: {} },
      },
      defaultPlan: 'free',
    })
    const { catalogs } = billing.context
    return billing.with({ catalogs: { ...catalogs, current: { ...catalogs.current, catalog: raised } } })
  }
  const offered = async () => {
    const { rows } = await billing.database.db.query(
      `select plan_key, price_key, amount_minor from plan_prices where superseded_at is null order by plan_key, price_key`,
    )
    return rows
  }

  test('makes what is missing, once, and records which price sells which plan', async () => {
    const first = await pushCatalog(billing.context, { variables: {} })
    expect(first.changed).toBeGreaterThan(0)
    expect(await offered()).toEqual([
      { plan_key: 'enterprise', price_key: 'monthly', amount_minor: 19_900n },
      { plan_key: 'pro', price_key: 'monthly', amount_minor: 2900n },
      { plan_key: 'starter', price_key: 'monthly', amount_minor: 900n },
    ])
    const again = await pushCatalog(billing.context, { variables: {} })
    expect(again.changed).toBe(0)
    expect(billing.sandbox.all('product')).toHaveLength(3)
    expect(billing.sandbox.all('price')).toHaveLength(3)
  })

  test('only prints when it is a dry run', async () => {
    const context = raisedTo(3900)
    const lines: string[] = []
    await pushCatalog(context, { variables: {}, dryRun: true, print: (line) => lines.push(line) })
    expect(lines).toEqual([
      expect.stringMatching(/^\+ price of plan pro, monthly: 39\.00 usd instead of 29\.00 usd; who has price_\w+ keeps it$/),
    ])
    expect(billing.sandbox.all('price')).toHaveLength(3)

    await pushCatalog(context, { variables: {} })
    expect(await offered()).toEqual([{ plan_key: 'pro', price_key: 'monthly', amount_minor: 3900n }])
    const { rows } = await billing.database.db.query(`select count(*)::int as n from plan_prices where plan_key = 'pro'`)
    expect(rows).toEqual([{ n: 2 }])
  })

  test('of a catalog that was sold before sells its prices again, and makes none', async () => {
    const before = billing.sandbox.all('price').length
    const lines: string[] = []
    await pushCatalog(billing.context, { variables: {}, print: (line) => lines.push(line) })
    expect(lines.filter((line) => !line.startsWith('='))).toEqual([
      expect.stringMatching(
        /^~ price price_\w+ of plan pro, monthly: 29\.00 usd sells again instead of 39\.00 usd; who has price_\w+ keeps it$/,
      ),
    ])
    expect(billing.sandbox.all('price')).toHaveLength(before)
    expect(await offered()).toMatchObject([
      { plan_key: 'enterprise' },
      { plan_key: 'pro', amount_minor: 2900n },
      { plan_key: 'starter' },
    ])
    expect(await pushCatalog(billing.context, { variables: {} })).toMatchObject({ changed: 0 })
  })

  test('sells a price again that was archived at Stripe', async () => {
    const id = await billing.priceOf('pro')
    await billing.stripe.prices.update(id, { active: false })
    expect(await pushCatalog(billing.context, { variables: {} })).toMatchObject({ changed: 1 })
    expect(await billing.stripe.prices.retrieve(id)).toMatchObject({ active: true, lookup_key: 'tollgate:pro:monthly' })
    expect(await billing.priceOf('pro')).toBe(id)
  })

  test('run twice at the same time makes nothing twice', async () => {
    const before = billing.sandbox.all('price').length
    const context = raisedTo(4900)
    const reports = await Promise.all([pushCatalog(context, { variables: {} }), pushCatalog(context, { variables: {} })])
    expect(reports.map(({ changed }) => changed).sort((a, b) => a - b)).toEqual([0, 1])
    expect(billing.sandbox.all('price')).toHaveLength(before + 1)
  })

  test('answers billing_not_configured without a Stripe key (MR-14)', async () => {
    await expect(pushCatalog(billing.with({ gateway: null }), { variables: {} })).rejects.toMatchObject({
      code: 'billing_not_configured',
    })
  })
})

import { expect, test } from 'vitest'
import { testBilling } from '../../../test/billing.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { openDatabase } from '../../db/database.ts'
import { ManualClock } from '../../lib/clock.ts'
import { MINUTE_MS } from '../../lib/period.ts'
import type { StripeGateway } from '../gateway/gateway.ts'
import { CATALOG_LOCK, finishStrandedIntents } from '../intents/finish-intents.ts'
import { withOrganizationLock } from '../intents/lock.ts'
import { pushCatalog } from './push.ts'

/** One of everything that a push makes: a meter with its product and metered price, and a plan with its product and price. */
const CATALOG = {
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2900 } },
      allowances: {
        calls: { amount: 100, limit: 'soft' as const, overage: { model: 'per_unit' as const, unitAmountMinor: '0.7' } },
      },
    },
  },
  defaultPlan: 'free',
}
const billing = testBilling({ catalog: CATALOG, webhooks: false })
const PUSHER = 'a push that is killed'

/** A push that ends as by a SIGKILL at a call that changes something: its connections break, and nothing of it goes on. */
async function push(where: 'before' | 'after', last: number): Promise<'killed' | 'done'> {
  const url = new URL(billing.database.url)
  url.searchParams.set('application_name', PUSHER)
  const db = openDatabase({ connectionString: url.href, scopeOutside: 'system' })
  const gateway = billing.context.gateway!
  const killed = Promise.withResolvers<'killed'>()
  const die = async (): Promise<never> => {
    await billing.database.db.query('select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1', [
      PUSHER,
    ])
    killed.resolve('killed')
    return new Promise<never>(() => undefined)
  }
  let calls = 0
  const perform: StripeGateway['perform'] = async (kind, params, options) => {
    calls += 1
    const isLast = calls === last
    if (isLast && where === 'before') return die()
    const result = await gateway.perform(kind, params, options)
    return isLast ? die() : result
  }
  const pushing = pushCatalog(billing.with({ db, gateway: { ...gateway, perform } }), { variables: {} })
  const ended = await Promise.race([killed.promise, pushing.then(() => 'done' as const)])
  if (ended === 'done') await db.close()
  return ended
}

const later = () => billing.with({ clock: new ManualClock(new Date(Date.now() + 5 * MINUTE_MS)) })
const made = () => (['billing.meter', 'product', 'price'] as const).map((name) => billing.sandbox.all(name).length)

test('a push that is killed before and after each of its calls is gone on with by the next, and makes nothing twice', async () => {
  let kills = 0
  // From the second round on, the first call is the one that was left open.
  for (let call = 1; (await push('before', call)) === 'killed'; call = 2) {
    expect(await push('after', 1)).toBe('killed')
    kills += 2
  }
  // A meter, two products, two prices.
  expect(made()).toEqual([1, 2, 2])
  await finishStrandedIntents(later())
  expect(made()).toEqual([1, 2, 2])
  expect(await pushCatalog(billing.context, { variables: {} })).toMatchObject({ changed: 0 })
  expect(kills).toBe(2 * 5)
})

test('what a push left open is settled by the server too, but not while another push compares', async () => {
  const { db } = billing.database
  await db.query(`update stripe_intents set state = 'pending', result = null, finished_at = null where kind = 'create_price'`)
  const states = async () => (await db.query(`select distinct state from stripe_intents`)).rows
  await withOrganizationLock(billing.context, CATALOG_LOCK, async () => {
    await finishStrandedIntents(later())
    expect(await states()).toContainEqual({ state: 'pending' })
  })
  await finishStrandedIntents(later())
  expect(await states()).toEqual([{ state: 'succeeded' }])
  expect(made()).toEqual([1, 2, 2])
})

test('a push that sells prices of before again is gone on with too, and makes none', async () => {
  const { catalogs } = billing.context
  const raised = normalizeCatalog({
    ...CATALOG,
    plans: {
      ...CATALOG.plans,
      pro: {
        ...CATALOG.plans.pro,
        prices: { monthly: { amountMinor: 3900 } },
        allowances: { calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.9' } } },
      },
    },
  })
  const other = billing.with({ catalogs: { ...catalogs, current: { ...catalogs.current, catalog: raised } } })
  expect(await pushCatalog(other, { variables: {} })).toMatchObject({ changed: 2 })
  expect(made()).toEqual([1, 2, 4])
  let kills = 0
  for (let call = 1; (await push('before', call)) === 'killed'; call = 2) {
    expect(await push('after', 1)).toBe('killed')
    kills += 2
  }
  expect(kills).toBe(2 * 2)
  expect(made()).toEqual([1, 2, 4])
  expect(await pushCatalog(billing.context, { variables: {} })).toMatchObject({ changed: 0 })
  const { rows } = await billing.database.db.query(
    'select amount_minor from plan_prices where superseded_at is null union all select count(*) from usage_prices where superseded_at is null',
  )
  expect(rows).toEqual([{ amount_minor: 2900n }, { amount_minor: 1n }])
})

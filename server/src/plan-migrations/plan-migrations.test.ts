import { beforeAll, describe, expect, test } from 'vitest'
import { pino } from 'pino'
import { changeByOperator } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { defineBilling } from '../catalog/define.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import { createApp, type App } from '../http/app.ts'
import { parseQuantity } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { runDueMoves } from './actions.ts'
import { registerPlanMigrationRoutes } from './routes.ts'

const OVERAGE = { limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 7 } } as const
const before = defineBilling({
  meters: { calls: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 100 } } },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 2000 }, yearly: { amountMinor: 20_000 } },
      allowances: { calls: { amount: 1000, ...OVERAGE } },
    },
    retired: { name: 'Retired', prices: { monthly: { amountMinor: 500 } }, allowances: {} },
  },
  defaultPlan: 'free',
})
const after = defineBilling({
  meters: { calls: {} },
  features: { sso: { name: 'Single sign-on' } },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 50 } } },
    pro: {
      name: 'Pro',
      features: { sso: true },
      prices: { monthly: { amountMinor: 2500 }, yearly: { amountMinor: 20_000 } },
      allowances: { calls: { amount: 5000, ...OVERAGE } },
    },
  },
  defaultPlan: 'free',
})

const billing = testSubscriptions({ catalog: before })
const { advance, invoicesOf, onClock, post, succeed } = billing
const PATH = '/api/v1/admin/catalog/migrations'
let present: BillingContext
let app: App

beforeAll(async () => {
  for (const [id, subscription] of [
    ['monthly', { tier: 'pro' }],
    ['at_end', { tier: 'pro', quantity: 3 }],
    ['yearly', { tier: 'pro', interval: 'yearly' }],
    ['leaver', { tier: 'pro' }],
    ['switcher', { tier: 'pro' }],
    ['old_plan', { tier: 'retired' }],
    ['killed_now', { tier: 'pro' }],
    ['killed_period_end', { tier: 'pro' }],
    ['unlucky', { tier: 'pro' }],
    ['after_it', { tier: 'pro' }],
    ['and_after', { tier: 'pro' }],
    ['undoer', { tier: 'pro' }],
    ['pauser', { tier: 'pro' }],
    ['rester', { tier: 'pro' }],
    ['grower', { tier: 'pro' }],
    ['waverer', { tier: 'pro' }],
    ['unseen', { tier: 'pro' }],
    ['fewer_now', { tier: 'pro', quantity: 2 }],
    ['fewer_period_end', { tier: 'pro', quantity: 2 }],
    ['hesitant', { tier: 'pro' }],
    ['decided', { tier: 'pro' }],
    ['shrinker', { tier: 'pro', quantity: 3 }],
    ['unpaid', null],
  ] as const) {
    await onClock(id)
    if (subscription === null) continue
    await succeed(id, 'subscribe', { ...subscription, payment_method_id: 'pm_card_visa' })
  }
  const { database, context } = billing
  const catalogs = createCatalogRegistry(database.db, await storeCatalogVersion(database.db, after, context.clock.now()))
  present = billing.with({ catalogs })
  await pushCatalog(present, { variables: {} })
  app = createApp({
    log: pino({ level: 'silent' }),
    authenticate: async () => ({ kind: 'operator', name: 'test' }),
    register: [(registered) => registerPlanMigrationRoutes(registered, present)],
  })
})

async function call(method: string, path: string, body?: unknown) {
  const response = await app.request(path, {
    method,
    headers: { 'content-type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

async function migrate(organizationIds: readonly string[], at: 'now' | 'period_end') {
  const started = await call('POST', PATH, { organization_ids: organizationIds, at, reason: 'New prices' })
  expect(started.status, JSON.stringify(started.body)).toBe(202)
  await runAll()
  return started.body['id'] as string
}

async function runAll(): Promise<void> {
  while ((await runDueMoves(present)) > 0);
}

async function accountOf(id: string) {
  const { rows } = await billing.database.db.query<Record<string, unknown>>(
    `select account.plan_key, account.catalog_version, item.unit_amount_minor, item.quantity, account.scheduled_at,
       (select sum(g.amount) from grants g where g.organization_id = $1 and g.kind = 'plan') as granted
     from accounts account
     left join stripe_subscription_items item
       on item.organization_id = account.organization_id and item.subscription_id = account.subscription_id
       and item.usage_type is distinct from 'metered'
     where account.organization_id = $1`,
    [id],
  )
  return rows[0]!
}

const statesOf = async (id: string) => (await call('GET', `${PATH}/${id}/moves`)).body['moves'] as Record<string, unknown>[]

describe('customers stay on their terms until they are moved', () => {
  test('the preview tells who and how much, and changes nothing', async () => {
    const { status, body } = await call('POST', `${PATH}/preview`, {})
    expect(status).toBe(200)
    expect(body).toMatchObject({ organizations: 22, unmovable: [{ organization_id: 'old_plan', plan: 'retired' }] })
    expect(body['groups']).toContainEqual({
      plan: 'pro',
      from_version: 1,
      organizations: 21,
      newly_billed: [],
      repriced: [],
      allowances: [{ balance: 'calls', from: 1000, to: 5000 }],
      features: [{ feature: 'sso', from: false, to: true }],
    })
    // Monthly: twenty customers, two of them with three seats and two with two, at 20.00 before and 25.00 after, twelve times; yearly stays at 200.00.
    expect(body['yearly']).toEqual([
      { currency: 'usd', before_minor: 26 * 2000 * 12 + 20_000, after_minor: 26 * 2500 * 12 + 20_000 },
    ])
    expect(await accountOf('monthly')).toMatchObject({ catalog_version: 1, unit_amount_minor: 2000n })
  })

  test('now: the price and the allowance change, and the difference goes onto the next invoice', async () => {
    const id = await migrate(['monthly'], 'now')
    expect(await accountOf('monthly')).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n })
    expect(await invoicesOf('monthly')).toHaveLength(1)
    const { body } = await call('GET', `${PATH}/${id}`)
    expect(body).toMatchObject({ at: 'now', reason: 'New prices', counts: { done: 1, pending: 0, failed: 0 } })
  })

  test('at the period’s end: nothing changes before, both change then, and the renewal has the new price', async () => {
    const id = await migrate(['at_end'], 'period_end')
    expect(await statesOf(id)).toMatchObject([{ state: 'scheduled', from_amount_minor: 2000, to_amount_minor: 2500 }])
    expect(await accountOf('at_end')).toMatchObject({ catalog_version: 1, unit_amount_minor: 2000n })
    await advance('at_end', '32d')
    await runAll()
    expect(await accountOf('at_end')).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n, quantity: 3n })
    expect(await invoicesOf('at_end')).toMatchObject([{ amount_due: 75 }, { amount_due: 60 }])
    expect(await statesOf(id)).toMatchObject([{ state: 'done' }])
  })

  test('a price that stays is not touched at Stripe; the allowance follows at the period’s end', async () => {
    const id = await migrate(['yearly'], 'period_end')
    expect(await statesOf(id)).toMatchObject([{ state: 'scheduled' }])
    expect(await accountOf('yearly')).toMatchObject({ catalog_version: 1, scheduled_at: null })
    await advance('yearly', '366d')
    await runAll()
    expect(await accountOf('yearly')).toMatchObject({ catalog_version: 2, unit_amount_minor: 20_000n })
  })

  test('who pays nothing gets the present terms at once', async () => {
    await migrate(['unpaid'], 'period_end')
    expect(await accountOf('unpaid')).toMatchObject({ plan_key: 'free', catalog_version: 2, granted: String(parseQuantity(50)) })
  })

  test('who has cancelled is not moved, and the row says why; Stripe’s no is not asked for again', async () => {
    await post('leaver', 'cancel', { immediate: false })
    const id = await migrate(['leaver'], 'period_end')
    expect(await statesOf(id)).toMatchObject([{ state: 'failed', detail: 'The subscription is cancelled and ends.' }])
    expect(await runDueMoves(present)).toBe(0)
  })

  test('who changed plan meanwhile is skipped', async () => {
    const started = await call('POST', PATH, { organization_ids: ['switcher'], reason: 'New prices' })
    await post('switcher', 'cancel', { immediate: true })
    await runAll()
    expect(await statesOf(String(started.body['id']))).toMatchObject([{ state: 'skipped' }])
  })

  test('no customer takes a scheduled price back: what releases its schedule without another plan does not last', async () => {
    const ids = ['grower', 'pauser', 'undoer', 'waverer']
    const id = await migrate(ids, 'period_end')
    expect(await post('undoer', 'upgrade/undo')).toMatchObject({ status: 409, body: { code: 'conflict' } })
    await succeed('grower', 'upgrade', { new_tier: 'pro', quantity: 3 })
    await succeed('pauser', 'pause')
    await succeed('waverer', 'cancel', { immediate: false })
    await runAll()
    expect((await statesOf(id)).map(({ state }) => state)).toEqual(Array(4).fill('scheduled'))
    await succeed('pauser', 'resume')
    await succeed('waverer', 'cancel/undo')
    await runAll()
    for (const who of ids) {
      await advance(who, '32d')
      await runAll()
      const quantity = who === 'grower' ? 3n : 1n
      expect(await accountOf(who)).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n, quantity })
    }
    expect((await statesOf(id)).map(({ state }) => state)).toEqual(Array(4).fill('done'))
  })

  test('seats for which the bank asks the customer come at the scheduled price if they are paid, and it comes if they are not', async () => {
    const id = await migrate(['hesitant', 'decided'], 'period_end')
    for (const who of ['hesitant', 'decided']) {
      await post(who, 'payment-methods', { payment_method_id: 'pm_card_authenticationRequired' })
      const asked = await post(who, 'upgrade', { new_tier: 'pro', quantity: 3 })
      expect(asked.body).toMatchObject({ requires_action: true, scheduled_change: { tier: 'pro', quantity: 1 } })
      await runAll()
    }
    const [waiting] = await invoicesOf('decided', '?status=open')
    await succeed('decided', `invoices/${waiting!.id}/pay`, { payment_method_id: 'pm_card_visa' })
    for (const [who, quantity] of [
      ['hesitant', 1n],
      ['decided', 3n],
    ] as const) {
      await advance(who, '24h')
      await runAll()
      await post(who, 'payment-methods', { payment_method_id: 'pm_card_visa' })
      await advance(who, '31d')
      await runAll()
      expect(await accountOf(who)).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n, quantity })
    }
    expect((await statesOf(id)).map(({ state }) => state)).toEqual(['done', 'done'])
  })

  test('other seats at the period’s end do not put the price off: both come then, and taken back the price still comes', async () => {
    const id = await migrate(['shrinker'], 'period_end')
    const fewer = (quantity: number) => ({ new_tier: 'pro', quantity, at: 'period_end' })
    expect((await post('shrinker', 'downgrade', fewer(1))).body).toMatchObject({ scheduled_change: { tier: 'pro', quantity: 1 } })
    await succeed('shrinker', 'downgrade/undo')
    await runAll()
    expect((await post('shrinker', 'downgrade', fewer(2))).body).toMatchObject({ scheduled_change: { tier: 'pro', quantity: 2 } })
    await runAll()
    expect(await statesOf(id)).toMatchObject([{ state: 'scheduled' }])
    await advance('shrinker', '32d')
    await runAll()
    expect(await accountOf('shrinker')).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n, quantity: 2n })
    const { rows } = await billing.database.db.query<{ id: string }>(
      `select item.id from stripe_subscription_items item where organization_id = 'shrinker' and usage_type = 'metered'`,
    )
    expect(rows).toHaveLength(1)
    expect(await invoicesOf('shrinker')).toMatchObject([{ amount_due: 50 }, { amount_due: 60 }])
    expect(await statesOf(id)).toMatchObject([{ state: 'done' }])
  })

  test('who rests when the price was to change gets it at the end of the period that follows', async () => {
    const id = await migrate(['rester'], 'period_end')
    const pass = async () => {
      await advance('rester', '32d')
      await runAll()
    }
    await post('rester', 'pause', {})
    await pass()
    expect(await statesOf(id)).toMatchObject([{ state: 'scheduled' }])
    expect((await post('rester', 'resume', {})).body).toMatchObject({ status: 'active' })
    await runAll()
    expect(await accountOf('rester')).toMatchObject({ catalog_version: 1, unit_amount_minor: 2000n })
    await pass()
    expect(await accountOf('rester')).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n })
  })

  test.each([
    ['now', 'done'],
    ['period_end', 'scheduled'],
  ] as const)('a run that was killed after it told Stripe (%s) is finished by the next', async (at, state) => {
    const started = await call('POST', PATH, { organization_ids: [`killed_${at}`], reason: 'New prices', at })
    // What the killed run had done: everything but writing down that it was done.
    const { rows } = await billing.database.db.query<{ id: string }>(
      `select stripe_price_id as id from usage_prices where plan_key = 'pro'`,
    )
    const prices = { priceId: await billing.priceOf('pro'), amountMinor: 2500, usagePriceIds: rows.map(({ id }) => id) }
    await changeByOperator(present, `killed_${at}`, { kind: 'reprice', at, ...prices })
    await runAll()
    expect(await statesOf(String(started.body['id']))).toMatchObject([{ state }])
  })

  test('a schedule that shows nothing more to come, because its last phase is beginning, is waited for', async () => {
    const id = await migrate(['unseen'], 'period_end')
    await billing.database.db.query(`
      with hidden as (update stripe_subscriptions set scheduled_price_id = null, scheduled_at = null where organization_id = 'unseen')
      update plan_migration_moves set effective_at = '2026-01-01' where organization_id = 'unseen'`)
    await runAll()
    expect(await statesOf(id)).toMatchObject([{ state: 'scheduled', detail: null }])
    await advance('unseen', '32d')
    await runAll()
    expect(await accountOf('unseen')).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n })
  })

  test.each(['now', 'period_end'] as const)(
    'who has gone down last period is moved (%s): nothing is scheduled any more',
    async (at) => {
      const who = `fewer_${at}`
      const fewer = { new_tier: 'pro', quantity: 1, at: 'period_end' }
      await succeed(who, 'downgrade', fewer)
      await advance(who, '32d')
      expect(await accountOf(who)).toMatchObject({ catalog_version: 1, unit_amount_minor: 2000n, quantity: 1n })
      const id = await migrate([who], at)
      expect(await statesOf(id)).toMatchObject([{ state: at === 'now' ? 'done' : 'scheduled', detail: null }])
      await advance(who, '32d')
      await runAll()
      expect(await accountOf(who)).toMatchObject({ catalog_version: 2, unit_amount_minor: 2500n, quantity: 1n })
    },
  )

  test('one whose call keeps failing holds up no other', async () => {
    const started = await call('POST', PATH, {
      organization_ids: ['unlucky', 'after_it', 'and_after'],
      at: 'now',
      reason: 'New prices',
    })
    const { rows } = await billing.database.db.query<{ id: string }>(
      `select subscription_id as id from accounts where organization_id = 'unlucky'`,
    )
    const gateway = present.gateway!
    const failing: BillingContext = {
      ...present,
      gateway: {
        ...gateway,
        perform: (kind, params, options) =>
          JSON.stringify(params).includes(rows[0]!.id)
            ? Promise.reject(new StripeCallError('stripe_unavailable', 'Stripe answers 500', 'unknown'))
            : gateway.perform(kind, params, options),
      },
    }
    // First by its name as well.
    await billing.database.db.query(
      `update plan_migration_moves set updated_at = updated_at - interval '1 hour' where organization_id = 'unlucky'`,
    )
    await expect(runDueMoves(failing)).rejects.toThrow('Stripe answers 500')
    const states = Object.fromEntries(
      (await statesOf(String(started.body['id']))).map((move) => [move['organization_id'], move['state']]),
    )
    expect(states).toEqual({ unlucky: 'pending', after_it: 'done', and_after: 'done' })
    await runAll()
  })

  test('nobody left is said, and an unknown migration is not found', async () => {
    const again = await call('POST', PATH, { organization_ids: ['monthly'], reason: 'Again' })
    expect(again).toMatchObject({ status: 409, body: { code: 'nothing_to_change' } })
    expect((await call('GET', `${PATH}/mig_unknown`)).status).toBe(404)
  })
})

test('a migration of a plan or of organizations that there are not is refused, also its preview', async () => {
  for (const body of [{ plan: 'bogus' }, { organization_ids: ['monthly', 'nobody'] }]) {
    for (const path of [PATH, `${PATH}/preview`]) {
      const answer = await call('POST', path, { ...body, at: 'now', reason: 'New prices' })
      expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    }
  }
  // A plan that was taken out still has its customers.
  expect(await call('POST', `${PATH}/preview`, { plan: 'retired' })).toMatchObject({ status: 200 })
})

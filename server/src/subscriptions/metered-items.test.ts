import { describe, expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { defineBilling } from '../catalog/define.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import { parseUnitAmount } from '../lib/unit-amount.ts'
import { previewMigration, startMigration } from '../plan-migrations/actions.ts'
import { planMigrationJobs } from '../plan-migrations/jobs.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import type { UsagePriceRow } from '../stripe/push/push-usage-prices.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { closeMeteredGaps, listMeteredGaps, meteredPricesOf } from './metered-items.ts'

const catalogWith = (overage: boolean) =>
  defineBilling({
    meters: { calls: {}, exports: {} },
    plans: {
      free: { name: 'Free', allowances: {} },
      priced: {
        name: 'Priced',
        prices: { monthly: { amountMinor: 2000 } },
        allowances: { calls: { amount: 10, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 3 } } },
      },
      changing: {
        name: 'Changing',
        prices: { monthly: { amountMinor: 1000 } },
        allowances: {
          exports: {
            amount: 10,
            limit: 'soft',
            ...(overage ? { overage: { model: 'per_unit' as const, unitAmountMinor: 5 } } : {}),
          },
        },
      },
    },
    defaultPlan: 'free',
  })

const billing = testUse(catalogWith(false))
const { invoicesOf, post, succeed } = billing
const gapsOf = async (id: string) => (await listMeteredGaps(billing.context, 100)).filter((gap) => gap.organizationId === id)

describe('use that a plan prices', () => {
  test('is billed from the next look on, for who subscribed before its price was there', async () => {
    const { db } = billing.database
    await db.query(`delete from usage_prices`)
    const id = await billing.customer('priced')
    await billing.use(id, 'calls', 15)
    expect(await gapsOf(id)).toEqual([])
    await pushCatalog(billing.context, { variables: {} })
    expect(await gapsOf(id)).toMatchObject([{ planKey: 'priced', prices: [{ balanceKey: 'calls' }] }])
    const none = billing.with({ gateway: null })
    expect(await closeMeteredGaps(none)).toEqual({ closed: 0, next: '' })
    // Any number of servers may look.
    await Promise.all([closeMeteredGaps(billing.context), closeMeteredGaps(billing.context)])
    expect(await gapsOf(id)).toEqual([])
    expect(await closeMeteredGaps(billing.context)).toEqual({ closed: 0, next: '' })
    const items = await db.query(`select usage_type from stripe_subscription_items where organization_id = $1 order by 1`, [id])
    expect(items.rows.map((row) => row['usage_type'] as string)).toEqual(['licensed', 'metered'])
    const audited = await db.query(`select actor from audit_log where action = 'subscription.metered_prices_added'`)
    expect(audited.rows).toEqual([{ actor: 'system:metered_items' }])
    // Five were used beyond the allowance before: free. Seven after: 21 cents.
    await billing.advance(id, '1d')
    await billing.use(id, 'calls', 7)
    const statement = await billing.ask('GET', `/api/v1/billing/statement?organization_id=${id}`)
    expect(statement.body).toMatchObject({ usage: [{ balance: 'calls', quantity: 7, amount_minor: 21 }] })
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_paid_minor: 2021 })
  })

  test('comes to everybody in turns, past one whom Stripe refuses, and after as long as a run may take', async () => {
    await billing.database.db.query(`delete from usage_prices`)
    const ids = []
    for (let i = 0; i < 3; i += 1) ids.push(await billing.customer('priced'))
    ids.sort()
    await pushCatalog(billing.context, { variables: {} })
    const gateway = billing.context.gateway!
    const [first] = ids
    const subscriptionId = (await billing.call(first!, 'GET', '/api/v1/billing/subscription')).body['subscription_id']
    const refusing = billing.with({
      gateway: {
        ...gateway,
        perform: (kind, params, call) =>
          'subscriptionId' in params && params.subscriptionId === subscriptionId
            ? Promise.reject(new StripeCallError('stripe_failed', 'no', 'refused'))
            : gateway.perform(kind, params, call),
      },
    })
    let after = ''
    const runs: unknown[] = []
    for (let run = 0; run < 3; run += 1) {
      const { closed, next } = await closeMeteredGaps(refusing, after, 1)
      runs.push([closed, next])
      after = next
    }
    expect(runs).toEqual([
      [0, ids[0]],
      [1, ids[1]],
      [1, ids[2]],
    ])
    // After the last, from the front again.
    expect((await closeMeteredGaps(billing.context, after, 1)).next).toBe('')
    let minutes = 0
    const slow = { now: () => new Date(Date.UTC(2026, 0, 1, 0, (minutes += 1))) }
    expect(await closeMeteredGaps(billing.with({ clock: slow }), '', 100)).toEqual({ closed: 0, next: '' })
    expect(await gapsOf(first!)).toHaveLength(1)
    await closeMeteredGaps(billing.context)
    expect(await gapsOf(first!)).toEqual([])
  })

  test('waits for a change that is scheduled', async () => {
    await billing.database.db.query(`delete from usage_prices`)
    const id = await billing.customer('priced')
    await pushCatalog(billing.context, { variables: {} })
    const change = { new_tier: 'changing', at: 'period_end' }
    await succeed(id, 'downgrade', change)
    expect(await gapsOf(id)).toEqual([])
    await post(id, 'downgrade/undo', {})
    expect(await gapsOf(id)).toHaveLength(1)
    await closeMeteredGaps(billing.context)
    expect(await gapsOf(id)).toEqual([])
  })

  test('does not wait for a schedule whose last phase has begun: nothing more is to come', async () => {
    await billing.database.db.query(`delete from usage_prices`)
    const id = await billing.customer('priced')
    const seats = (quantity: number, at: string) =>
      billing.call(id, 'POST', `/api/v1/billing/${at === 'now' ? 'upgrade' : 'downgrade'}`, { new_tier: 'priced', quantity, at })
    expect(await seats(2, 'now')).toMatchObject({ status: 200 })
    expect(await seats(1, 'period_end')).toMatchObject({ status: 200 })
    await billing.advance(id, '32d')
    await pushCatalog(billing.context, { variables: {} })
    expect(await gapsOf(id)).toHaveLength(1)
    await closeMeteredGaps(billing.context)
    expect(await gapsOf(id)).toEqual([])
    await billing.use(id, 'calls', 17)
    await billing.advance(id, '32d')
    // One seat, and the seven calls beyond the allowance.
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_paid_minor: 2021 })
  })

  test('is not billed to who bought without a price of use, until a migration brings the terms and the price together', async () => {
    const id = await billing.customer('changing')
    const { db, clock } = billing.context
    const catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, catalogWith(true), clock.now()))
    const present = billing.with({ catalogs })
    await pushCatalog(present, { variables: {} })
    expect((await listMeteredGaps(present, 100)).filter((gap) => gap.organizationId === id)).toEqual([])
    const filter = { planKey: 'changing', fromVersion: null, organizationIds: [id] }
    expect((await previewMigration(present, filter)).groups).toMatchObject([{ planKey: 'changing', newlyBilled: ['exports'] }])
    await billing.use(id, 'exports', 12)
    await startMigration(present, { filter, at: 'now', reason: 'a price of use' }, { actor: 'operator:test', requestId: 'req_1' })
    for (const job of planMigrationJobs(present)) await job.run()
    await billing.advance(id, '1d')
    await billing.use(id, 'exports', 4)
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[0]).toMatchObject({ amount_paid_minor: 1020 })
  })
})

test('a subscription gets the price made of its own terms, else the one sold with every plan', () => {
  const row = (
    priceId: string,
    planKey: string | null,
    unit: string,
    isOffered: boolean,
  ): UsagePriceRow & { isOffered: boolean } => ({
    priceId,
    planKey,
    balanceKey: 'calls',
    reports: planKey === null ? 'use' : 'overage',
    eventName: 'x',
    formula: 'sum',
    currency: 'usd',
    price: { model: 'per_unit', unitAmount: parseUnitAmount(unit, 'unit') },
    isOffered,
  })
  const prices = [row('now', 'pro', '4', true), row('before', 'pro', '3', false), row('common', null, '1', true)]
  const plan = (unit: string | null) => ({
    key: 'pro',
    allowances: new Map([
      [
        'calls',
        { balanceKey: 'calls', overage: unit === null ? null : { model: 'per_unit', unitAmount: parseUnitAmount(unit, 'unit') } },
      ],
    ]) as never,
  })
  const chosen = (unit: string | null, currency = 'usd') =>
    meteredPricesOf(plan(unit), prices, currency).map(({ priceId }) => priceId)
  expect([chosen('3'), chosen('4'), chosen('5'), chosen(null), chosen('3', 'eur')]).toEqual([
    ['before'],
    ['now'],
    ['common'],
    ['common'],
    [],
  ])
})

import { beforeEach, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import { countRows, countSubscriptionsByPlan, foldTallies, listTallies, readRevenue } from './store.ts'

const { db } = testDatabase()
const tally = (count: number, over: Row = {}) =>
  keepRow(db, 'tallies', {
    subject: 'mrr_accounts',
    status: 'active',
    plan_key: 'pro',
    currency: 'usd',
    count,
    amount: 0,
    ...over,
  })

beforeEach(async () => {
  await writeAside(db, (tx) => tx.query('delete from tallies; delete from accounts'))
})

test('tallies are the sums of what was counted, each of its own, and none of what has gone again', async () => {
  await tally(2, { amount: 5_000_000n })
  await tally(-1, { amount: -1_000_000n })
  await tally(1, { status: 'past_due', amount: 3n })
  await tally(-1, { status: 'past_due', amount: -3n })
  await tally(0, { plan_key: 'free', amount: 7n })
  await tally(4, { subject: 'users', status: '', plan_key: '', currency: '' })
  const revenue = [
    { subject: 'mrr_accounts', status: 'active', planKey: 'free', currency: 'usd', count: 0, amount: 7n },
    { subject: 'mrr_accounts', status: 'active', planKey: 'pro', currency: 'usd', count: 1, amount: 4_000_000n },
  ]
  expect(await listTallies(db, 'mrr_accounts')).toEqual(revenue)
  expect(await listTallies(db, null)).toEqual([
    ...revenue,
    { subject: 'users', status: '', planKey: '', currency: '', count: 4, amount: 0n },
  ])
  expect([await countRows(db, 'users'), await countRows(db, 'mrr_accounts', 'past_due')]).toEqual([4, 0])
})

test('revenue is told by currency and plan, of all statuses, and not where it has gone again', async () => {
  await tally(1, { amount: 1_500_000n })
  await tally(1, { amount: 1_000_000n, status: 'past_due' })
  await tally(1, { amount: 9_000_000n, currency: 'eur' })
  for (const amount of [3_000_000n, -3_000_000n]) await tally(0, { plan_key: 'gone', amount })
  await tally(1, { subject: 'stripe_invoices', amount: 8_000_000n })
  const told = (await readRevenue(db)).toSorted((a, b) => a.minor - b.minor)
  expect(told).toEqual([
    { currency: 'usd', tier: 'pro', minor: 2.5 },
    { currency: 'eur', tier: 'pro', minor: 9 },
  ])
})

test('folded, tallies say the same in a row each', async () => {
  for (let row = 0; row < 51; row += 1) {
    await tally(1, { amount: 10n })
    await tally(row === 0 ? 3 : -1, { status: 'past_due', amount: row === 0 ? 50n : -1n })
  }
  await tally(5, { status: 'gone', amount: 3n })
  await tally(-5, { status: 'gone', amount: -3n })
  const before = await listTallies(db, null)
  await foldTallies(db)
  expect(await listTallies(db, null)).toEqual(before)
  const { rows } = await db.query('select status, count::int, amount::int from tallies order by status')
  expect(rows).toEqual([
    { status: 'active', count: 51, amount: 510 },
    { status: 'past_due', count: -47, amount: 0 },
  ])
})

test('subscriptions that stand are counted by plan: in trial, paid, or being retried', async () => {
  for (const status of ['trialing', 'active', 'past_due', 'paused', 'unpaid', 'canceled', 'incomplete']) {
    const row = { plan_key: status === 'trialing' ? 'max' : 'pro', catalog_version: 1, updated_at: new Date() }
    await keepRow(db, 'accounts', { organization_id: status, subscription_status: status, ...row })
  }
  expect(await countSubscriptionsByPlan(db)).toEqual(
    new Map([
      ['max', 1],
      ['pro', 2],
    ]),
  )
})

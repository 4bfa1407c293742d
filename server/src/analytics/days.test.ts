import { beforeAll, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testDatabase } from '../../test/database.ts'
import { openDatabase } from '../db/database.ts'
import { runInScope } from '../db/scope.ts'
import { ManualClock } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { closeDays } from './jobs.ts'
import { recordRevenue } from './ledger.ts'
import { summarize } from './actions.ts'
import { countTrials, listStandingAt, sumRevenue } from './reports-store.ts'
import { countRows, foldTallies, listTallies, readRevenue } from './store.ts'

const database = testDatabase()
const clock = new ManualClock(new Date('2026-03-10T12:00:00Z'))
const day = (number: number): Date => new Date(Date.UTC(2026, 1, number))

beforeAll(async () => {
  const { db } = database
  await db.query(
    `insert into organizations (id, name, email, created_at) select 'org_' || n, 'O', 'a@example.com', $1 from generate_series(1, 20) n`,
    [day(1)],
  )
  const { rows } = await db.query<{ version: number }>(
    `insert into catalog_versions (digest, content, created_at) values ('d', '{}', $1) returning version`,
    [day(1)],
  )
  await db.query(
    `insert into accounts (organization_id, plan_key, catalog_version, updated_at) select id, 'pro', $1, $2 from organizations`,
    [rows[0]!.version, day(1)],
  )
})

/** As a sync does: the subscription as it is from now on, then the ledger. */
async function subscribe(organization: number, amountMinor: number, at: Date, currency = 'usd', db = database.db): Promise<void> {
  const id = `org_${organization}`
  await db.transaction(async (tx) => {
    await tx.query(
      `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at_period_end,
         created_at, data, refreshed_at)
       values ($1, 'sub_' || $1 || $4, 'cus', $3, $4, 'charge_automatically', false, $2, '{}', $2)
       on conflict (organization_id, id) do update set status = $3`,
      [id, at, amountMinor === 0 ? 'canceled' : 'active', currency],
    )
    await tx.query(
      `insert into stripe_subscription_items (organization_id, subscription_id, id, price_id, product_id, quantity, unit_amount_minor,
         currency, billing_interval, interval_count, usage_type, current_period_start, current_period_end)
       values ($1, 'sub_' || $1 || $4, 'si_' || $1 || $4, 'price', 'prod', 1, $3, $4, 'year', 1, 'licensed', $2, $2)
       on conflict (organization_id, id) do update set unit_amount_minor = $3`,
      [id, at, amountMinor, currency],
    )
    await recordRevenue(tx, { organizationId: id, now: at, recordedAt: clock.now() })
  })
}

const standings = async () => {
  const all = []
  for (let number = 1; number <= 40; number += 1) all.push(await listStandingAt(database.db, day(number)))
  return all
}

const standingAfter = async (at: Date) => new Set(await listStandingAt(database.db, new Date(at.getTime() + 7 * DAY_MS)))

test('the rows of days change what a report costs, and not what it says; a movement dated into the past takes them away', async () => {
  // Fixed numbers that look like chance: the same in each run.
  for (let step = 0; step < 120; step += 1) {
    const amount = (step * 7919) % 7 === 0 ? 0 : ((step * 104_729) % 9_000) + 1
    await subscribe((step % 20) + 1, amount, new Date(day(1).getTime() + step * 0.25 * DAY_MS), step % 3 === 0 ? 'eur' : 'usd')
  }
  const without = await standings()
  expect(without.flat().length).toBeGreaterThan(50)
  await closeDays(database.db, clock)
  const { rows } = await database.db.query<{ days: number; last: string }>(
    `select count(distinct day)::int as days, max(day)::text as last from mrr_days`,
  )
  expect(rows).toEqual([{ days: 37, last: '2026-03-09' }])
  expect(await standings()).toEqual(without)

  await subscribe(3, 5_000, day(12), 'gbp')
  const later = await database.db.query<{ last: string }>('select max(day)::text as last from mrr_days')
  expect(later.rows).toEqual([{ last: '2026-02-11' }])
  const after = await standings()
  expect(after[20]).toContainEqual({ currency: 'gbp', mrr: 416_666_667n, customers: 1 })
  await closeDays(database.db, clock)
  expect(await standings()).toEqual(after)
})

test.each([
  ['has closed its day already runs ahead', new Date('2026-03-10T20:00:00Z'), new Date('2026-03-11T02:00:00Z')],
  ['writes it down runs behind', new Date('2026-03-11T23:00:00Z'), new Date('2026-03-13T02:00:00Z')],
])('a movement is in every sum, also where the clock of the server that %s', async (_server, at, closing) => {
  await closeDays(database.db, new ManualClock(closing))
  // By the clock of whoever writes it down, its day is not over.
  clock.set(at)
  await subscribe(15, at.getUTCDate() * 100, at, 'sek')
  const stored = await standingAfter(at)
  await database.db.query('delete from mrr_days')
  expect(stored).toEqual(await standingAfter(at))
})

test('a request of a customer whose revenue moved on a day that is over takes its row away', async () => {
  await closeDays(database.db, clock)
  const db = openDatabase({ connectionString: database.url, scopeOutside: 'nobody' })
  await runInScope({ kind: 'organizations', organizationIds: ['org_16'] }, () => subscribe(16, 1_200, day(20), 'nok', db))
  await db.close()
  expect(await standingAfter(day(20))).toContainEqual({ currency: 'nok', mrr: 100_000_000n, customers: 1 })
})

test('days are closed once a movement that is being written down is there', async () => {
  const { db } = database
  await closeDays(db, clock)
  const { closing } = await db.transaction(async (tx) => {
    await tx.query(
      `insert into mrr_movements (organization_id, currency, number, kind, amount, mrr_after, plan_key, occurred_at, recorded_at)
       values ('org_17', 'dkk', 1, 'new', 500, 500, 'pro', $1, $1)`,
      [day(25)],
    )
    const begun = closeDays(db, clock)
    await vi.waitFor(async () => {
      const { rows } = await db.query(`select from pg_locks where relation = 'mrr_days'::regclass and not granted`)
      expect(rows).toHaveLength(1)
    }, PATIENCE)
    return { closing: begun }
  })
  await closing
  const { rows } = await db.query(`select min(day)::text as first from mrr_days where currency = 'dkk'`)
  expect(rows).toEqual([{ first: '2026-02-25' }])
})

test('tallies are what counting would say, before and after they are folded', async () => {
  const { db } = database
  const compare = async () => {
    expect(await countRows(db, 'organizations')).toBe(20)
    for (const status of ['active', 'canceled']) {
      const { rows } = await db.query<{ count: number }>(
        'select count(*)::int as count from stripe_subscriptions where status = $1',
        [status],
      )
      expect(await countRows(db, 'stripe_subscriptions', status)).toBe(rows[0]!.count)
    }
    const { rows } = await db.query(
      `select status, currency, count(*)::int as count, sum(mrr)::bigint as amount from mrr_accounts group by 1, 2 order by 1, 2`,
    )
    const tallies = await listTallies(db, 'mrr_accounts')
    expect(tallies.map(({ status, currency, count, amount }) => ({ status, currency, count, amount }))).toEqual(rows)
  }
  await compare()
  const size = async () =>
    Number((await db.query<{ count: string }>('select count(*)::text as count from tallies')).rows[0]!.count)
  expect(await size()).toBeGreaterThan(100)
  await Promise.all([foldTallies(db), foldTallies(db), subscribe(1, 1, day(35)), foldTallies(db)])
  expect(await size()).toBeLessThan(20)
  await compare()
  await db.query(`delete from mrr_accounts where organization_id = 'org_1'`)
  const revenue = await db.query<{ minor: number }>('select (sum(mrr) / 1000000)::float8 as minor from mrr_accounts')
  expect((await readRevenue(db)).reduce((sum, { minor }) => sum + minor, 0)).toBeCloseTo(revenue.rows[0]!.minor, 3)
  await compare()
})

test('a customer who leaves, comes back and leaves again has left once, and one who came in the span is none of its beginning', async () => {
  for (const organization of [11, 12]) await subscribe(organization, 1_200, day(2), 'chf')
  await subscribe(11, 0, day(20), 'chf')
  await subscribe(11, 1_200, day(21), 'chf')
  await subscribe(11, 0, day(22), 'chf')
  await subscribe(13, 1_200, day(20), 'chf')
  await subscribe(13, 0, day(21), 'chf')
  const { currencies } = await summarize({ db: database.db, clock, rates: null }, { from: day(10), to: day(30) })
  expect(currencies.find(({ currency }) => currency === 'chf')).toMatchObject({
    openingCustomers: 2,
    customers: 1,
    counts: { churn: 3 },
    customerChurn: 0.5,
    // 100 a month / 50 % in 20 days, which are 0.6571 months
    lifetimeValueMinor: 131,
  })
})

test('what a subscription brought is lost where the mirror has it no more', async () => {
  const { db } = database
  await subscribe(18, 1_200, day(2), 'pln')
  const ledger = () =>
    db.query(`select currency, status, mrr from mrr_accounts where organization_id = 'org_18' and currency = 'pln'`)
  expect((await ledger()).rows).toEqual([{ currency: 'pln', status: 'active', mrr: 100_000_000n }])
  await db.transaction(async (tx) => {
    await tx.query(`delete from stripe_subscription_items where organization_id = 'org_18'`)
    await tx.query(`delete from stripe_subscriptions where organization_id = 'org_18'`)
    await recordRevenue(tx, { organizationId: 'org_18', now: day(5), recordedAt: clock.now() })
  })
  expect((await ledger()).rows).toEqual([{ currency: 'pln', status: 'canceled', mrr: 0n }])
})

/** A paid invoice of a subscription. */
async function insertPaid(id: string, subscriptionId: string, at: Date, lines: readonly object[] = []): Promise<void> {
  await database.db.query(
    `insert into stripe_invoices (organization_id, id, customer_id, subscription_id, status, collection_method, currency, subtotal_minor,
       total_minor, amount_due_minor, amount_paid_minor, amount_remaining_minor, attempted, attempt_count, period_start, period_end, paid_at,
       created_at, data, refreshed_at)
     values ('org_14', $1, 'cus', $2, 'paid', 'charge_automatically', 'usd', 500, 500, 500, 500, 0, true, 1, $3, $3, $3, $3, $4, $3)`,
    [id, subscriptionId, at, { lines: { data: lines } }],
  )
}

test('a trial is lost once its subscription has ended or stopped unpaid, and runs on while its first invoice is open', async () => {
  const [from, to] = [new Date('2027-01-01T00:00:00Z'), new Date('2027-02-01T00:00:00Z')]
  for (const status of ['trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled', 'incomplete_expired']) {
    await database.db.query(
      `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at_period_end,
         trial_start, created_at, data, refreshed_at)
       values ('org_14', 'trial_' || $1, 'cus', $1, 'usd', 'charge_automatically', false, $2, $2, '{}', $2)`,
      [status, from],
    )
  }
  const trials = async () => (await countTrials(database.db, [from, to]))[0]
  expect(await trials()).toEqual({ bucket: 0, started: 7, running: 3, converted: 0, lost: 4 })
  await insertPaid('in_trial', 'trial_active', from)
  expect(await trials()).toEqual({ bucket: 0, started: 7, running: 2, converted: 1, lost: 4 })
})

test('what was paid for use stays so when no subscription has its price any more', async () => {
  const [from, to] = [new Date('2027-03-01T00:00:00Z'), new Date('2027-04-01T00:00:00Z')]
  await database.db.query(
    `insert into usage_prices (stripe_price_id, balance, reports, event_name, formula, currency, terms, catalog_version, created_at)
     select 'price_gone', 'credits', 'use', 'used', 'sum', 'usd', '{}', max(version), $1 from catalog_versions`,
    [from],
  )
  await insertPaid('in_use', 'sub', from, [{ amount: 300, pricing: { price_details: { price: 'price_gone' } } }])
  expect(await sumRevenue(database.db, [from, to])).toMatchObject([{ paidMinor: 500n, usageMinor: 300n }])
})

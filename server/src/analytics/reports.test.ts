import { beforeAll, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { DAY_MS, SECOND_MS } from '../lib/period.ts'
import {
  countTrials,
  listCohortChanges,
  listCohortSizes,
  listStandingAt,
  sumMovements,
  sumOpenInvoices,
  sumRevenue,
} from './reports-store.ts'

// In which span, month or age a row is counted, to the second.

const database = testDatabase()
const at = (text: string): Date => new Date(`${text}Z`)
const NOW = at('2026-03-10T12:00:00')
const later = (moment: Date, ms: number): Date => new Date(moment.getTime() + ms)

beforeAll(async () => {
  await database.db.query(
    `insert into organizations (id, name, email, created_at, test_clock_now)
     values ('org', 'O', 'a@example.com', $1, null), ('ahead', 'A', 'b@example.com', $1, $2),
       ('cohort', 'C', 'c@example.com', $1, null)`,
    [NOW, later(NOW, 100 * DAY_MS)],
  )
})

type Invoice = {
  readonly organizationId?: string
  readonly subscriptionId?: string
  readonly status: 'open' | 'paid' | 'void'
  readonly currency: string
  readonly remainingMinor?: number
  readonly paidMinor?: number
  readonly paidAt?: Date
  readonly dueAt?: Date | null
  readonly finalizedAt?: Date | null
  readonly createdAt?: Date
  readonly refundedMinor?: number
  readonly lines?: readonly object[]
}

let invoices = 0
async function insertInvoice(given: Invoice): Promise<void> {
  invoices += 1
  await database.db.query(
    `insert into stripe_invoices (organization_id, id, customer_id, status, collection_method, currency, subtotal_minor, total_minor,
       amount_due_minor, amount_paid_minor, amount_remaining_minor, amount_refunded_minor, attempted, attempt_count, period_start, period_end,
       paid_at, due_at, finalized_at, created_at, data, refreshed_at, subscription_id)
     values ($1, $2, 'cus', $3, 'charge_automatically', $4, 0, 0, 0, $5, $6, $7, true, 1, $8, $8, $9, $10, $11, $8, $12, $8, $13)`,
    [
      given.organizationId ?? 'org',
      `in_${invoices}`,
      given.status,
      given.currency,
      given.paidMinor ?? 0,
      given.remainingMinor ?? 0,
      given.refundedMinor ?? 0,
      given.createdAt ?? NOW,
      given.paidAt ?? null,
      given.dueAt ?? null,
      given.finalizedAt ?? null,
      { lines: { data: given.lines ?? [] } },
      given.subscriptionId ?? null,
    ],
  )
}

test('what is owed is as old as the days since it was due, or was finalized, or made, by its organization’s time', async () => {
  const owed = (dueAt: Date, over: Partial<Invoice> = {}) =>
    insertInvoice({ status: 'open', currency: 'usd', remainingMinor: 100, dueAt, ...over })
  const ages = async () =>
    (await sumOpenInvoices(database.db, NOW)).map(({ bucket, count, amountMinor }) => [bucket, count, amountMinor])
  await owed(NOW)
  expect(await ages()).toEqual([[0, 1, 100n]])
  for (const days of [0, 30, 60, 90]) {
    const due = later(NOW, -days * DAY_MS)
    if (days > 0) await owed(due)
    await owed(later(due, -SECOND_MS))
  }
  // To the second: 30 days late is 30 days, and a second more is the next age.
  expect(await ages()).toEqual([
    [0, 1, 100n],
    [1, 2, 200n],
    [2, 2, 200n],
    [3, 2, 200n],
    [4, 1, 100n],
  ])
  await owed(NOW, { currency: 'eur', organizationId: 'ahead' })
  await owed(NOW, { currency: 'gbp', dueAt: null, finalizedAt: later(NOW, -40 * DAY_MS) })
  await owed(NOW, { currency: 'jpy', dueAt: null, createdAt: later(NOW, -70 * DAY_MS) })
  // Nothing is owed of these.
  await owed(NOW, { currency: 'chf', remainingMinor: 0 })
  await owed(NOW, { currency: 'chf', status: 'void' })
  const others = (await sumOpenInvoices(database.db, NOW)).filter(({ currency }) => currency !== 'usd')
  expect(others.map(({ currency, bucket }) => [currency, bucket])).toEqual([
    ['eur', 4],
    ['gbp', 2],
    ['jpy', 3],
  ])
})

const JANUARY = [at('2026-01-01T00:00:00'), at('2026-02-01T00:00:00')] as const

test('what was paid is in the span in which it was, from its first second to the last before the next', async () => {
  for (const paidAt of [JANUARY[0], later(JANUARY[1], -SECOND_MS), JANUARY[1], later(JANUARY[0], -SECOND_MS)]) {
    await insertInvoice({ status: 'paid', currency: 'usd', paidMinor: 500, refundedMinor: 20, paidAt })
  }
  // Paid and voided since, or not paid at all.
  await insertInvoice({ status: 'void', currency: 'usd', paidMinor: 500, refundedMinor: 20, paidAt: JANUARY[0] })
  expect(await sumRevenue(database.db, JANUARY)).toEqual([
    { bucket: 0, currency: 'usd', invoices: 2, paidMinor: 1000n, usageMinor: 0n, refundedMinor: 40n, disputedMinor: 0n },
  ])
  const spans = [...JANUARY, at('2026-03-01T00:00:00')]
  expect((await sumRevenue(database.db, spans)).map(({ bucket, invoices: count }) => [bucket, count])).toEqual([
    [0, 2],
    [1, 1],
  ])
})

test('of what was paid for use, what discounts and credits took off and the tax that its price includes are not brought', async () => {
  await database.db.query(`insert into catalog_versions (digest, content, created_at) values ('d', '{}', $1)`, [NOW])
  await database.db.query(
    `insert into usage_prices (stripe_price_id, balance, reports, event_name, formula, currency, terms, catalog_version, created_at)
     select 'price_use', 'credits', 'use', 'used', 'sum', 'sek', '{}', max(version), $1 from catalog_versions`,
    [NOW],
  )
  const line = (price: string, amount: number) => ({
    amount,
    pricing: { price_details: { price } },
    pretax_credit_amounts: [{ amount: 30 }, { amount: 30 }],
    taxes: [
      { amount: 40, tax_behavior: 'inclusive' },
      { amount: 999, tax_behavior: 'exclusive' },
    ],
  })
  const lines = [line('price_use', 300), line('price_plan', 700)]
  const use = { currency: 'sek', paidMinor: 1000, lines } as const
  for (const paidAt of [JANUARY[0], later(JANUARY[1], -SECOND_MS)]) await insertInvoice({ ...use, status: 'paid', paidAt })
  for (const paidAt of [JANUARY[1], later(JANUARY[0], -SECOND_MS)]) await insertInvoice({ ...use, status: 'paid', paidAt })
  await insertInvoice({ ...use, status: 'void', paidAt: JANUARY[0] })
  const [sek] = (await sumRevenue(database.db, JANUARY)).filter(({ currency }) => currency === 'sek')
  expect(sek).toMatchObject({ invoices: 2, paidMinor: 2000n, usageMinor: 2n * (300n - 30n - 30n - 40n) })
})

let movements = 0
/** Rows of the ledger as `recordRevenue` writes them; a day's sums are not there yet. */
async function move(id: string, kind: string, occurredAt: Date, minor: number, currency = 'usd'): Promise<void> {
  movements += 1
  await database.db.query(
    `insert into mrr_movements (organization_id, currency, number, kind, amount, mrr_after, plan_key, occurred_at, recorded_at)
     values ($1, $6, $2, $3, $4, 0, 'pro', $5, $5)`,
    [id, movements, kind, minor * 1_000_000, occurredAt, currency],
  )
}

test('a movement is in the span of its second: in what stands before the span not yet, in the span itself', async () => {
  await move('org', 'new', JANUARY[0], 100)
  await move('org', 'expansion', later(JANUARY[1], -SECOND_MS), 20)
  await move('org', 'contraction', JANUARY[1], -5)
  await move('ahead', 'new', later(JANUARY[0], -SECOND_MS), 7)
  const standing = async (moment: Date) =>
    (await listStandingAt(database.db, moment)).map(({ mrr, customers }) => [mrr, customers])
  expect(await standing(JANUARY[0])).toEqual([[7_000_000n, 1]])
  expect(await standing(later(JANUARY[0], SECOND_MS))).toEqual([[107_000_000n, 2]])
  const sums = await sumMovements(database.db, JANUARY)
  expect(new Map(sums.map(({ kind, amount }) => [kind, amount]))).toEqual(
    new Map([
      ['new', 100_000_000n],
      ['expansion', 20_000_000n],
    ]),
  )
})

test('who comes back is a customer again, and a currency in which nobody pays any more is not told', async () => {
  const [from, left, back] = ['2026-04-01', '2026-04-02', '2026-04-03'].map((day) => at(`${day}T00:00:00`)) as [Date, Date, Date]
  await move('org', 'new', from, 30, 'nok')
  await move('org', 'churn', left, -30, 'nok')
  await move('org', 'reactivation', back, 40, 'nok')
  const standing = async (moment: Date) =>
    (await listStandingAt(database.db, moment))
      .filter(({ currency }) => currency === 'nok')
      .map(({ mrr, customers }) => [mrr, customers])
  expect(await standing(left)).toEqual([[30_000_000n, 1]])
  expect(await standing(back)).toEqual([])
  expect(await standing(later(back, SECOND_MS))).toEqual([[40_000_000n, 1]])
})

test('who comes in the second in which a span begins and leaves in it is no customer of its beginning', async () => {
  const [from, to] = [at('2026-05-01T00:00:00'), at('2026-06-01T00:00:00')]
  await move('org', 'reactivation', from, 10)
  await move('org', 'churn', later(from, DAY_MS), -10)
  const churned = async (boundaries: readonly Date[]) =>
    (await sumMovements(database.db, boundaries))
      .filter(({ kind }) => kind === 'churn')
      .map(({ count, leavers }) => [count, leavers])
  expect(await churned([from, to])).toEqual([[1, 0]])
  // In spans of days, it came the day before it left.
  expect(await churned([from, later(from, DAY_MS), to])).toEqual([[1, 1]])
  // Who comes in another currency in that time has left in this one all the same.
  const [july, august] = [at('2026-07-01T00:00:00'), at('2026-08-01T00:00:00')]
  await move('ahead', 'new', july, 10, 'dkk')
  await move('ahead', 'churn', later(july, DAY_MS), -7)
  expect(await churned([july, august])).toEqual([[1, 1]])
})

test('a trial is counted in the span in which it began', async () => {
  const [from, to] = [at('2027-01-01T00:00:00'), at('2027-02-01T00:00:00')]
  for (const [index, start] of [from, later(to, -SECOND_MS), to, later(from, -SECOND_MS)].entries()) {
    await database.db.query(
      `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at_period_end,
         trial_start, created_at, data, refreshed_at)
       values ('org', 'trial_' || $1, 'cus', 'trialing', 'usd', 'charge_automatically', false, $2, $2, '{}', $2)`,
      [index, start],
    )
  }
  expect(await countTrials(database.db, [from, to])).toEqual([{ bucket: 0, started: 2, running: 2, converted: 0, lost: 0 }])
})

test('a trial is converted by a paid invoice of more than nothing: the one of nothing with which it began converts none', async () => {
  const [from, to] = [at('2027-03-01T00:00:00'), at('2027-04-01T00:00:00')]
  await database.db.query(
    `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at_period_end,
       trial_start, created_at, data, refreshed_at)
     values ('org', 'tried', 'cus', 'active', 'usd', 'charge_automatically', false, $1, $1, '{}', $1)`,
    [from],
  )
  const trials = async () => (await countTrials(database.db, [from, to])).map(({ converted, running }) => [converted, running])
  const tried = { currency: 'usd', subscriptionId: 'tried', paidAt: from }
  await insertInvoice({ ...tried, status: 'paid' })
  await insertInvoice({ ...tried, status: 'open', paidMinor: 500, remainingMinor: 400 })
  await insertInvoice({ ...tried, status: 'paid', paidMinor: 500, subscriptionId: 'another' })
  await insertInvoice({ ...tried, status: 'paid', paidMinor: 500, organizationId: 'ahead' })
  expect(await trials()).toEqual([[0, 1]])
  await insertInvoice({ ...tried, status: 'paid', paidMinor: 1 })
  expect(await trials()).toEqual([[1, 0]])
})

test('a cohort is who first paid in a month, and moves in the months after it up to the end of the report', async () => {
  const [from, to] = [at('2028-12-01T00:00:00'), at('2029-03-01T00:00:00')]
  const account = async (id: string, firstPaidAt: Date, currency = 'usd') =>
    database.db.query(
      `insert into mrr_accounts (organization_id, currency, plan_key, status, mrr, movements, moved_at, first_paid_at)
       values ($1, $3, 'pro', 'active', 0, 1, $2, $2)`,
      [id, firstPaidAt, currency],
    )
  await account('cohort', from)
  // Of others, and in another currency, it tells nothing.
  await account('ahead', to)
  await account('cohort', later(from, -SECOND_MS), 'sek')
  await move('cohort', 'new', from, 999, 'sek')
  // What moved before the first payment counts in the cohort's own month.
  for (const [kind, when, minor] of [
    ['new', '2028-11-30T23:59:59', 100],
    ['expansion', '2028-12-31T23:59:59', 50],
    ['contraction', '2029-01-01T00:00:00', -20],
    ['churn', '2029-02-28T23:59:59', -130],
    ['reactivation', '2029-03-01T00:00:00', 10],
  ] as const)
    await move('cohort', kind, at(when), minor)
  expect(await listCohortSizes(database.db, from, to)).toEqual([{ month: from, currency: 'usd', customers: 1 }])
  const changes = await listCohortChanges(database.db, from, to)
  expect(changes.map(({ month, currency, offset, mrr, customers }) => [month, currency, offset, mrr, customers])).toEqual([
    [from, 'usd', 0, 150_000_000n, 1],
    [from, 'usd', 1, -20_000_000n, 0],
    [from, 'usd', 2, -130_000_000n, -1],
  ])
})

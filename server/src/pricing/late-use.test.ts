import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { testClocks } from '../../test/test-clocks.ts'
import { testUse } from '../../test/used.ts'
import { HOUR_MS } from '../lib/period.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { reportNow } from './actions.ts'
import { readStatement } from './statement.ts'

const ONE_CENT = { model: 'per_unit', unitAmountMinor: 1 } as const
const billing = testUse({
  meters: { calls: {}, month: {}, kept: {} },
  plans: {
    free: {
      name: 'Free',
      allowances: { calls: { amount: 10 }, month: { amount: 10, period: 'calendar_month' } },
    },
    basic: {
      name: 'Basic',
      prices: { monthly: { amountMinor: 500 } },
      allowances: { calls: { amount: 20, limit: 'soft' }, month: { amount: 20, limit: 'soft', period: 'calendar_month' } },
    },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: {
        calls: { amount: 100, limit: 'soft', overage: ONE_CENT },
        month: { amount: 100, limit: 'soft', period: 'calendar_month', overage: ONE_CENT },
        kept: { amount: 100, rollover: { max: 40 } },
      },
    },
    daily: {
      name: 'Daily',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: { calls: { amount: 10, period: 'day', limit: 'soft', overage: ONE_CENT } },
    },
  },
  defaultPlan: 'free',
})
const { succeed } = billing

const { onClock } = testClocks(billing)
const CARD = { payment_method_id: 'pm_card_visa' }

const subscribe = (id: string, tier = 'pro') => succeed(id, 'subscribe', { tier, ...CARD })
const total = async (id: string) => (await readStatement(billing.context, { organizationId: id, at: null })).totalMinor

describe('use from a time that nothing billed, told when something does', () => {
  test('counts in the free plan’s allowance of that time, where nobody had asked for it, and is never billed', async () => {
    const id = await onClock('unasked')
    const before = await billing.nowOf(id)
    await billing.advance(id, '3d')
    await subscribe(id)
    const told = await billing.use(id, 'calls', 500, { occurredAt: before })
    expect(told).toMatchObject({
      late: 'free',
      balance: { planKey: 'free', amount: parseQuantity(10), overage: parseQuantity(490) },
    })
    expect(await total(id)).toBe(1000)
    expect((await billing.use(id, 'calls', 0)).balance).toMatchObject({ planKey: 'pro', used: 0n, overage: 0n })
    await billing.advance(id, '32d')
    expect(await invoiceTotals(id)).toEqual([1000, 1000])
  })

  test('counts in the calendar month that it shares with the subscription, and what does not fit is free', async () => {
    const id = await onClock('spanning')
    const before = await billing.nowOf(id)
    await billing.advance(id, '1h')
    await subscribe(id)
    await billing.use(id, 'month', 90)
    const told = await billing.use(id, 'month', 500, { occurredAt: before, key: `${id} early` })
    expect(told).toMatchObject({
      late: 'free',
      balance: { planKey: 'pro', used: parseQuantity(100), overage: parseQuantity(490) },
    })
    expect(await total(id)).toBe(1000)
    await billing.use(id, 'month', 7)
    expect(await total(id)).toBe(1007)
    // Without the mistaken part of it the rest would have fitted: what is billed is not credited for what was free.
    await billing.correct(id, `${id} early`, -400)
    expect(await total(id)).toBe(1007)
    await billing.correct(id, `${id} early`, -100)
    expect(await total(id)).toBe(1000)
  })

  test('of a trial, and of a plan without a price for it, is free', async () => {
    const id = await onClock('tried')
    await succeed(id, 'subscribe', { tier: 'pro' })
    await billing.use(id, 'month', 150, { key: `${id} tried` })
    const inTrial = await billing.nowOf(id)
    await succeed(id, 'payment-methods', CARD)
    await billing.advance(id, '15d')
    expect(await billing.use(id, 'calls', 300, { occurredAt: inTrial })).toMatchObject({ late: 'free' })
    expect(await billing.use(id, 'month', 300, { occurredAt: inTrial })).toMatchObject({ late: 'free' })
    await billing.correct(id, `${id} tried`, -20)
    expect(await total(id)).toBe(1000)

    const other = await onClock('unpriced')
    await subscribe(other, 'basic')
    const unpriced = await billing.nowOf(other)
    await billing.advance(other, '1h')
    await succeed(other, 'upgrade', { new_tier: 'pro' })
    await billing.use(other, 'calls', 400, { occurredAt: unpriced })
    await billing.use(other, 'month', 400, { occurredAt: unpriced })
    const { usage } = await readStatement(billing.context, { organizationId: other, at: null })
    expect(usage.map(({ amountMinor }) => amountMinor)).toEqual([0, 0])
  })

  test('whatever is used, told and corrected: nothing of that time is billed, and what is billed was used in the other', async () => {
    const step = fc.record({
      meter: fc.constantFrom('calls', 'month'),
      quantity: fc.integer({ min: 1, max: 120 }),
      early: fc.boolean(),
      correct: fc.option(fc.integer({ min: 1, max: 100 })),
      report: fc.boolean(),
    })
    let runs = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 10 }), async (steps) => {
        const id = await onClock(`any${(runs += 1)}`)
        const before = await billing.nowOf(id)
        await billing.advance(id, '1h')
        await subscribe(id)
        const paid = { calls: 0, month: 0 }
        for (const [index, { meter, quantity, early, correct, report }] of steps.entries()) {
          const key = `${id} ${index}`
          await billing.use(id, meter, quantity, early ? { key, occurredAt: before } : { key })
          const left = correct === null ? quantity : quantity - Math.ceil((quantity * correct) / 100)
          if (left !== quantity) await billing.correct(id, key, left - quantity)
          if (!early) paid[meter as 'calls'] += left
          if (report) await reportNow(billing.context, id)
          for (const line of (await readStatement(billing.context, { organizationId: id, at: null })).usage) {
            const most = parseQuantity(paid[line.balanceKey as 'calls'])
            expect(line.quantity >= 0n && line.quantity <= most, `${line.balanceKey}: ${line.quantity} of ${most}`).toBe(true)
          }
        }
        const { usage } = await readStatement(billing.context, { organizationId: id, at: null })
        const calls = usage.find(({ balanceKey }) => balanceKey === 'calls')!
        expect(calls.quantity).toBe(parseQuantity(Math.max(paid.calls - 100, 0)))
      }),
      { numRuns: 25, endOnFailure: true },
    )
  }, 240_000)
})

describe('the answer says which invoice late use comes on', () => {
  test('its own while that is a draft, the next one when it is closed, none when nothing bills the balance any more', async () => {
    const id = await onClock('invoices')
    await subscribe(id)
    const { period } = await readStatement(billing.context, { organizationId: id, at: null })
    const last = new Date(period.end.getTime() - 1)
    await billing.use(id, 'calls', 100)
    await billing.advance(id, `${Math.ceil((period.end.getTime() - (await billing.nowOf(id)).getTime()) / 60_000) + 1}m`)
    expect(await billing.use(id, 'calls', 1, { occurredAt: last })).toMatchObject({ late: 'open' })
    await billing.advance(id, '3h')
    expect(await billing.use(id, 'calls', 2, { occurredAt: last })).toMatchObject({ late: 'closed' })
    await succeed(id, 'cancel', { immediate: true })
    expect(await billing.use(id, 'calls', 4, { occurredAt: last })).toMatchObject({ late: 'ended' })
    expect(await invoiceTotals(id)).toEqual([1000, 1001, 2])
  })
})

test('use of a day that is told 34 days later is billed beyond what that day includes, with the next month', async () => {
  const id = await onClock('days')
  await subscribe(id, 'daily')
  const began = await billing.nowOf(id)
  await billing.advance(id, '34d')
  expect(await billing.use(id, 'calls', 25, { occurredAt: began })).toMatchObject({ late: 'closed' })
  await billing.advance(id, '31d')
  expect(await invoiceTotals(id)).toEqual([1000, 1000, 1015])
})

test('a hold that is overdue when a renewal is heard of has ended before what is left over moves on', async () => {
  const id = await onClock('holding')
  await subscribe(id)
  await billing.use(id, 'kept', 70)
  const { period } = await readStatement(billing.context, { organizationId: id, at: null })
  await billing.hold(id, 'kept', 30, 3600)
  await billing.advance(id, `${Math.ceil((period.end.getTime() - (await billing.nowOf(id)).getTime()) / HOUR_MS) + 1}h`)
  const { balance } = await billing.use(id, 'kept', 0)
  expect(balance).toMatchObject({ amount: parseQuantity(130), reserved: 0n })
})

async function invoiceTotals(id: string): Promise<number[]> {
  const { rows } = await billing.database.db.query<{ customer: string }>(
    'select stripe_customer_id as customer from organizations where id = $1',
    [id],
  )
  return billing.sandbox
    .all('invoice')
    .filter(({ customer }) => customer === rows[0]!.customer)
    .sort((a, b) => a.created - b.created)
    .map((invoice) => invoice.total)
}

test('a time in which nothing bills has a statement that ends where the next one begins', async () => {
  const id = await onClock('before')
  const began = await billing.nowOf(id)
  await billing.advance(id, '2h')
  await subscribe(id)
  await billing.use(id, 'calls', 110)
  const before = await readStatement(billing.context, { organizationId: id, at: began })
  const billed = await readStatement(billing.context, { organizationId: id, at: before.period.end })
  expect([before.totalMinor, billed.totalMinor]).toEqual([0, 1010])
  expect(billed.period.start).toEqual(before.period.end)
})

test('KF-8 an hour in which the cycle turns is billed when both of its sides are', async () => {
  const id = await onClock('turning')
  await subscribe(id)
  const { period } = await readStatement(billing.context, { organizationId: id, at: null })
  const turn = period.end.getTime()
  await billing.advance(id, `${Math.floor((turn - (await billing.nowOf(id)).getTime()) / 60_000) - 1}m`)
  await billing.use(id, 'month', 1)
  await billing.advance(id, '3m')
  await billing.use(id, 'month', 1)
  // The invoice of the period that is over is paid, that of the one that has begun is not there yet.
  await billing.advance(id, '3h')
  const billed = async (start: number, end: number): Promise<unknown> => {
    const span = `period_start=${new Date(start).toISOString()}&period_end=${new Date(end).toISOString()}`
    return (await billing.ask('GET', `/api/v1/billing/usage/tenant/${id}/summary?${span}`, undefined, id)).body['billed']
  }
  expect(await billed(period.start.getTime(), turn)).toBe(true)
  expect(await billed(period.start.getTime(), turn + 600_000)).toBe(false)
  expect(await billed(turn, turn + 600_000)).toBe(false)
})

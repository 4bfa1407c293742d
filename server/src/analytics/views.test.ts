import { expect, test } from 'vitest'
import { toAging, toMovements, toRevenue, toTrials } from './views.ts'

const days = ['2026-03-01', '2026-03-02', '2026-03-03'].map((day) => new Date(`${day}T00:00:00Z`))

test('what is open is told of each currency by itself, by its age', () => {
  const sum = (currency: string, bucket: number, count: number, amountMinor: bigint) => ({ currency, bucket, count, amountMinor })
  const nothing = { invoices: 0, amount_minor: 0 }
  const told = toAging([sum('eur', 0, 1, 100n), sum('eur', 4, 2, 50n), sum('usd', 1, 3, 7n)])
  expect(told).toEqual([
    {
      currency: 'eur',
      current: { invoices: 1, amount_minor: 100 },
      days_1_30: nothing,
      days_31_60: nothing,
      days_61_90: nothing,
      days_over_90: { invoices: 2, amount_minor: 50 },
      total: { invoices: 3, amount_minor: 150 },
    },
    {
      currency: 'usd',
      current: nothing,
      days_1_30: { invoices: 3, amount_minor: 7 },
      days_31_60: nothing,
      days_61_90: nothing,
      days_over_90: nothing,
      total: { invoices: 3, amount_minor: 7 },
    },
  ])
})

test('revenue is told of each currency by itself, of each span between two times, less what was refunded and charged back', () => {
  const sum = { invoices: 2, paidMinor: 1000n, usageMinor: 300n, refundedMinor: 40n, disputedMinor: 5n }
  const nothing = { invoices: 0, paid_minor: 0, usage_minor: 0, refunded_minor: 0, disputed_minor: 0, net_minor: 0 }
  const something = { invoices: 2, paid_minor: 1000, usage_minor: 300, refunded_minor: 40, disputed_minor: 5, net_minor: 955 }
  const [from, middle, to] = days.map((day) => day.toISOString())
  expect(
    toRevenue(
      [
        { ...sum, currency: 'eur', bucket: 1 },
        { ...sum, currency: 'usd', bucket: 0 },
      ],
      days,
    ),
  ).toEqual([
    {
      currency: 'eur',
      points: [
        { from, to: middle, ...nothing },
        { from: middle, to, ...something },
      ],
    },
    {
      currency: 'usd',
      points: [
        { from, to: middle, ...something },
        { from: middle, to, ...nothing },
      ],
    },
  ])
})

test('what was lost is told as positive numbers, and nothing as zero', () => {
  const amounts = { new: 1, expansion: 2, reactivation: 3, contraction: -4, churn: 0 }
  expect(toMovements(amounts)).toEqual({
    new_minor: 1,
    expansion_minor: 2,
    reactivation_minor: 3,
    contraction_minor: 4,
    churn_minor: 0,
  })
})

test('trials convert of those that have ended, and none where none has', () => {
  expect(toTrials({ bucket: 0, started: 9, running: 5, converted: 3, lost: 1 })).toEqual({
    started: 9,
    running: 5,
    converted: 3,
    lost: 1,
    conversion: 0.75,
  })
  expect(toTrials(undefined)).toEqual({ started: 0, running: 0, converted: 0, lost: 0, conversion: null })
})

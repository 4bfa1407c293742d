import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MICRO } from '../lib/quantity.ts'
import { decideAutoTopUp, unpaidShare, type AutoTopUpState } from './rules.ts'

describe('what a payment does not stand for any more', () => {
  const payment = { chargeId: 'ch_1', amountMinor: 1_000, refundedMinor: 0, disputed: false }

  test('is the share that was refunded, rounded for the customer', () => {
    expect(unpaidShare(500n * MICRO, { ...payment, refundedMinor: 300 })).toBe(150n * MICRO)
    expect(unpaidShare(100n, { ...payment, amountMinor: 3, refundedMinor: 1 })).toBe(33n)
  })

  test('is all of it while it is disputed, and once all of it is refunded', () => {
    expect(unpaidShare(500n, payment)).toBe(0n)
    expect(unpaidShare(500n, { ...payment, disputed: true })).toBe(500n)
    expect(unpaidShare(500n, { ...payment, refundedMinor: 1_000 })).toBe(500n)
    // A purchase for nothing is refunded as soon as it is paid.
    expect(unpaidShare(500n, { ...payment, amountMinor: 0 })).toBe(500n)
  })

  test('is never more than was bought, and never less after another refund', () => {
    const amount = fc.bigInt({ min: 0n, max: 10n ** 15n })
    const minor = fc.integer({ min: 1, max: 1_000_000 })
    fc.assert(
      fc.property(amount, minor, minor, minor, (bought, amountMinor, first, second) => {
        const after = (refundedMinor: number) => unpaidShare(bought, { ...payment, amountMinor, refundedMinor })
        expect(after(first) >= 0n && after(first) <= bought).toBe(true)
        expect(after(first + second) >= after(first)).toBe(true)
      }),
    )
  })
})

describe('buying by itself', () => {
  const low: AutoTopUpState = {
    remaining: 49n,
    below: 50n,
    requestedAt: new Date('2026-03-10'),
    monthBegan: new Date('2026-03-01'),
    subscriptionEndedAt: null,
    boughtThisMonth: 0,
    mostPerMonth: 2,
    stopped: null,
    method: 'pm_1',
  }

  test.each([
    ['less is left than the mark', {}, 'buy'],
    ['exactly the mark is left', { remaining: 50n }, 'enough'],
    ['there is no end', { remaining: null }, 'enough'],
    ['one may still be bought this month', { boughtThisMonth: 1 }, 'buy'],
    ['no more may be bought this month', { boughtThisMonth: 2 }, 'wait'],
    ['this method failed', { stopped: { method: 'pm_1' } }, 'wait'],
    ['another method failed', { stopped: { method: 'pm_0' } }, 'buy'],
    ['there was no method, and is none', { stopped: { method: null }, method: null }, 'wait'],
    ['it waits since last month', { requestedAt: new Date('2026-02-20') }, 'buy'],
    ['it waited since last month and was bought', { requestedAt: new Date('2026-02-20'), boughtThisMonth: 1 }, 'enough'],
    ['the customer has left since', { subscriptionEndedAt: new Date('2026-03-11') }, 'enough'],
    ['the customer had left before', { subscriptionEndedAt: new Date('2026-03-09') }, 'buy'],
    ['enough is left, though this method failed', { remaining: 50n, stopped: { method: 'pm_1' } }, 'enough'],
  ] as const)('where %s', (_, over, decision) => {
    expect(decideAutoTopUp({ ...low, ...over })).toBe(decision)
  })
})

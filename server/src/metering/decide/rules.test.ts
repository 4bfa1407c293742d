import { describe, expect, test } from 'vitest'
import { answers, now, reserve, run, stateOf, termsOf, use } from '../../../test/decisions.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../lib/period.ts'
import type { UsageRequest } from '../usage.ts'
import { isTellablePast, occurredAtOf, recordedSpanOf } from './rules.ts'

const before = (ms: number): Date => new Date(now.getTime() - ms)

test('use may be told of the last 35 days, the first moment of them included, and not of the present as of the past', () => {
  const told = [35 * DAY_MS + 1, 35 * DAY_MS, 1, 0, -1].map((ms) => isTellablePast(before(ms), now))
  expect(told).toEqual([false, true, true, false, false])
})

test('use without a time is of now; a time is taken from 35 days ago until five minutes ahead', () => {
  expect(occurredAtOf(null, now)).toBe(now)
  for (const ms of [35 * DAY_MS, 0, -5 * MINUTE_MS]) expect(occurredAtOf(before(ms), now)).toEqual(before(ms))
  for (const ms of [35 * DAY_MS + 1, -5 * MINUTE_MS - 1]) {
    expect(() => occurredAtOf(before(ms), now)).toThrow('at most 35 days in the past and 5 minutes in the future')
  }
})

test('what was recorded of a period is looked for from before its start until it may be told no more, in any zone', () => {
  const periodStart = new Date('2026-03-01T00:00:00Z')
  const periodEnd = new Date('2026-04-01T00:00:00Z')
  const { from, until } = recordedSpanOf({ periodStart, periodEnd })
  // Zones lie up to 26 hours apart.
  expect(periodStart.getTime() - from.getTime()).toBeGreaterThan(26 * HOUR_MS)
  expect(until!.getTime() - periodEnd.getTime()).toBeGreaterThan(35 * DAY_MS + 26 * HOUR_MS)
  expect(periodStart.getTime() - from.getTime()).toBeLessThan(3 * DAY_MS)
  expect(until!.getTime() - periodEnd.getTime()).toBeLessThan(38 * DAY_MS)
  expect(recordedSpanOf({ periodStart, periodEnd: null }).until).toBeNull()
})

describe('a limit of spending', () => {
  const sold = normalizeCatalog({
    meters: { tokens: {} },
    plans: {
      free: {
        name: 'Free',
        allowances: {
          tokens: {
            amount: 10,
            period: 'calendar_month',
            limit: 'soft',
            overage: { model: 'package', size: 10, amountMinor: 100 },
            spendLimitMinor: 200,
          },
        },
      },
    },
    defaultPlan: 'free',
  })
  const state = stateOf({ ...termsOf('free'), catalog: sold, newerMeters: sold.meters })
  const spent = { limitMinor: 200, spentMinor: 200, currency: sold.currency }

  test('lets everything be spent, and not a package more; what is spent is told as the bill has it', () => {
    const decision = run(state, [use('consume', 'tokens', 30, 'a'), use('consume', 'tokens', '0.000001', 'b')])
    expect(answers(decision)).toMatchObject([
      { allowed: true, code: null },
      { allowed: false, code: 'spend_limit_reached' },
    ])
    expect(decision.events[1]!.spending).toEqual(spent)
  })

  test('that a plan does not have refuses nothing', () => {
    const { tokens } = Object.fromEntries(sold.plans.get('free')!.allowances)
    const open = new Map([['tokens', { ...tokens!, spendLimitMinor: null }]])
    const plans = new Map([['free', { ...sold.plans.get('free')!, allowances: open }]])
    const unlimited = stateOf({ ...termsOf('free'), catalog: { ...sold, plans }, newerMeters: sold.meters })
    expect(answers(run(unlimited, [use('consume', 'tokens', 1_000, 'a')]))).toMatchObject([{ allowed: true, code: null }])
  })

  test('counts what is held as spent', () => {
    const held = run(state, [{ ...reserve(30, 'r'), meter: 'tokens' } as UsageRequest, use('consume', 'tokens', 1, 'b')])
    expect(answers(held).map(({ code }) => code)).toEqual([null, 'spend_limit_reached'])
    expect(held.events[1]!.spending).toEqual(spent)
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import { nextTerms, planGrantAt, type History } from './history.ts'
import { planGrantOf, type PlanTerms } from './rules.ts'

const catalog = normalizeCatalog({
  meters: { calls: {}, seats: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 10 }, seats: { amount: 1, period: 'calendar_month' } } },
    pro: { name: 'Pro', allowances: { calls: { amount: 100 }, seats: { amount: 5, period: 'calendar_month' } } },
    daily: { name: 'Daily', allowances: { calls: { amount: 7, period: 'day' }, seats: { amount: 3, period: 'lifetime' } } },
  },
  defaultPlan: 'free',
})
const ANCHOR = new Date('2026-01-10T08:00:00Z')
const FIRST: History[number] = { since: new Date(0), planKey: 'free', catalogVersion: 1, catalog, cycle: null, addOns: {} }

type Facts = { readonly plan: string; readonly cycle: { readonly start: Date; readonly end: Date } | null }

function termsOf({ plan, cycle }: Facts, since: Date | null = null): PlanTerms {
  const standing = {
    state: cycle ? 'active' : 'free',
    mayUse: true,
    reason: 'paid',
    planKey: plan,
    since: null,
    until: null,
  } as const
  return {
    standing,
    catalog,
    newerMeters: catalog.meters,
    catalogVersion: 1,
    anchor: ANCHOR,
    currentPeriodStart: cycle?.start ?? null,
    currentPeriodEnd: cycle?.end ?? null,
    timeZone: 'UTC',
    since,
  }
}

/** An organization's time: what it had from each moment on, each change heard of when it took place. */
const lives = fc.array(
  fc.record({
    plan: fc.constantFrom('free', 'pro', 'daily'),
    hours: fc.integer({ min: 1, max: 20 * 24 }),
    renewed: fc.boolean(),
  }),
  { minLength: 1, maxLength: 6 },
)

function live(changes: readonly { plan: string; hours: number; renewed: boolean }[]) {
  let now = ANCHOR
  let facts: Facts = { plan: 'free', cycle: null }
  let history: History = [FIRST]
  const stages: { readonly from: Date; readonly facts: Facts }[] = [{ from: now, facts }]
  for (const { plan, hours, renewed } of changes) {
    now = new Date(now.getTime() + hours * HOUR_MS)
    const isNew = plan !== 'free' && (renewed || facts.cycle === null)
    const cycle = plan === 'free' ? null : isNew ? { start: now, end: new Date(now.getTime() + 30 * DAY_MS) } : facts.cycle
    facts = { plan, cycle }
    const next = nextTerms(termsOf(facts), history.at(-1)!, now)
    if (next) history = [...history, { ...next, catalog }]
    stages.push({ from: now, facts })
  }
  return { history, stages, terms: termsOf(facts, history.at(-1)!.since), now: new Date(now.getTime() + HOUR_MS) }
}

describe('the allowance of a moment of the past', () => {
  test('is the one that use told in time drew from, whatever has changed since', () => {
    fc.assert(
      fc.property(lives, fc.constantFrom('calls', 'seats'), fc.nat(1_000), (changes, balance, part) => {
        const { history, stages, terms, now } = live(changes)
        const at = new Date(ANCHOR.getTime() + Math.floor(((now.getTime() - ANCHOR.getTime()) * part) / 1_001))
        const own = stages.findLast(({ from }) => from <= at)!
        const inTime = planGrantOf(termsOf(own.facts), balance, at)
        const late = planGrantAt(terms, history, balance, at)
        expect([late.id, late.planKey, late.amount]).toEqual([inTime.id, inTime.planKey, inTime.amount])
        expect(late.span.start <= at && (late.span.end === null || at < late.span.end)).toBe(true)
      }),
      { numRuns: 2_000 },
    )
  })

  test('ends where other terms began, so that no two of one kind of period overlap in it', () => {
    const { history, terms } = live([{ plan: 'pro', hours: 24, renewed: true }])
    const { span } = planGrantAt(terms, history, 'calls', ANCHOR)
    expect(span.end).toEqual(history[1]!.since)
  })

  test('before anything is known of an organization is that of its first plan', () => {
    const { history, terms } = live([{ plan: 'pro', hours: 24, renewed: true }])
    expect(planGrantAt(terms, history, 'calls', new Date(ANCHOR.getTime() - 20 * DAY_MS))).toMatchObject({ planKey: 'free' })
  })
})

describe('what is kept of an organization', () => {
  const start = new Date('2026-02-01T00:00:00Z')
  const cycle = { start, end: new Date('2026-03-01T00:00:00Z') }

  test('is nothing while nothing changes', () => {
    const next = nextTerms(termsOf({ plan: 'pro', cycle }), FIRST, start)!
    expect(nextTerms(termsOf({ plan: 'pro', cycle }), next, new Date('2026-02-20T00:00:00Z'))).toBeNull()
  })

  test('begins with the cycle that began, also when that is heard of later', () => {
    const heard = new Date('2026-02-01T02:00:00Z')
    expect(nextTerms(termsOf({ plan: 'pro', cycle }), FIRST, heard)).toMatchObject({ since: start })
  })

  test('begins now where the cycle is said to begin only later', () => {
    const before = new Date(start.getTime() - HOUR_MS)
    expect(nextTerms(termsOf({ plan: 'pro', cycle }), FIRST, before)).toMatchObject({ since: before })
  })

  test('stands from its first moment on', () => {
    const pro = { ...nextTerms(termsOf({ plan: 'pro', cycle }), FIRST, start)!, catalog }
    const daily = { ...nextTerms(termsOf({ plan: 'daily', cycle }), pro, cycle.end)!, catalog }
    const amountAt = (at: Date) => planGrantAt(termsOf({ plan: 'daily', cycle }), [FIRST, pro, daily], 'calls', at).planKey
    expect([new Date(start.getTime() - 1), start, cycle.end].map(amountAt)).toEqual(['free', 'pro', 'daily'])
  })

  test('begins when a plan is changed within its cycle, and never before the last change', () => {
    const pro = nextTerms(termsOf({ plan: 'pro', cycle }), FIRST, start)!
    const changed = new Date('2026-02-10T00:00:00Z')
    expect(nextTerms(termsOf({ plan: 'daily', cycle }), pro, changed)).toMatchObject({ since: changed, planKey: 'daily' })
    expect(nextTerms(termsOf({ plan: 'daily', cycle }), pro, new Date('2026-01-31T00:00:00Z'))).toMatchObject({ since: start })
  })
})

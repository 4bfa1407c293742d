import { describe, expect, test } from 'vitest'
import { answers, apply, errorOf, now, run, stateOf, termsOf, use } from '../../../test/decisions.ts'
import { normalizeCatalog } from '../../catalog/normalize.ts'
import { MICRO, parseQuantity } from '../../lib/quantity.ts'
import type { Reservation, ReserveRequest, UsageRequest } from '../usage.ts'
import { eventKey, nameOf, type Decision } from './decision.ts'

// What is held of a balance, and what becomes of it.

const catalog = normalizeCatalog({
  meters: {
    call: {},
    large: { filter: { model: ['large'] } },
    visit: { aggregation: 'count' },
    seat: { aggregation: 'latest' },
  },
  plans: {
    free: {
      name: 'Free',
      allowances: {
        call: { amount: 10, period: 'calendar_month' },
        large: { amount: 10, period: 'calendar_month' },
        visit: { amount: 10, period: 'calendar_month' },
        seat: { amount: 10, period: 'calendar_month' },
      },
      rateLimits: { visit: { limit: 2, per: 'minute' } },
    },
  },
  defaultPlan: 'free',
})
const TTL_MS = 60_000
const state = stateOf({ ...termsOf('free'), catalog, newerMeters: catalog.meters })
const hold = (meter: string, quantity: number | string, over: Partial<ReserveRequest> = {}): ReserveRequest => ({
  verb: 'reserve',
  organizationId: 'org',
  meter,
  quantity: parseQuantity(quantity),
  idempotencyKey: 'hold',
  properties: null,
  ttlMs: TTL_MS,
  ...over,
})
const settle = ({ id }: Reservation, quantity: number | string | null): UsageRequest => ({
  verb: 'settle',
  organizationId: 'org',
  reservationId: id,
  quantity: quantity === null ? null : parseQuantity(quantity),
})
const release = ({ id }: Reservation): UsageRequest => ({ verb: 'release', organizationId: 'org', reservationId: id })

/** What a decision left behind, as the next one finds it. */
function after(decision: Decision, reservations: readonly Reservation[] = decision.newReservations, laterMs = 0) {
  const known = new Map(decision.events.map((event) => [eventKey('org', nameOf(event)), event]))
  const next = { ...apply(state, decision), now: new Date(now.getTime() + laterMs) }
  return (...requests: UsageRequest[]) => run(next, requests, { known, reservations })
}
const balances = (decision: Decision) =>
  answers(decision).map(({ balance: { used, overage, reserved } }) => [used, overage, reserved].map((part) => Number(part) / 1e6))

describe('a hold', () => {
  test('lasts for its time, and gives back what it held when that is over', () => {
    const held = run(state, [hold('call', 4)])
    const [reservation] = held.newReservations
    expect(reservation!.expiresAt).toEqual(new Date(now.getTime() + TTL_MS))
    const before = after(held, held.newReservations, TTL_MS - 1)(use('consume', 'call', 1, 'a'))
    expect([balances(before), before.closedReservations]).toEqual([[[1, 0, 4]], []])
    const over = after(held, held.newReservations, TTL_MS)(use('consume', 'call', 1, 'a'))
    expect(balances(over)).toEqual([[1, 0, 0]])
    expect(over.closedReservations).toMatchObject([{ id: reservation!.id, status: 'expired' }])
  })

  test('is of what its meter adds up: one of a meter that counts, nothing of what its filter leaves out, and none of a level', () => {
    const properties = { model: 'small' }
    expect(balances(run(state, [hold('visit', 7)]))).toEqual([[0, 0, 1]])
    expect(balances(run(state, [hold('large', 7, { properties })]))).toEqual([[0, 0, 0]])
    expect(balances(run(state, [hold('large', 7, { properties: { model: 'large' } })]))).toEqual([[0, 0, 7]])
    expect(errorOf(run(state, [hold('seat', 7)]))).toMatchObject({ code: 'invalid_request', details: { field: 'meter' } })
  })

  test('counts in the pace of its meter as a use does, and is not kept where it comes too fast', () => {
    const visits = ['a', 'b', 'c'].map((idempotencyKey) => hold('visit', 1, { idempotencyKey }))
    const decision = run(state, visits)
    expect(answers(decision).map(({ code }) => code)).toEqual([null, null, 'rate_limited'])
    expect(answers(decision)[2]!.retryAfterMs).toBeGreaterThan(0)
    expect([decision.events.length, decision.newReservations.length]).toEqual([2, 2])
  })
})

describe('what held work came to', () => {
  const held = run(state, [hold('call', 4)])
  const [reservation] = held.newReservations

  test('is taken from what was held, and what is more from the balance, to the millionth', () => {
    const cases = [
      ['3', [3, 0, 0]],
      ['4', [4, 0, 0]],
      ['4.000001', [4.000001, 0, 0]],
      ['12', [10, 2, 0]],
    ] as const
    for (const [quantity, expected] of cases) {
      const settled = after(held)(settle(reservation!, quantity))
      expect(balances(settled)).toEqual([expected])
      const event = settled.events[0]!
      expect(event.counted).toBe(parseQuantity(quantity))
      expect(event.draws.every(({ amount, overage }) => amount !== 0n || overage !== 0n)).toBe(true)
      expect(settled.closedReservations).toMatchObject([{ status: 'settled', settledEventId: event.id }])
    }
  })

  test('is what was held where nothing else is said, and is told again as it was; another quantity is refused', () => {
    const settled = after(held)(settle(reservation!, null))
    const closed = settled.closedReservations
    const again = after(settled, closed)
    expect(answers(again(settle(closed[0]!, null), settle(closed[0]!, 4)))).toMatchObject([
      { replayed: true, drawn: 4n * MICRO },
      { replayed: true, drawn: 4n * MICRO },
    ])
    expect(errorOf(again(settle(closed[0]!, 3)))).toMatchObject({ code: 'idempotency_conflict', details: { field: 'quantity' } })
    expect(errorOf(again(release(closed[0]!)))).toMatchObject({ code: 'reservation_closed' })
  })

  test('counts once the hold has ended by itself as well, from what is left; not once it was released', () => {
    const ended = after(held, held.newReservations, TTL_MS)()
    const expired = ended.closedReservations
    const next = { ...apply(apply(state, held), ended), now: new Date(now.getTime() + TTL_MS) }
    expect(balances(run(next, [settle(expired[0]!, 6)], { reservations: expired }))).toEqual([[6, 0, 0]])
    const released = after(held)(release(reservation!))
    const error = errorOf(after(held, released.closedReservations)(settle(released.closedReservations[0]!, 4)))
    expect(error).toMatchObject({ code: 'reservation_closed', details: { reservation_status: 'released' } })
  })

  test('is nothing where it is released, which gives the hold back once', () => {
    const released = after(held)(release(reservation!), release(reservation!), use('consume', 'call', 10, 'all'))
    expect(balances(released)).toEqual([
      [0, 0, 0],
      [0, 0, 0],
      [10, 0, 0],
    ])
    expect(answers(released).map(({ replayed }) => replayed)).toEqual([false, true, false])
    expect(released.closedReservations).toMatchObject([{ status: 'released' }])
  })
})

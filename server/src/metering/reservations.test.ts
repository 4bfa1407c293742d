import { describe, expect, test } from 'vitest'
import { answers, apply, errorOf, grantOf, now, reserve, run, stateOf, termsOf, use } from '../../test/decisions.ts'
import { formatQuantity, MAX_QUANTITY, MICRO, parseQuantity, type Quantity } from '../lib/quantity.ts'
import type { Reservation, UsageRequest } from './usage.ts'

describe('reservations', () => {
  const settle = (id: string, quantity: Quantity | null): UsageRequest => ({
    verb: 'settle',
    organizationId: 'org',
    reservationId: id,
    quantity,
  })

  function reserved(quantity: number, free = '100') {
    const state = stateOf(termsOf('free'), {
      used: { credits: parseQuantity(100) === parseQuantity(free) ? '0' : String(100 - Number(free)) },
    })
    const decision = run(state, [reserve(quantity, 'r')])
    return { state: apply(state, decision), reservation: decision.newReservations[0]!, decision }
  }

  test('what is held cannot be used by another, and is given back when released', () => {
    const { state, reservation } = reserved(80)
    const [refused] = answers(run(state, [use('consume', 'episode_ingestion', 21, 'a')]))
    expect(refused).toMatchObject({ allowed: false, balance: { reserved: 80n * MICRO, remaining: 20n * MICRO } })
    const release: UsageRequest = { verb: 'release', organizationId: 'org', reservationId: reservation.id }
    const decision = run(state, [release, use('consume', 'episode_ingestion', 21, 'a'), release], { reservations: [reservation] })
    expect(answers(decision).map(({ allowed, replayed }) => [allowed, replayed])).toEqual([
      [true, false],
      [true, false],
      [true, true],
    ])
    expect(decision.closedReservations).toMatchObject([{ status: 'released' }])
  })

  test.each([
    ['less', '30', '30', '0'],
    ['equal', '80', '80', '0'],
    ['more', '95', '95', '0'],
    ['more than there is', '110', '100', '10'],
  ])('settling %s records exactly what was used', (_name, quantity, used, overage) => {
    const { state, reservation } = reserved(80)
    const decision = run(state, [settle(reservation.id, parseQuantity(quantity))], { reservations: [reservation] })
    expect(answers(decision)[0]!.balance).toMatchObject({
      used: parseQuantity(used),
      overage: parseQuantity(overage),
      reserved: 0n,
    })
    expect(decision.hourlyChanges[0]!.quantity).toBe(parseQuantity(quantity))
    const [event] = decision.events
    expect(event).toMatchObject({ drawn: parseQuantity(quantity), overage: parseQuantity(overage) })
    expect(event!.draws).toMatchObject([{ amount: parseQuantity(used), overage: parseQuantity(overage) }])
  })

  test.each([
    ['3', { gift: '3' }],
    ['4', { gift: '4' }],
    ['5', { gift: '4', plan: '1' }],
    ['12', { gift: '4', plan: '8' }],
  ])('settling %s of what two grants hold takes it in the order in which it was held', (quantity, drawn) => {
    const state = stateOf(termsOf('free'), { others: [grantOf('gift', '4', { priority: 1 })] })
    const held = run(state, [reserve(10, 'r')])
    const [reservation] = held.newReservations
    expect(reservation!.holds.map(({ amount }) => amount)).toEqual([4n * MICRO, 6n * MICRO])
    const decision = run(apply(state, held), [settle(reservation!.id, parseQuantity(quantity))], { reservations: [reservation!] })
    const draws = decision.events[0]!.draws.map(({ grantId, amount }) => [grantId === 'gift' ? 'gift' : 'plan', amount])
    expect(draws).toEqual(Object.entries(drawn).map(([grant, amount]) => [grant, parseQuantity(amount)]))
  })

  test('is told apart from a use whose key is its id', () => {
    const { state, reservation } = reserved(10)
    const used = use('track', 'episode_ingestion', 3, reservation.id)
    for (const requests of [
      [used, settle(reservation.id, null)],
      [settle(reservation.id, null), used],
    ]) {
      const decision = run(state, requests, { reservations: [reservation] })
      expect(answers(decision).map(({ replayed }) => replayed)).toEqual([false, false])
      expect(decision.events.map(({ verb }) => verb).sort()).toEqual(['settle', 'track'])
      expect(decision.closedReservations).toMatchObject([{ status: 'settled' }])
    }
  })

  test('settling twice answers the first settlement; with another quantity it is refused', () => {
    const { state, reservation } = reserved(10)
    const decision = run(state, [settle(reservation.id, null), settle(reservation.id, null), settle(reservation.id, MICRO)], {
      reservations: [reservation],
    })
    expect(decision.events).toHaveLength(1)
    expect(decision.outcomes[1]).toMatchObject({ answer: { replayed: true } })
    expect(errorOf(decision, 2)).toMatchObject({ code: 'idempotency_conflict', details: { field: 'quantity' } })
  })

  test('what is held has room for what it is settled with, up to the most that a period counts', () => {
    const state = stateOf(termsOf('pro'), { used: { credits: formatQuantity(MAX_QUANTITY - 10n * MICRO) } })
    const held = run(state, [reserve(10, 'r')])
    const [reservation] = held.newReservations
    const settled = (quantity: Quantity) =>
      run(apply(state, held), [settle(reservation!.id, quantity)], { reservations: [reservation!] })
    expect(answers(settled(10n * MICRO))[0]!.balance.used).toBe(MAX_QUANTITY)
    expect(errorOf(settled(10n * MICRO + 1n)).code).toBe('invalid_quantity')
  })

  test('of a meter that counts uses is one, however much was asked', () => {
    const state = stateOf(termsOf('free'))
    const held = run(state, [{ ...reserve(5, 'r'), meter: 'calls' } as UsageRequest])
    expect(answers(held)[0]).toMatchObject({ allowed: true, balance: { reserved: MICRO } })
    const [reservation] = held.newReservations
    const decision = run(apply(state, held), [settle(reservation!.id, 7n * MICRO)], { reservations: [reservation!] })
    expect(answers(decision)[0]!.balance).toMatchObject({ used: MICRO, reserved: 0n })
  })

  test('what was released is not settled any more, and what was settled not released', () => {
    const { state, reservation } = reserved(10)
    const release: UsageRequest = { verb: 'release', organizationId: 'org', reservationId: reservation.id }
    for (const [first, second, status] of [
      [release, settle(reservation.id, null), 'released'],
      [settle(reservation.id, null), release, 'settled'],
    ] as const) {
      const decision = run(state, [first, second], { reservations: [reservation] })
      expect(errorOf(decision, 1)).toMatchObject({ code: 'reservation_closed', details: { reservation_status: status } })
      expect(decision.closedReservations).toMatchObject([{ status }])
    }
  })

  test('a hold ends by itself, and use that is settled afterwards is still recorded', () => {
    const { state, reservation } = reserved(80)
    const later = { ...state, now: new Date(now.getTime() + 60_000) }
    const decision = run(later, [use('consume', 'episode_ingestion', 90, 'a'), settle(reservation.id, 20n * MICRO)], {
      reservations: [reservation],
    })
    expect(answers(decision)[0]!.allowed).toBe(true)
    expect(answers(decision)[1]!.balance).toMatchObject({ used: 100n * MICRO, overage: 10n * MICRO, reserved: 0n })
  })

  test('a reservation of another organization does not exist', () => {
    const { state, reservation } = reserved(10)
    const foreign: Reservation = { ...reservation, organizationId: 'other' }
    expect(errorOf(run(state, [settle(reservation.id, null)], { reservations: [foreign] })).code).toBe('not_found')
  })
})

import type { Meter } from '../../catalog/catalog.ts'
import { DomainError } from '../../lib/errors.ts'
import { MICRO, type Quantity } from '../../lib/quantity.ts'
import type { ReleaseRequest, Reservation, ReserveRequest, SettleRequest, UsageAnswer, UsageProperties } from '../usage.ts'
import { mergeDraws } from './draws.ts'
import { answerOf, unstoredAnswer } from './answers.ts'
import { settlementName } from './decision.ts'
import { snapshotOf } from './ledger.ts'
import { isAdditive, isCounted } from './readings.ts'
import { keyConflict, paceOf } from './recording.ts'
import { refusalOf, takeFrom } from './rules.ts'
import { costOf, requireRoom, type DecisionSession } from './session.ts'

/** What is held or settled of a meter that adds up. */
function additiveQuantity(meter: Meter, quantity: Quantity, properties: UsageProperties | null): Quantity {
  if (!isAdditive(meter)) {
    throw new DomainError('invalid_request', `The meter "${meter.key}" does not add up its uses, so none can be held.`, {
      field: 'meter',
    })
  }
  if (!isCounted(meter, properties)) return 0n
  return meter.aggregation === 'count' ? MICRO : quantity
}

/** Holds an amount, or refuses as `consume` would. */
export function reserve(session: DecisionSession, request: ReserveRequest): UsageAnswer {
  const ledger = session.ledgerOf(request.organizationId)
  const meter = session.meterOf(ledger, request.meter)
  const quantity = additiveQuantity(meter, request.quantity, request.properties)
  const cost = costOf(meter, quantity)
  const book = ledger.currentBook(meter.balanceKey)
  requireRoom(book, cost)
  const refusal = refusalOf(ledger, book, meter, cost)
  const { now } = ledger.state
  if (refusal) return session.store({ asked: request, meter, book }, { occurredAt: now, draws: [], refusal })
  const paced = session.pacedUse(ledger, meter, quantity)
  const pace = paceOf(session, paced)
  if (pace.code !== null) return unstoredAnswer(request, { ...pace, balance: snapshotOf(book, meter.key) })
  if (paced) session.windows.add(paced, now)
  const reservationId = session.input.newReservationId()
  const heldUntil = new Date(now.getTime() + request.ttlMs)
  const holds = book.hold(meter.key, cost)
  session.addReservation({
    organizationId: request.organizationId,
    id: reservationId,
    meter: meter.key,
    quantity: request.quantity,
    balanceKey: meter.balanceKey,
    holds,
    status: 'open',
    properties: request.properties,
    createdAt: now,
    expiresAt: heldUntil,
    closedAt: null,
    settledEventId: null,
    settledRecordedAt: null,
  })
  return session.store({ asked: request, meter, book }, { occurredAt: now, draws: holds, reservationId, heldUntil })
}

/** Records what reserved work came to. The work is done, so nothing is refused here: more than was held goes on like `track`. */
export function settle(session: DecisionSession, request: SettleRequest): UsageAnswer {
  const { organizationId } = request
  const reservation = session.reservationOf(organizationId, request.reservationId)
  const settled = session.eventOf(organizationId, settlementName(reservation.id))
  if (settled) {
    if (request.quantity !== null && request.quantity !== settled.quantity) throw keyConflict(reservation.id, 'quantity')
    return answerOf(settled, true)
  }
  if (reservation.status === 'released') throw closed(reservation, 'released')
  const quantity = request.quantity ?? reservation.quantity
  const ledger = session.ledgerOf(organizationId)
  const meter = session.meterOf(ledger, reservation.meter)
  const counted = additiveQuantity(meter, quantity, reservation.properties)
  const cost = costOf(meter, counted)
  const book = ledger.currentBook(meter.balanceKey)
  const isOpen = reservation.status === 'open'
  requireRoom(book, cost - (isOpen ? heldBy(reservation) : 0n))
  const held = isOpen ? session.unhold(reservation) : []
  const fromHolds = takeFrom(held, cost)
  for (const { grantId, amount } of fromHolds) book.countElsewhere(ledger.lineOf(grantId), amount)
  const left = cost - fromHolds.reduce((sum, draw) => sum + draw.amount, 0n)
  const draws = mergeDraws([...fromHolds, ...book.draw(meter.key, left)])
  const asked = { organizationId, quantity, idempotencyKey: reservation.id, properties: reservation.properties }
  const subject = { asked: { ...asked, verb: 'settle' as const }, meter, book }
  const answer = session.store(subject, { occurredAt: ledger.state.now, draws, counted, reservationId: reservation.id })
  const settlement = { settledEventId: answer.eventId, settledRecordedAt: session.input.recordedAt }
  session.closeReservation(reservation, { status: 'settled', ...settlement })
  return answer
}

/** Gives back what is held. Releasing again, or what has ended by itself, changes nothing. */
export function release(session: DecisionSession, request: ReleaseRequest): UsageAnswer {
  const reservation = session.reservationOf(request.organizationId, request.reservationId)
  if (reservation.status === 'settled') throw closed(reservation, 'settled')
  if (reservation.status === 'open') {
    session.unhold(reservation)
    session.closeReservation(reservation, { status: 'released' })
  }
  const book = session.ledgerOf(request.organizationId).currentBook(reservation.balanceKey)
  const { meter, quantity } = reservation
  const balance = snapshotOf(book, meter)
  return {
    ...unstoredAnswer({ ...request, meter, quantity }, { code: null, balance }),
    reservation: { id: reservation.id, expiresAt: null },
    replayed: reservation.status !== 'open',
  }
}

/** Ends the open reservations whose time is over by their organization's clock. */
export function expireReservations(session: DecisionSession): void {
  for (const reservation of session.input.reservations) {
    if (reservation.status !== 'open' || !session.input.organizations.has(reservation.organizationId)) continue
    if (reservation.expiresAt > session.ledgerOf(reservation.organizationId).state.now) continue
    session.unhold(reservation)
    session.closeReservation(reservation, { status: 'expired' })
  }
}

function heldBy({ holds }: Reservation): Quantity {
  return holds.reduce((sum, { amount, overage }) => sum + amount + overage, 0n)
}

function closed(reservation: Reservation, status: 'settled' | 'released'): DomainError {
  return new DomainError('reservation_closed', `The reservation ${reservation.id} was ${status}.`, { reservation_status: status })
}

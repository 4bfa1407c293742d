import { DomainError } from '../lib/errors.ts'
import { answerOf, reasonOf } from './answers.ts'
import { snapshotOf } from './ledger.ts'
import { differingField } from './repeats.ts'
import { occurredAtOf, refusalOf, sumsOf } from './rules.ts'
import { costOf, giveBack, type DecisionSession } from './session.ts'
import type { CheckRequest, CorrectRequest, RecordRequest, ReserveRequest, UsageAnswer } from './usage.ts'

/** The first answer of a key that was used before; null for a new one. */
export function repeatedAnswer(
  session: DecisionSession,
  request: RecordRequest | ReserveRequest | CorrectRequest,
): UsageAnswer | null {
  const first = session.eventOf(request.organizationId, request.idempotencyKey)
  if (!first) return null
  const field = differingField(first, request)
  if (field) throw keyConflict(request.idempotencyKey, field)
  return answerOf(first, true)
}

export function keyConflict(idempotencyKey: string, field: string): DomainError {
  return new DomainError(
    'idempotency_conflict',
    `The key "${idempotencyKey}" was used before for another request: ${field} differs.`,
    { idempotency_key: idempotencyKey, field },
  )
}

/** Whether a use would be allowed. */
export function check(session: DecisionSession, request: CheckRequest): UsageAnswer {
  const ledger = session.ledgerOf(request.organizationId)
  const meter = session.meterOf(ledger, request.meter)
  const book = ledger.currentBook(meter.balanceKey)
  const use = { ...request, grantId: book.plan.grant.id, occurredAt: ledger.state.now }
  const cost = costOf(meter, session.readings.weigh(meter, use).counted)
  const refusal = refusalOf(ledger, book, meter, cost)
  const balance = snapshotOf(book, meter.key)
  return {
    verb: 'check',
    allowed: refusal === null,
    code: refusal,
    reason: refusal && reasonOf(refusal, balance),
    eventId: null,
    organizationId: request.organizationId,
    meter: meter.key,
    quantity: request.quantity,
    drawn: 0n,
    balance,
    reservation: null,
    replayed: false,
  }
}

/** Consumes, which may be refused, or tracks, which never is. */
export function record(session: DecisionSession, request: RecordRequest): UsageAnswer {
  const ledger = session.ledgerOf(request.organizationId)
  const meter = session.meterOf(ledger, request.meter)
  const occurredAt = occurredAtOf(request.occurredAt, ledger.state.now)
  const tracked = request.verb === 'track'
  // Consuming is about now: only use that has already happened can belong to a period that is over.
  const told = tracked && request.occurredAt !== null
  const book = told ? ledger.bookAt(meter.balanceKey, occurredAt) : ledger.currentBook(meter.balanceKey)
  const weight = session.readings.weigh(meter, { ...request, grantId: book.plan.grant.id, occurredAt })
  const cost = costOf(meter, weight.counted)
  const refusal = tracked ? null : refusalOf(ledger, book, meter, cost)
  const draws = refusal ? [] : cost < 0n ? giveBack(ledger, weight.drawn, -cost) : book.draw(meter.key, cost)
  if (!refusal) weight.remember(draws)
  return session.store({
    ...session.eventBase(request, meter, book),
    occurredAt,
    dated: request.occurredAt !== null,
    counted: refusal ? 0n : weight.counted,
    ...sumsOf(draws),
    refusal,
  })
}

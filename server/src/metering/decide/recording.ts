import { DomainError } from '../../lib/errors.ts'
import type { CheckRequest, CorrectRequest, RecordRequest, ReserveRequest, UsageAnswer } from '../usage.ts'
import { answerOf, takenBackAnswer, unstoredAnswer, type Unstored } from './answers.ts'
import { snapshotOf } from './ledger.ts'
import { isAdditive } from './readings.ts'
import { differingField } from './repeats.ts'
import { occurredAtOf, refusalOf, spendingOf } from './rules.ts'
import { costOfChange, drawOrGiveBack, requireRoom, type DecisionSession } from './session.ts'
import type { PacedUse } from './windows.ts'

/**
 * The first answer of a key that was used before; null for a new one. What a `consume` permitted it permits no more once it was taken back: else
 * a repeat would use for nothing.
 */
export function repeatedAnswer(
  session: DecisionSession,
  request: RecordRequest | ReserveRequest | CorrectRequest,
): UsageAnswer | null {
  const first = session.eventOf(request.organizationId, request.idempotencyKey)
  if (!first) return null
  const field = differingField(first, request, request.verb === 'correct' ? session.correctedEventOf(request) : undefined)
  if (field) throw keyConflict(request.idempotencyKey, field)
  return request.verb === 'consume' && session.isTakenBack(first) ? takenBackAnswer(first) : answerOf(first, true)
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
  const { counted, before } = session.readings.weigh(meter, use)
  const cost = costOfChange(meter, counted, before)
  requireRoom(book, cost)
  const refusal = refusalOf(ledger, book, meter, cost)
  return unstoredAnswer(request, {
    code: refusal,
    balance: snapshotOf(book, meter.key),
    spending: refusal === 'spend_limit_reached' ? spendingOf(ledger, book) : null,
    ...(refusal === null ? paceOf(session, session.pacedUse(ledger, meter, counted)) : {}),
  })
}

const IN_TIME = { code: null }

/** Whether a use comes too fast, and for how long; one that is larger than the limit itself is told no time to come again. */
export function paceOf(
  { windows }: DecisionSession,
  use: PacedUse | null,
): Pick<Unstored, 'code' | 'retryAfterMs' | 'tooLargeFor'> {
  if (use === null) return IN_TIME
  const waitMs = windows.waitMs(use)
  if (waitMs === null) return { code: 'rate_limited', tooLargeFor: use.limit }
  return waitMs === 0 ? IN_TIME : { code: 'rate_limited', retryAfterMs: waitMs }
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
  const cost = costOfChange(meter, weight.counted, weight.before)
  requireRoom(book, cost)
  const refusal = tracked ? null : refusalOf(ledger, book, meter, cost)
  const paced = session.pacedUse(ledger, meter, weight.counted)
  const pace = paceOf(session, tracked || refusal !== null ? null : paced)
  if (pace.code !== null) return unstoredAnswer(request, { ...pace, balance: snapshotOf(book, meter.key) })
  const isFree = told && ledger.isFreeAt(meter.balanceKey, occurredAt)
  // What a level came to under two plans has no order in which it was used.
  const lineId = told && isAdditive(meter) ? ledger.changedLineAt(book, meter.key, occurredAt) : null
  const drawing = { book, meter, cost, drawn: weight.before.drawn, isFree, lineId }
  const draws = refusal ? [] : drawOrGiveBack(ledger, drawing)
  if (!refusal) {
    weight.remember(draws)
    if (paced) session.windows.add(paced, tracked ? occurredAt : ledger.state.now)
  }
  return session.store(
    { asked: request, meter, book },
    {
      occurredAt,
      dated: request.occurredAt !== null,
      late: told ? (lineId === null ? ledger.lateUseAt(book, occurredAt) : 'closed') : null,
      counted: refusal ? 0n : weight.counted,
      draws,
      refusal,
    },
  )
}

import { DomainError } from '../../lib/errors.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { CorrectedEvent, CorrectRequest, UsageAnswer, UsageEvent } from '../usage.ts'
import { mergeDraws } from './draws.ts'
import { eventKey } from './decision.ts'
import { isAdditive, isCounted } from './readings.ts'
import { retractLevel } from './retracting.ts'
import { costOfChange, drawOrGiveBack, requireRoom, type DecisionSession } from './session.ts'

/**
 * Corrects an event that was recorded: adds to what it counts, or takes from it, down to nothing, or takes it back whole. The
 * correction counts in the hour and the period of what it corrects, and gives back to the grants that it was drawn from.
 */
export function correct(session: DecisionSession, request: CorrectRequest): UsageAnswer {
  const ledger = session.ledgerOf(request.organizationId)
  const target = targetOf(session, request)
  const { event } = target
  const meter = session.meterOf(ledger, event.meter)
  if (target.retracted) {
    throw new DomainError('invalid_request', 'That use was taken back: tell what is right anew.', { field: 'corrects' })
  }
  if (!isCounted(meter, event.properties)) throw notCounted(request.corrects)
  if (!isAdditive(meter)) {
    if (request.quantity === null) return retractLevel(session, request, { target, meter })
    throw new DomainError(
      'invalid_request',
      `The meter "${meter.key}" does not add up its uses: take the mistaken one back with \`retract\`, and tell what is right anew.`,
      { field: 'quantity' },
    )
  }
  if (meter.aggregation === 'count' && request.quantity !== null && request.quantity % MICRO !== 0n) {
    throw new DomainError('invalid_quantity', `The meter "${meter.key}" counts uses, which are whole.`, { field: 'quantity' })
  }
  const change = request.quantity ?? -target.counted
  const counted = target.counted + change
  if (counted < 0n) {
    throw new DomainError('invalid_quantity', 'A correction cannot take away more than is counted.', { field: 'quantity' })
  }
  const cost = costOfChange(meter, change, { counted: target.counted, drawn: target.draws })
  const book = ledger.bookOf(event)
  requireRoom(book, cost)
  const isFree = ledger.isFreeAt(meter.balanceKey, event.occurredAt)
  const lineId = ledger.changedLineAt(book, meter.key, event.occurredAt)
  const isTold = lineId !== null && (change > 0n || ledger.late.toldOf(book.plan.grant.id, lineId) > 0n)
  const draws = drawOrGiveBack(ledger, { book, meter, cost, drawn: target.draws, isFree, lineId })
  const retracted = request.quantity === null
  session.keepCorrection({ event, counted, draws: mergeDraws([...target.draws, ...draws]), retracted })
  const verb = retracted ? ('retract' as const) : request.verb
  const asked = { ...request, verb, quantity: change, properties: request.properties ?? event.properties }
  return session.store(
    { asked, meter, book },
    {
      occurredAt: event.occurredAt,
      late: isTold ? (change < 0n ? 'credited' : 'closed') : ledger.correctionAt(book, event.occurredAt, change),
      counted: change,
      draws,
      corrects: request.corrects,
    },
  )
}

/** What is to be corrected, as it counts now: as it was recorded, less what was corrected of it before. */
function targetOf(session: DecisionSession, request: CorrectRequest): CorrectedEvent {
  const { organizationId, corrects } = request
  const event = session.correctedEventOf(request)
  const target =
    session.corrected.get(eventKey(organizationId, corrects)) ??
    (event && { event, counted: event.counted, draws: event.draws, retracted: false })
  if (target === undefined) throw notCounted(corrects)
  const why = whyNot(target.event)
  if (why !== null) throw new DomainError('not_found', why, { field: 'corrects' })
  return target
}

/** Why an event is nothing that can be corrected; null where it is. */
function whyNot({ idempotencyKey: key, verb, refusal, corrects }: UsageEvent): string | null {
  if (refusal !== null) return `What was asked under the key "${key}" was refused (${refusal}): nothing of it is counted.`
  switch (verb) {
    case 'correct':
    case 'retract':
      return `"${key}" is the key of a correction itself, which is not corrected: correct the use "${corrects}" once more.`
    case 'reserve':
      return `"${key}" is the key of a reservation: settle or release that; what it was settled with is corrected by the reservation’s id.`
    case 'track':
    case 'consume':
    case 'settle':
      return null
  }
}

function notCounted(key: string): DomainError {
  return new DomainError('not_found', `No use was counted under the key "${key}", or it is older than keys are kept.`, {
    field: 'corrects',
  })
}

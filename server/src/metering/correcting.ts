import { DomainError } from '../lib/errors.ts'
import { eventKey } from './decision.ts'
import { isAdditive, isCounted } from './readings.ts'
import { mergeDraws } from './rules.ts'
import { costOf, drawOrGiveBack, type DecisionSession } from './session.ts'
import type { CorrectedEvent, CorrectRequest, UsageAnswer, UsageEvent } from './usage.ts'

/**
 * Corrects an event that was recorded: adds to what it counts, or takes from it, down to nothing. The correction counts in the
 * hour and the period of what it corrects, and gives back to the grants that it was drawn from.
 */
export function correct(session: DecisionSession, request: CorrectRequest): UsageAnswer {
  const { organizationId } = request
  const ledger = session.ledgerOf(organizationId)
  const target = targetOf(session, request)
  const { event } = target
  const meter = session.meterOf(ledger, event.meter)
  if (!isAdditive(meter)) {
    throw new DomainError(
      'invalid_request',
      meter.aggregation === 'latest'
        ? `The meter "${meter.key}" keeps the latest value: tell what is right now instead.`
        : `The meter "${meter.key}" does not add up its uses, so none can be corrected.`,
      {
        field: 'corrects',
      },
    )
  }
  if (!isCounted(meter, event.properties)) throw notCounted(request.corrects)
  const counted = target.counted + request.quantity
  if (counted < 0n) {
    throw new DomainError('invalid_quantity', 'A correction cannot take away more than is counted.', { field: 'quantity' })
  }
  const cost = costOf(meter, request.quantity)
  const book = ledger.bookOf(event)
  const isFree = ledger.isFreeAt(meter.balanceKey, event.occurredAt)
  const draws = drawOrGiveBack(ledger, { book, meter, cost, drawn: target.draws, isFree })
  session.keepCorrection({ event, counted, draws: mergeDraws([...target.draws, ...draws]) })
  const asked = { ...request, properties: request.properties ?? event.properties }
  return session.store(
    { asked, meter, book },
    {
      occurredAt: event.occurredAt,
      late: ledger.lateUseAt(book, event.occurredAt),
      counted: request.quantity,
      draws,
      corrects: request.corrects,
    },
  )
}

/** What is to be corrected, as it counts now: as it was recorded, less what was corrected of it before. */
function targetOf(session: DecisionSession, { organizationId, corrects }: CorrectRequest): CorrectedEvent {
  const event = session.eventOf(organizationId, corrects)
  const target =
    session.corrected.get(eventKey(organizationId, corrects)) ?? (event && { event, counted: event.counted, draws: event.draws })
  if (target && target.event.refusal === null && CORRECTABLE.has(target.event.verb)) return target
  throw notCounted(corrects)
}

function notCounted(key: string): DomainError {
  return new DomainError('not_found', `No use was counted under the key "${key}", or it is older than keys are kept.`, {
    field: 'corrects',
  })
}

const CORRECTABLE: ReadonlySet<UsageEvent['verb']> = new Set(['track', 'consume', 'settle'])

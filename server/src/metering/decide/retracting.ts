import type { Meter } from '../../catalog/catalog.ts'
import { DomainError } from '../../lib/errors.ts'
import { MICRO, type Quantity } from '../../lib/quantity.ts'
import type { CorrectedEvent, CorrectRequest, UsageAnswer, UsageEvent } from '../usage.ts'
import { mergeDraws } from './draws.ts'
import { eventKey } from './decision.ts'
import { propertyOf, textOfValue } from './property-values.ts'
import { isCounted, type Counted, type MeterReading } from './readings.ts'
import { costOfChange, drawOrGiveBack, type DecisionSession } from './session.ts'

/**
 * Takes a use of a level back, or one of a value: what the meter has come to in that period is then as though it had never been told,
 * worked out from the other uses of the period. It counts in the hour and the period of what is taken back.
 */
export function retractLevel(
  session: DecisionSession,
  request: CorrectRequest,
  { target, meter }: { readonly target: CorrectedEvent; readonly meter: Meter },
): UsageAnswer {
  const { event } = target
  if (session.events.includes(event)) {
    throw new DomainError('conflict', 'A use is taken back once it was answered, not in the same batch.', { field: 'corrects' })
  }
  const ledger = session.ledgerOf(request.organizationId)
  const book = ledger.bookOf(event)
  const isFree = ledger.isFreeAt(meter.balanceKey, event.occurredAt)
  // What a level draws is kept with its reading, what a value draws with the use that it was counted by.
  const left = meter.aggregation === 'unique' ? target : { event, counted: 0n, draws: [] }
  session.keepCorrection({ ...left, retracted: true })
  const uses = usesOfReading(session, meter, event)
  const { counted, before, remember } =
    meter.aggregation === 'unique'
      ? withoutValue(session, meter, { target, uses })
      : withoutReading(session, meter, { event, uses })
  const { drawn } = before
  const draws = drawOrGiveBack(ledger, { book, meter, cost: costOfChange(meter, counted, before), drawn, isFree })
  remember(mergeDraws([...drawn, ...draws]).filter(({ amount, overage }) => amount !== 0n || overage !== 0n))
  return session.store(
    {
      asked: { ...request, verb: 'retract', quantity: counted, properties: request.properties ?? event.properties },
      meter,
      book,
    },
    {
      occurredAt: event.occurredAt,
      late: ledger.correctionAt(book, event.occurredAt, counted),
      counted,
      draws,
      corrects: request.corrects,
    },
  )
}

type Left = {
  /** What the meter's figure changes by. */
  readonly counted: Quantity
  readonly before: Counted
  readonly remember: (draws: UsageEvent['draws']) => void
}

/** The uses that the reading of an event's period is made of, as they stand, in the order in which they were recorded. */
function usesOfReading(session: DecisionSession, meter: Meter, { organizationId, after }: UsageEvent): readonly CorrectedEvent[] {
  const uses = new Map<string, CorrectedEvent>()
  const add = (use: CorrectedEvent): void => {
    const { event } = use
    const isOwn = event.organizationId === organizationId && event.meter === meter.key
    if (!isOwn || event.after.planGrantId !== after.planGrantId || !isUseOf(meter, event)) return
    uses.set(eventKey(organizationId, event.idempotencyKey), use)
  }
  for (const use of session.input.rivals) add(use)
  for (const event of session.events) add({ event, counted: event.counted, draws: event.draws, retracted: false })
  for (const use of session.corrected.values()) add(use)
  return [...uses.values()].toSorted((a, b) => compareRecorded(a.event, b.event))
}

function isUseOf(meter: Meter, { verb, refusal, properties }: UsageEvent): boolean {
  return refusal === null && (verb === 'track' || verb === 'consume') && isCounted(meter, properties)
}

function compareRecorded(a: UsageEvent, b: UsageEvent): number {
  return a.recordedAt.getTime() - b.recordedAt.getTime() || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

/** A level without one of its uses: the largest, or the last, of the others. */
function withoutReading(
  { readings }: DecisionSession,
  meter: Meter,
  { event, uses }: { readonly event: UsageEvent; readonly uses: readonly CorrectedEvent[] },
): Left {
  const name = { organizationId: event.organizationId, grantId: event.after.planGrantId, meter: meter.key }
  const before = readings.of(name)
  const left = uses.filter(({ retracted }) => !retracted).map((use) => use.event)
  const last = bestOf(left, (one, chosen) => one.occurredAt >= chosen.occurredAt) ?? NO_USE
  const best = meter.aggregation === 'latest' ? last : (bestOf(left, (one, chosen) => one.quantity > chosen.quantity) ?? NO_USE)
  const { quantity, occurredAt } = best
  const level = { level: last.quantity, levelAt: last.occurredAt, levelProperties: last.properties }
  return {
    counted: quantity - (before?.quantity ?? 0n),
    before: { counted: before?.quantity ?? 0n, drawn: before?.draws ?? [] },
    remember: (draws) => readings.put({ ...name, quantity, occurredAt, draws, ...level } satisfies MeterReading),
  }
}

/** Without any use left, whatever is told next counts. */
const NO_USE: Pick<UsageEvent, 'quantity' | 'occurredAt' | 'properties'> = {
  quantity: 0n,
  occurredAt: new Date(0),
  properties: null,
}

function bestOf(uses: readonly UsageEvent[], isBetter: (one: UsageEvent, chosen: UsageEvent) => boolean): UsageEvent | null {
  return uses.reduce<UsageEvent | null>((chosen, one) => (chosen === null || isBetter(one, chosen) ? one : chosen), null)
}

/** A value without one of its uses: it counts as long as another use has it. What it drew is with the use that it was counted by. */
function withoutValue(
  session: DecisionSession,
  meter: Meter,
  { target, uses }: { readonly target: CorrectedEvent; readonly uses: readonly CorrectedEvent[] },
): Left {
  const valueOf = ({ properties }: UsageEvent): string => textOfValue(propertyOf(properties, meter.uniqueBy ?? '') ?? '')
  const value = valueOf(target.event)
  const same = uses.filter(({ event }) => valueOf(event) === value)
  const counting = same.find(({ counted }) => counted > 0n)
  if (counting === undefined || same.some(({ retracted }) => !retracted))
    return { counted: 0n, before: { counted: 0n, drawn: [] }, remember: () => undefined }
  const { organizationId, after } = target.event
  return {
    counted: -MICRO,
    before: { counted: MICRO, drawn: counting.draws },
    remember: (draws) => {
      session.keepCorrection({ ...counting, counted: 0n, draws })
      session.readings.forget({ organizationId, grantId: after.planGrantId, meter: meter.key, value })
    },
  }
}

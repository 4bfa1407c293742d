import type { Meter } from '../../catalog/catalog.ts'
import type { NewEvent } from '../../events/types.ts'
import type { BalanceBook } from '../../grants/book.ts'
import { meterOf, rateLimitOf, type Draw, type GrantChange } from '../../grants/rules.ts'
import { thresholdsReached } from '../../grants/thresholds.ts'
import { DomainError } from '../../lib/errors.ts'
import { formatQuantity, MAX_QUANTITY, multiplyQuantities, type Quantity } from '../../lib/quantity.ts'
import type { CorrectedEvent, CorrectRequest, Reservation, UsageAnswer, UsageEvent } from '../usage.ts'
import { mergeDraws } from './draws.ts'
import { answerOf } from './answers.ts'
import { eventKey, nameOf, settlementName, type DecisionInput } from './decision.ts'
import { drawTold, giveBackTold, type LateChange } from './late-book.ts'
import { OrganizationLedger, snapshotOf, type LowBalance } from './ledger.ts'
import { Readings, type Counted } from './readings.ts'
import type { RollupTerms } from './rollups.ts'
import { spendingOf, sumsOf, type HeldLine } from './rules.ts'
import { RateWindows, type PacedUse } from './windows.ts'

/** What an event is about. */
export type EventSubject = {
  readonly asked: Pick<UsageEvent, 'organizationId' | 'verb' | 'idempotencyKey' | 'quantity' | 'properties'>
  readonly meter: Meter
  /** The balance as it is once the event is counted. */
  readonly book: BalanceBook
}

/** What was decided of it: what it draws, and what is not as it usually is. */
export type EventFacts = Pick<UsageEvent, 'occurredAt' | 'draws'> &
  Partial<Pick<UsageEvent, 'dated' | 'late' | 'counted' | 'refusal' | 'reservationId' | 'heldUntil' | 'corrects'>>

/** What the requests of one decision share while it is made: the books, what was decided so far, what is to be written. */
export class DecisionSession {
  readonly input: DecisionInput
  readonly readings: Readings
  readonly windows: RateWindows
  readonly events: UsageEvent[] = []
  readonly corrected: Map<string, CorrectedEvent>
  readonly corrections = new Map<string, CorrectedEvent>()
  readonly #ledgers = new Map<string, OrganizationLedger>()
  /** The events of this decision by organization and key: names made of both would cost as much as the look-up itself. */
  readonly #stored = new Map<string, Map<string, UsageEvent>>()
  readonly #reservations = new Map<string, Reservation>()
  readonly #made: string[] = []
  readonly #closed = new Set<string>()

  constructor(input: DecisionInput) {
    this.input = input
    this.readings = new Readings(input.readings, input.values)
    this.windows = new RateWindows(input.windows)
    this.corrected = new Map(input.corrected)
    for (const reservation of input.reservations) this.#reservations.set(reservation.id, reservation)
  }

  /** @throws DomainError `not_found` */
  ledgerOf(organizationId: string): OrganizationLedger {
    let ledger = this.#ledgers.get(organizationId)
    if (!ledger) {
      const state = this.input.organizations.get(organizationId)
      if (!state)
        throw new DomainError('not_found', `There is no organization ${organizationId}.`, { organization_id: organizationId })
      ledger = new OrganizationLedger(state)
      this.#ledgers.set(organizationId, ledger)
    }
    return ledger
  }

  /** @throws DomainError `unknown_meter` */
  meterOf(ledger: OrganizationLedger, meterKey: string): Meter {
    const meter = meterOf(ledger.state.terms, meterKey)
    if (!meter) throw new DomainError('unknown_meter', `No meter is called "${meterKey}".`, { meter: meterKey })
    return meter
  }

  /** A use of a meter whose pace the plan limits; null where it does not. */
  pacedUse(ledger: OrganizationLedger, meter: Meter, quantity: Quantity): PacedUse | null {
    const { organizationId, now, terms } = ledger.state
    const limit = rateLimitOf(terms, meter.key)
    return limit && { organizationId, meter: meter.key, limit, quantity, now }
  }

  /** The event of a name (`nameOf`), from before or earlier in this decision. */
  eventOf(organizationId: string, name: string): UsageEvent | undefined {
    const stored = this.#stored.get(organizationId)?.get(name)
    if (stored || this.input.known.size === 0) return stored
    return this.input.known.get(eventKey(organizationId, name))
  }

  /** What a correction names, as it was recorded: a use by its key, or a settlement by its reservation. */
  correctedEventOf({ organizationId, corrects }: CorrectRequest): UsageEvent | undefined {
    return (
      this.eventOf(organizationId, corrects) ??
      this.eventOf(organizationId, settlementName(corrects)) ??
      this.corrected.get(eventKey(organizationId, corrects))?.event
    )
  }

  /** @throws DomainError `not_found`, also for a reservation of another organization */
  reservationOf(organizationId: string, reservationId: string): Reservation {
    const reservation = this.#reservations.get(reservationId)
    if (reservation?.organizationId === organizationId) return reservation
    throw new DomainError('not_found', `There is no reservation ${reservationId}.`, { reservation_id: reservationId })
  }

  addReservation(reservation: Reservation): void {
    this.#made.push(reservation.id)
    this.#reservations.set(reservation.id, reservation)
  }

  closeReservation(reservation: Reservation, closing: Partial<Reservation> & Pick<Reservation, 'status'>): void {
    const closedAt = this.ledgerOf(reservation.organizationId).state.now
    this.#reservations.set(reservation.id, { ...reservation, ...closing, closedAt })
    this.#closed.add(reservation.id)
  }

  /** Gives back what a reservation holds; answers the lines with the amounts that were held on them. */
  unhold(reservation: Reservation): HeldLine[] {
    const ledger = this.ledgerOf(reservation.organizationId)
    return reservation.holds.map((hold) => ({ line: ledger.giveBackHold(hold), amount: hold.amount }))
  }

  /** Keeps an event to be written, and answers as it will be answered again. */
  store(subject: EventSubject, facts: EventFacts): UsageAnswer {
    const event = this.newEvent(subject, facts)
    const stored = this.#stored.get(event.organizationId)
    if (stored) stored.set(nameOf(event), event)
    else this.#stored.set(event.organizationId, new Map([[nameOf(event), event]]))
    this.events.push(event)
    return answerOf(event, false)
  }

  /** Written out as one object: put together from parts, it cost half a microsecond more for each use. */
  newEvent({ asked, meter, book }: EventSubject, facts: EventFacts): UsageEvent {
    const { drawn, overage } = sumsOf(facts.draws)
    return {
      organizationId: asked.organizationId,
      id: this.input.newEventId(),
      recordedAt: this.input.recordedAt,
      verb: asked.verb,
      idempotencyKey: asked.idempotencyKey,
      meter: meter.key,
      quantity: asked.quantity,
      occurredAt: facts.occurredAt,
      dated: facts.dated ?? false,
      late: facts.late ?? null,
      properties: asked.properties,
      counted: facts.counted ?? 0n,
      drawn,
      overage,
      draws: facts.draws,
      refusal: facts.refusal ?? null,
      spending: facts.refusal === 'spend_limit_reached' ? spendingOf(this.ledgerOf(asked.organizationId), book) : null,
      reservationId: facts.reservationId ?? null,
      heldUntil: facts.heldUntil ?? null,
      corrects: facts.corrects ?? null,
      after: snapshotOf(book, meter.key),
    }
  }

  /** Whether a use that was found by its key was taken back whole, before or in this decision. */
  isTakenBack({ organizationId, idempotencyKey }: UsageEvent): boolean {
    const name = eventKey(organizationId, idempotencyKey)
    return this.input.takenBack.has(name) || this.corrected.get(name)?.retracted === true
  }

  keepCorrection(correction: CorrectedEvent): void {
    const name = eventKey(correction.event.organizationId, correction.event.idempotencyKey)
    this.corrected.set(name, correction)
    this.corrections.set(name, correction)
  }

  /** What is summed up of the events, and how. */
  get rollupTerms(): RollupTerms {
    return {
      meterOf: ({ organizationId, meter }) => this.meterOf(this.ledgerOf(organizationId), meter),
      timeZoneOf: (organizationId) => this.ledgerOf(organizationId).state.terms.timeZone,
      propertiesOf: ({ organizationId, corrects, properties }) =>
        corrects === null ? properties : (this.corrected.get(eventKey(organizationId, corrects))?.event.properties ?? null),
    }
  }

  /** What use has reached that somebody wants to know. */
  get notices(): NewEvent[] {
    const notices: NewEvent[] = []
    for (const ledger of this.#ledgers.values()) {
      for (const { line, plan } of ledger.changedPlans()) {
        const { grant } = line
        const { now, terms } = ledger.state
        const { catalog } = terms
        const change = { grant, plan, catalog, before: grant.used + grant.overage, after: line.used + line.overage }
        for (const notice of thresholdsReached(change, now)) notices.push(notice)
      }
    }
    return notices
  }

  get lowBalances(): LowBalance[] {
    const balances: LowBalance[] = []
    for (const ledger of this.#ledgers.values()) {
      if (ledger.state.lowMarks) balances.push(...ledger.lowBalances())
    }
    return balances
  }

  get newReservations(): Reservation[] {
    return this.#made.map((id) => this.#reservations.get(id)!)
  }

  get closedReservations(): Reservation[] {
    const made = new Set(this.#made)
    return [...this.#closed].filter((id) => !made.has(id)).map((id) => this.#reservations.get(id)!)
  }

  /** What is told late of lines that changes of plan have ended. */
  get lateChanges(): (LateChange & { readonly organizationId: string })[] {
    const changes: (LateChange & { readonly organizationId: string })[] = []
    for (const [organizationId, ledger] of this.#ledgers) {
      if (ledger.state.past === undefined) continue
      for (const change of ledger.lateChanges) changes.push({ ...change, organizationId })
    }
    return changes
  }

  get grantChanges(): GrantChange[] {
    const changes: GrantChange[] = []
    for (const [organizationId, ledger] of this.#ledgers) {
      for (const line of ledger.changedLines()) {
        const { grant, amount, used, overage, reserved, heldOverage, freeUsed, freeOverage, usedElsewhere } = line
        changes.push({
          organizationId,
          id: grant.id,
          used: used - grant.used,
          overage: overage - grant.overage,
          reserved: reserved - grant.reserved,
          heldOverage: heldOverage - grant.heldOverage,
          freeUsed: freeUsed - grant.freeUsed,
          freeOverage: freeOverage - grant.freeOverage,
          usedElsewhere: usedElsewhere - grant.usedElsewhere,
          amount: amount === null || grant.amount === null ? 0n : amount - grant.amount,
        })
      }
    }
    return changes
  }
}

/** The most that one use may be, and may take from its balance: a thousandth of what a sum of uses can be. */
export const LARGEST_USE: Quantity = MAX_QUANTITY / 1_000n

/** @throws DomainError `invalid_quantity` for more than one use may be */
export function requireLargest(quantity: Quantity): void {
  if (quantity > LARGEST_USE) throw tooMuch(`One use is at most ${formatQuantity(LARGEST_USE)}.`)
}

/**
 * What a quantity of a meter takes from its balance.
 * @throws DomainError `invalid_quantity` when the product is not exact, or larger than one use may be
 */
export function costOf(meter: Meter, counted: Quantity): Quantity {
  requireLargest(counted)
  const cost = multiplyQuantities(counted, meter.cost)
  if (cost <= LARGEST_USE) return cost
  const taken = `${formatQuantity(cost)} from ${meter.balanceKey}`
  throw tooMuch(`One use takes at most ${formatQuantity(LARGEST_USE)} from its balance, and this one takes ${taken}.`)
}

/**
 * What counting more or less of something costs. More costs what the meter says now; less gives back that part of what the whole drew,
 * whatever it would cost by now, so that taking back all of a use gives back all that it took.
 */
export function costOfChange(meter: Meter, change: Quantity, before: Counted): Quantity {
  return change < 0n ? (sumsOf(before.drawn).drawn * change) / before.counted : costOf(meter, change)
}

/**
 * Holds a balance to what its counters can store, before anything of it is changed.
 * @throws DomainError `invalid_quantity`
 */
export function requireRoom(book: BalanceBook, cost: Quantity): void {
  if (book.counted + cost <= MAX_QUANTITY) return
  const { balanceKey } = book.plan.grant
  throw tooMuch(`In one period at most ${formatQuantity(MAX_QUANTITY)} can be counted of ${balanceKey}; this use does not fit.`)
}

/** A sum that the database has no room for, such as that of a meter in an hour, tells the same. */
export function tooMuch(detail = 'The use does not fit into what can be counted of its meter.', cause?: unknown): DomainError {
  return new DomainError('invalid_quantity', detail, { field: 'quantity' }, { cause })
}

type Drawing = {
  readonly book: BalanceBook
  readonly meter: Meter
  /** Below zero it is given back. */
  readonly cost: Quantity
  /** What it may be given back to. */
  readonly drawn: readonly Draw[]
  /** Whether it is use of a time that nothing billed. */
  readonly isFree: boolean
  /** The line of its time, where a change has ended that. */
  readonly lineId?: string | null
}

/** Takes what a use costs, or gives it back where a level has fallen or a use is corrected. */
export function drawOrGiveBack(ledger: OrganizationLedger, drawing: Drawing): Draw[] {
  const { book, meter, cost, drawn, isFree, lineId = null } = drawing
  if (lineId !== null && cost > 0n) return drawTold(ledger.late, { book, meter: meter.key, lineId, cost })
  if (lineId !== null && cost < 0n) return giveBackLate(ledger, { ...drawing, lineId })
  if (cost < 0n) return giveBack(ledger, { book, drawn, cost: -cost, isFree })
  const draws = book.draw(meter.key, cost)
  if (isFree) ledger.addFree(draws)
  return draws
}

/** Of use of a line that has ended, what was told late of it is given back first: it was billed last. */
function giveBackLate(
  ledger: OrganizationLedger,
  { book, meter, cost, drawn, isFree, lineId }: Drawing & { lineId: string },
): Draw[] {
  const told = ledger.late.toldOf(book.plan.grant.id, lineId)
  const quantity = told < -cost ? told : -cost
  if (quantity === 0n) return giveBack(ledger, { book, drawn, cost: -cost, isFree })
  const lineOf = (grantId: string) => ledger.lineOf(grantId)
  const given = giveBackTold(ledger.late, { book, meter: meter.key, lineId, quantity, drawn, lineOf })
  const rest = giveBack(ledger, { book, drawn: mergeDraws([...drawn, ...given]), cost: -cost - quantity, isFree })
  return mergeDraws([...given, ...rest])
}

/** What is given back, and whether it was used in a time that nothing billed. */
type GivingBack = {
  readonly book: BalanceBook
  readonly drawn: readonly Draw[]
  readonly cost: Quantity
  readonly isFree: boolean
}

/** Gives back a part of what was drawn, the last first. Answers draws below zero. */
function giveBack(ledger: OrganizationLedger, { book, drawn, cost, isFree }: GivingBack): Draw[] {
  let left = cost
  const given: Draw[] = []
  for (const { grantId, amount, overage } of drawn.toReversed()) {
    const most = amount + overage
    const back = left < most ? left : most
    if (back <= 0n) continue
    const line = ledger.lineOf(grantId)
    const fromOverage = line.giveBack(back, isFree)
    book.countElsewhere(line, fromOverage - back)
    left -= back
    given.push({ grantId, amount: fromOverage - back, overage: -fromOverage })
  }
  return given
}

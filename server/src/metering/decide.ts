import type { Meter } from '../catalog/catalog.ts'
import type { BalanceBook } from '../grants/book.ts'
import { meterOf, planGrantOf, type GrantChange, type PlanGrant, type PlanTerms } from '../grants/rules.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { MAX_QUANTITY, multiplyQuantities, type Quantity } from '../lib/quantity.ts'
import { answerOf, reasonOf } from './answers.ts'
import { OrganizationLedger, snapshotOf, type OrganizationState } from './ledger.ts'
import { differingField } from './repeats.ts'
import {
  countedBy,
  hourlyChangesOf,
  mergeDraws,
  occurredAtOf,
  refusalOf,
  sumsOf,
  takeFrom,
  type HeldLine,
  type HourlyChange,
} from './rules.ts'
import type {
  CheckRequest,
  RecordRequest,
  ReleaseRequest,
  Reservation,
  ReserveRequest,
  SettleRequest,
  UsageAnswer,
  UsageEvent,
  UsageRequest,
} from './usage.ts'

/** Everything that a decision depends on, read under the locks of the organizations concerned. */
export type DecisionInput = {
  readonly requests: readonly UsageRequest[]
  readonly organizations: ReadonlyMap<string, OrganizationState>
  /** The events of keys that were used before, by `eventKey`. */
  readonly known: ReadonlyMap<string, UsageEvent>
  /** The reservations that are settled or released here, and those whose time is over. */
  readonly reservations: readonly Reservation[]
  readonly recordedAt: Instant
  /** The id of the event that a key is to have. */
  readonly eventIdOf: (organizationId: string, idempotencyKey: string) => string
  readonly newReservationId: () => string
}

/** What came of a request; `error` is what its caller got wrong, or, of a request that failed by itself, what failed. */
export type Outcome =
  | { readonly kind: 'answer'; readonly answer: UsageAnswer }
  | { readonly kind: 'error'; readonly error: Error }

/** What is to be written, and one outcome per request, in order. */
export type Decision = {
  readonly outcomes: readonly Outcome[]
  readonly events: readonly UsageEvent[]
  readonly grantChanges: readonly GrantChange[]
  readonly hourlyChanges: readonly HourlyChange[]
  readonly newReservations: readonly Reservation[]
  readonly closedReservations: readonly Reservation[]
}

/** Names an event within a decision: a key belongs to one organization. */
export function eventKey(organizationId: string, idempotencyKey: string): string {
  return `${organizationId}\n${idempotencyKey}`
}

/**
 * Decides requests in their order, each seeing what the ones before it took. Pure: it only says what is to be written.
 * What a caller got wrong is that request's own error and touches no other.
 */
export function decide(input: DecisionInput): Decision {
  return new Decider(input).run()
}

/** The plan allowances that the meters draw from now; each is opened, or given the plan's present terms, before `decide`. */
export function planGrantsNeeded(terms: PlanTerms, now: Instant, meterKeys: Iterable<string>): PlanGrant[] {
  const needed = new Map<string, PlanGrant>()
  for (const meterKey of meterKeys) {
    const balanceKey = meterOf(terms, meterKey)?.balanceKey
    if (balanceKey !== undefined && !needed.has(balanceKey)) needed.set(balanceKey, planGrantOf(terms, balanceKey, now))
  }
  return [...needed.values()]
}

type Use = { readonly ledger: OrganizationLedger; readonly meter: Meter; readonly cost: Quantity }

class Decider {
  readonly #input: DecisionInput
  readonly #ledgers = new Map<string, OrganizationLedger>()
  readonly #seen: Map<string, UsageEvent>
  readonly #reservations = new Map<string, Reservation>()
  readonly #events: UsageEvent[] = []
  readonly #made: string[] = []
  readonly #closed = new Set<string>()

  constructor(input: DecisionInput) {
    this.#input = input
    this.#seen = new Map(input.known)
    for (const reservation of input.reservations) this.#reservations.set(reservation.id, reservation)
  }

  run(): Decision {
    this.#expireReservations()
    const outcomes = this.#input.requests.map((request) => this.#outcomeOf(request))
    const made = new Set(this.#made)
    return {
      outcomes,
      events: this.#events,
      grantChanges: this.#grantChanges(),
      hourlyChanges: hourlyChangesOf(this.#events),
      newReservations: this.#made.map((id) => this.#reservations.get(id)!),
      closedReservations: [...this.#closed].filter((id) => !made.has(id)).map((id) => this.#reservations.get(id)!),
    }
  }

  #outcomeOf(request: UsageRequest): Outcome {
    try {
      return { kind: 'answer', answer: this.#decideOne(request) }
    } catch (error) {
      if (error instanceof DomainError) return { kind: 'error', error }
      throw error
    }
  }

  #decideOne(request: UsageRequest): UsageAnswer {
    switch (request.verb) {
      case 'check':
        return this.#check(request)
      case 'track':
      case 'consume':
        return this.#repeated(request) ?? this.#record(request)
      case 'reserve':
        return this.#repeated(request) ?? this.#reserve(request)
      case 'settle':
        return this.#settle(request)
      case 'release':
        return this.#release(request)
    }
  }

  #check(request: CheckRequest): UsageAnswer {
    const { ledger, meter, cost } = this.#useOf(request)
    const book = ledger.currentBook(meter.balanceKey)
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

  #record(request: RecordRequest): UsageAnswer {
    const { ledger, meter, cost } = this.#useOf(request)
    const occurredAt = occurredAtOf(request.occurredAt, ledger.state.now)
    const tracked = request.verb === 'track'
    // Consuming is about now: only use that has already happened can belong to a period that is over.
    const told = tracked && request.occurredAt !== null
    const book = told ? ledger.bookAt(meter.balanceKey, occurredAt) : ledger.currentBook(meter.balanceKey)
    const refusal = tracked ? null : refusalOf(ledger, book, meter, cost)
    const draws = refusal ? [] : book.draw(meter.key, cost)
    return this.#store({
      ...this.#eventBase(request, meter, book),
      occurredAt,
      dated: request.occurredAt !== null,
      counted: refusal ? 0n : countedBy(meter, request.quantity),
      ...sumsOf(draws),
      refusal,
    })
  }

  #reserve(request: ReserveRequest): UsageAnswer {
    const { ledger, meter, cost } = this.#useOf(request)
    const book = ledger.currentBook(meter.balanceKey)
    const refusal = refusalOf(ledger, book, meter, cost)
    const { now } = ledger.state
    const reservationId = refusal ? null : this.#input.newReservationId()
    const heldUntil = refusal ? null : new Date(now.getTime() + request.ttlMs)
    const holds = refusal ? [] : book.hold(meter.key, cost)
    if (reservationId && heldUntil) {
      this.#made.push(reservationId)
      this.#reservations.set(reservationId, {
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
    }
    return this.#store({ ...this.#eventBase(request, meter, book), ...sumsOf(holds), refusal, reservationId, heldUntil })
  }

  #settle(request: SettleRequest): UsageAnswer {
    const reservation = this.#reservationOf(request)
    const key = eventKey(request.organizationId, reservation.id)
    const settled = this.#seen.get(key)
    if (settled) {
      if (request.quantity !== null && request.quantity !== settled.quantity) throw conflict(reservation.id, 'quantity')
      return answerOf(settled, true)
    }
    if (reservation.status === 'released') {
      throw new DomainError('reservation_closed', `The reservation ${reservation.id} was released.`, {
        reservation_status: 'released',
      })
    }
    const quantity = request.quantity ?? reservation.quantity
    const asked = { organizationId: request.organizationId, meter: reservation.meter, quantity }
    const { ledger, meter, cost } = this.#useOf(asked)
    const held = reservation.status === 'open' ? this.#unhold(reservation) : []
    const book = ledger.currentBook(meter.balanceKey)
    // The work is done, so nothing is refused here: first from what was held, then from what else there is, then overage.
    const fromHolds = takeFrom(held, cost)
    const left = cost - fromHolds.reduce((sum, draw) => sum + draw.amount, 0n)
    const draws = mergeDraws([...fromHolds, ...(left > 0n ? book.draw(meter.key, left) : [])])
    const event: UsageEvent = {
      ...this.#eventBase(
        { ...asked, verb: 'settle', idempotencyKey: reservation.id, properties: reservation.properties },
        meter,
        book,
      ),
      counted: countedBy(meter, quantity),
      ...sumsOf(draws),
      reservationId: reservation.id,
    }
    this.#close(reservation, { status: 'settled', settledEventId: event.id, settledRecordedAt: event.recordedAt })
    return this.#store(event)
  }

  #release(request: ReleaseRequest): UsageAnswer {
    const reservation = this.#reservationOf(request)
    if (reservation.status === 'settled') {
      throw new DomainError('reservation_closed', `The reservation ${reservation.id} was settled.`, {
        reservation_status: 'settled',
      })
    }
    if (reservation.status === 'open') {
      this.#unhold(reservation)
      this.#close(reservation, { status: 'released' })
    }
    const ledger = this.#ledgerOf(request.organizationId)
    return {
      verb: 'release',
      allowed: true,
      code: null,
      reason: null,
      eventId: null,
      organizationId: request.organizationId,
      meter: reservation.meter,
      quantity: reservation.quantity,
      drawn: 0n,
      balance: snapshotOf(ledger.currentBook(reservation.balanceKey), reservation.meter),
      reservation: { id: reservation.id, expiresAt: null },
      replayed: reservation.status !== 'open',
    }
  }

  #repeated(request: RecordRequest | ReserveRequest): UsageAnswer | null {
    const first = this.#seen.get(eventKey(request.organizationId, request.idempotencyKey))
    if (!first) return null
    const field = differingField(first, request)
    if (field) throw conflict(request.idempotencyKey, field)
    return answerOf(first, true)
  }

  #useOf({ organizationId, meter: meterKey, quantity }: Pick<CheckRequest, 'organizationId' | 'meter' | 'quantity'>): Use {
    const ledger = this.#ledgerOf(organizationId)
    const meter = meterOf(ledger.state.terms, meterKey)
    if (!meter) throw new DomainError('unknown_meter', `No meter is called "${meterKey}".`, { meter: meterKey })
    const cost = multiplyQuantities(countedBy(meter, quantity), meter.cost)
    if (cost > MAX_QUANTITY / 1_000n) {
      // A thousandth of what a counter can hold, so that sums of many uses fit as well.
      throw new DomainError('invalid_quantity', 'quantity is larger than this server can count.', { field: 'quantity' })
    }
    return { ledger, meter, cost }
  }

  #ledgerOf(organizationId: string): OrganizationLedger {
    let ledger = this.#ledgers.get(organizationId)
    if (!ledger) {
      const state = this.#input.organizations.get(organizationId)
      if (!state)
        throw new DomainError('not_found', `There is no organization ${organizationId}.`, { organization_id: organizationId })
      ledger = new OrganizationLedger(state)
      this.#ledgers.set(organizationId, ledger)
    }
    return ledger
  }

  #reservationOf({ organizationId, reservationId }: SettleRequest | ReleaseRequest): Reservation {
    const reservation = this.#reservations.get(reservationId)
    if (reservation?.organizationId === organizationId) return reservation
    throw new DomainError('not_found', `There is no reservation ${reservationId}.`, { reservation_id: reservationId })
  }

  #expireReservations(): void {
    for (const reservation of this.#input.reservations) {
      if (reservation.status !== 'open' || !this.#input.organizations.has(reservation.organizationId)) continue
      if (reservation.expiresAt > this.#ledgerOf(reservation.organizationId).state.now) continue
      this.#unhold(reservation)
      this.#close(reservation, { status: 'expired' })
    }
  }

  /** Gives back what a reservation holds; answers the lines with the amounts that were held on them. */
  #unhold(reservation: Reservation): HeldLine[] {
    const ledger = this.#ledgerOf(reservation.organizationId)
    return reservation.holds.map(({ grantId, amount }) => ({ line: ledger.giveBackHold(grantId, amount), amount }))
  }

  #close(reservation: Reservation, closing: Partial<Reservation> & Pick<Reservation, 'status'>): void {
    const closedAt = this.#ledgerOf(reservation.organizationId).state.now
    this.#reservations.set(reservation.id, { ...reservation, ...closing, closedAt })
    this.#closed.add(reservation.id)
  }

  #eventBase(
    request: Pick<UsageEvent, 'organizationId' | 'verb' | 'idempotencyKey' | 'quantity' | 'properties'>,
    meter: Meter,
    book: BalanceBook,
  ): EventBase {
    return {
      organizationId: request.organizationId,
      id: this.#input.eventIdOf(request.organizationId, request.idempotencyKey),
      recordedAt: this.#input.recordedAt,
      verb: request.verb,
      idempotencyKey: request.idempotencyKey,
      meter: meter.key,
      quantity: request.quantity,
      occurredAt: this.#ledgerOf(request.organizationId).state.now,
      dated: false,
      properties: request.properties,
      counted: 0n,
      refusal: null,
      reservationId: null,
      heldUntil: null,
      corrects: null,
      after: snapshotOf(book, meter.key),
    }
  }

  #store(event: UsageEvent): UsageAnswer {
    this.#seen.set(eventKey(event.organizationId, event.idempotencyKey), event)
    this.#events.push(event)
    return answerOf(event, false)
  }

  #grantChanges(): GrantChange[] {
    const changes: GrantChange[] = []
    for (const [organizationId, ledger] of this.#ledgers) {
      for (const { grant, used, overage, reserved } of ledger.changedLines()) {
        changes.push({
          organizationId,
          id: grant.id,
          used: used - grant.used,
          overage: overage - grant.overage,
          reserved: reserved - grant.reserved,
        })
      }
    }
    return changes
  }
}

type EventBase = Omit<UsageEvent, 'drawn' | 'overage' | 'draws'>

function conflict(idempotencyKey: string, field: string): DomainError {
  return new DomainError(
    'idempotency_conflict',
    `The key "${idempotencyKey}" was used before for another request: ${field} differs.`,
    {
      idempotency_key: idempotencyKey,
      field,
    },
  )
}

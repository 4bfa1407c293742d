import type { NewEvent } from '../../events/types.ts'
import type { GrantChange } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import type { CorrectedEvent, Reservation, UsageAnswer, UsageEvent, UsageRequest } from '../usage.ts'
import type { LateChange } from './late-book.ts'
import type { LowBalance, OrganizationState } from './ledger.ts'
import type { MeterReading, MeterValue } from './readings.ts'
import type { GroupedChange, HourlyChange } from './rollups.ts'
import type { RateWindow } from './windows.ts'

/** Everything that a decision depends on, read under the locks of the organizations concerned. */
export type DecisionInput = {
  readonly requests: readonly UsageRequest[]
  readonly organizations: ReadonlyMap<string, OrganizationState>
  /** The events of keys that were used before, by `eventKey`. */
  readonly known: ReadonlyMap<string, UsageEvent>
  /** Which of them were taken back whole, by `eventKey`. */
  readonly takenBack: ReadonlySet<string>
  /** The events that are corrected here, by the `eventKey` of what they correct. */
  readonly corrected: ReadonlyMap<string, CorrectedEvent>
  /** Other uses that decide what a level comes to without one that is taken back here. */
  readonly rivals: readonly CorrectedEvent[]
  /** The reservations that are settled or released here, and those whose time is over. */
  readonly reservations: readonly Reservation[]
  /** What the meters that do not simply add up have come to. */
  readonly readings: readonly MeterReading[]
  readonly values: readonly MeterValue[]
  /** What was accepted lately of the meters whose pace is limited. */
  readonly windows: readonly RateWindow[]
  readonly recordedAt: Instant
  readonly newEventId: () => string
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
  readonly lateChanges: readonly (LateChange & { readonly organizationId: string })[]
  readonly hourlyChanges: readonly HourlyChange[]
  readonly groupedChanges: readonly GroupedChange[]
  readonly newReservations: readonly Reservation[]
  readonly closedReservations: readonly Reservation[]
  readonly corrections: readonly CorrectedEvent[]
  readonly readings: readonly MeterReading[]
  readonly newValues: readonly MeterValue[]
  readonly goneValues: readonly MeterValue[]
  readonly windows: readonly RateWindow[]
  /** What is told to the outside. */
  readonly notices: readonly NewEvent[]
  readonly lowBalances: readonly LowBalance[]
}

/** A decision's input of which nothing but the requests and organizations is known; for what asks without a past. */
export const NOTHING_KNOWN: Pick<
  DecisionInput,
  'known' | 'takenBack' | 'corrected' | 'rivals' | 'reservations' | 'readings' | 'values' | 'windows'
> = {
  known: new Map(),
  takenBack: new Set(),
  corrected: new Map(),
  rivals: [],
  reservations: [],
  readings: [],
  values: [],
  windows: [],
}

/** What an event is called in its organization: by its key, a settlement by its reservation. */
export function nameOf({ verb, idempotencyKey }: Pick<UsageEvent, 'verb' | 'idempotencyKey'>): string {
  return verb === 'settle' ? settlementName(idempotencyKey) : idempotencyKey
}

/** A key may be anything that can be stored, a reservation's id too; no key holds a NUL. */
export function settlementName(reservationId: string): string {
  return `\u0000${reservationId}`
}

/** Names an event within a decision: a key belongs to one organization. */
export function eventKey(organizationId: string, idempotencyKey: string): string {
  return `${organizationId}\n${idempotencyKey}`
}

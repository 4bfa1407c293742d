import type { AllowancePeriod } from '../catalog/define.ts'
import type { Draw } from '../grants/rules.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'

/** Flat facts about one use, for reports: `{model: 'large', endpoint: '/ask'}`. */
export type UsageProperties = { readonly [name: string]: string | number | boolean }

/** One use as it was asked, checked in form but not yet against any catalog. */
export type MeteredRequest = {
  readonly organizationId: string
  readonly meter: string
  readonly quantity: Quantity
}

/** The properties matter to meters that count different values. */
export type CheckRequest = MeteredRequest & { readonly verb: 'check'; readonly properties: UsageProperties | null }

export type RecordRequest = MeteredRequest & {
  readonly verb: 'track' | 'consume'
  readonly idempotencyKey: string
  /** When it happened, where the caller says so; null is now. */
  readonly occurredAt: Instant | null
  readonly properties: UsageProperties | null
}

export type ReserveRequest = MeteredRequest & {
  readonly verb: 'reserve'
  readonly idempotencyKey: string
  readonly properties: UsageProperties | null
  /** How long the hold lasts when nobody settles it. */
  readonly ttlMs: number
}

export type SettleRequest = {
  readonly verb: 'settle'
  readonly organizationId: string
  readonly reservationId: string
  /** null settles exactly what was reserved. */
  readonly quantity: Quantity | null
}

export type ReleaseRequest = { readonly verb: 'release'; readonly organizationId: string; readonly reservationId: string }

export type CorrectRequest = {
  readonly verb: 'correct'
  readonly organizationId: string
  /** The key of the event to be corrected; of a settlement, the reservation's id. */
  readonly corrects: string
  /** What is added to what the event counts; below zero it is taken away. null takes the use back whole. */
  readonly quantity: Quantity | null
  readonly idempotencyKey: string
  readonly properties: UsageProperties | null
}

/** Every request that the write path decides. */
export type UsageRequest = CheckRequest | RecordRequest | ReserveRequest | SettleRequest | ReleaseRequest | CorrectRequest

export type UsageVerb = UsageRequest['verb']

/** Why a use was refused. A refusal is an answer, never an error. */
export type RefusalCode =
  | 'quota_exceeded'
  | 'spend_limit_reached'
  | 'rate_limited'
  | 'not_included'
  | 'suspended'
  | 'paused'
  | 'taken_back'

/** A balance as one answer sees it: the sum over the grants that counted. */
export type BalanceSnapshot = {
  readonly balanceKey: string
  /** The plan's allowance of the period. */
  readonly planGrantId: string
  readonly planKey: string
  /** Granted in all, less what was revoked; null is unlimited. */
  readonly amount: Quantity | null
  readonly used: Quantity
  readonly overage: Quantity
  readonly reserved: Quantity
  /** amount − used − reserved; null is unlimited. */
  readonly remaining: Quantity | null
  readonly period: AllowancePeriod
  readonly periodStart: Instant
  readonly periodEnd: Instant | null
}

/** What a plan lets the overage of a period cost, and what it costs, in minor units of a currency. */
export type Spending = { readonly currency: string; readonly limitMinor: number; readonly spentMinor: number }

/**
 * What becomes of use that is told late. `open`: the invoice of its period is not closed, and takes it. `closed`: it is, and the next
 * one takes it. `credited`: it is, and what is taken back of it comes back as a credit. `ended`: it is, and there is none after it. `free`: nothing billed the balance at that time.
 */
export type LateUse = 'open' | 'closed' | 'credited' | 'ended' | 'free'

/**
 * A use that was decided, as it is stored: what was asked, what came of it, and the balance after. Nothing else is needed
 * to answer again exactly as the first time. Refusals are stored too.
 */
export type UsageEvent = {
  readonly organizationId: string
  readonly id: string
  /** When this server decided it, by the machine's clock. */
  readonly recordedAt: Instant
  readonly verb: 'track' | 'consume' | 'reserve' | 'settle' | 'correct' | 'retract'
  /** The caller's key; of a settlement, the reservation's id. */
  readonly idempotencyKey: string
  readonly meter: string
  readonly quantity: Quantity
  /** When it happened by the organization's own time. */
  readonly occurredAt: Instant
  /** Whether the caller named `occurredAt`. */
  readonly dated: boolean
  /** Told when what bills its time was over: what becomes of it; null is not late. */
  readonly late: LateUse | null
  readonly properties: UsageProperties | null
  /** What it adds to the meter's quantity of the period; nothing for a refusal or a hold. */
  readonly counted: Quantity
  /** What it took from the balance, overage included; of a reservation, what it holds. */
  readonly drawn: Quantity
  readonly overage: Quantity
  readonly draws: readonly Draw[]
  readonly refusal: RefusalCode | null
  /** Of what was refused for the limit of spending: what was spent of it. */
  readonly spending: Spending | null
  /** The reservation that was made or settled. */
  readonly reservationId: string | null
  /** Of a reservation: when the hold ends by itself. */
  readonly heldUntil: Instant | null
  /** Of a correction: the key of the event that it corrects. */
  readonly corrects: string | null
  readonly after: BalanceSnapshot
}

/** What came of a request. `event` is null where nothing was recorded: a check, a release. */
export type UsageAnswer = {
  readonly verb: UsageVerb
  readonly allowed: boolean
  readonly code: RefusalCode | null
  /** A sentence fit to be shown; null when allowed. */
  readonly reason: string | null
  readonly eventId: string | null
  readonly organizationId: string
  readonly meter: string
  readonly quantity: Quantity
  /** What this use took from the balance (EM-3 `credits_used`). */
  readonly drawn: Quantity
  readonly balance: BalanceSnapshot
  readonly reservation: { readonly id: string; readonly expiresAt: Instant | null } | null
  /** Of use that was told when what bills its time was over: what becomes of it. `balance` is that of its own period then. */
  readonly late: LateUse | null
  /** Of what was refused for the limit of spending: what was spent of it then. */
  readonly spending: Spending | null
  /** Of a use that came too fast: in how many milliseconds it would be allowed. */
  readonly retryAfterMs: number | null
  /** True when the same key was answered before and this is that answer, or says that what it permitted was taken back. */
  readonly replayed: boolean
}

/** An event with what corrections have left of it. */
export type CorrectedEvent = {
  readonly event: UsageEvent
  readonly counted: Quantity
  /** What it still takes from its grants. */
  readonly draws: readonly Draw[]
  /** Whether it was taken back whole. */
  readonly retracted: boolean
}

export type ReservationStatus = 'open' | 'settled' | 'released' | 'expired'

/** An amount held for work whose cost is known afterwards. */
export type Reservation = {
  readonly organizationId: string
  readonly id: string
  readonly meter: string
  readonly quantity: Quantity
  readonly balanceKey: string
  /** What is held, per grant. */
  readonly holds: readonly Draw[]
  readonly status: ReservationStatus
  readonly properties: UsageProperties | null
  readonly createdAt: Instant
  readonly expiresAt: Instant
  readonly closedAt: Instant | null
  /** The settlement's event, once there is one. */
  readonly settledEventId: string | null
  readonly settledRecordedAt: Instant | null
}

import type { AuditEntry } from '../../audit/store.ts'
import type { Instant } from '../../lib/clock.ts'
import type { MutationKind, StripeMutations } from '../gateway/mutations.ts'

/**
 * The outbox of calls that change something at Stripe. First the intent is committed with its idempotency key, then the call is
 * made, then its result is committed. Whatever happens in between, the same key tells Stripe that it is the same wish.
 */
export type Intent<Kind extends MutationKind = MutationKind> = {
  readonly id: string
  readonly organizationId: string | null
  readonly kind: Kind
  readonly params: StripeMutations[Kind]
  readonly idempotencyKey: string
  readonly attempts: number
  readonly createdAt: Instant
  readonly audit: IntentAudit | null
  readonly afterwards: readonly FollowUp[]
  /** Whether it follows on another that is done: then it has to be done as well, whoever comes. */
  readonly isDuty: boolean
  /** Until when a call of it that got no answer may still come true. */
  readonly inDoubtUntil: Instant
}

/** A call that has to be made once another is done, by whoever finds that it is: what a purchase takes the place of ends. */
export type FollowUp = {
  readonly [Kind in MutationKind]: { readonly kind: Kind; readonly params: StripeMutations[Kind] }
}[MutationKind]

/** What the audit log says when an intent is done, and under which key of the caller's it was asked for. */
export type IntentAudit = Omit<AuditEntry, 'organizationId' | 'at'> & { readonly requestKey?: string | null }

import type { Session } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import type { MutationKind, MutationResult, StripeMutations } from '../stripe/gateway/mutations.ts'
import type { FollowUp, IntentAudit } from '../stripe/intents/intent.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import type { CurrentSubscription } from './plan-change.ts'

export type Execution = {
  readonly context: BillingContext
  readonly session: Session
  readonly organizationId: string
  /** From when a difference counts: the time of the preview that the customer saw, or now. */
  readonly prorationAt: Instant
  readonly telling?: Telling
}

/** What the audit log is told of a change with the first `step` that is done, also when only a later request hears that it is. */
export type Telling = { readonly step: MutationKind; readonly audit: IntentAudit; isTold: boolean }

export type Acting = Omit<Execution, 'prorationAt'>

export async function perform<Kind extends MutationKind>(
  { context, session, organizationId, telling }: Acting,
  kind: Kind,
  params: StripeMutations[Kind],
  afterwards: readonly FollowUp[] = [],
): Promise<MutationResult> {
  const told = telling?.step === kind && !telling.isTold ? telling : null
  const audit = told?.audit ?? null
  const result = await performIntent(context, session, { organizationId, kind, params, audit, afterwards })
  if (told !== null) told.isTold = true
  return result
}

export function update(execution: Execution, params: StripeMutations['update_subscription']): Promise<MutationResult> {
  return perform(execution, 'update_subscription', params)
}

/** Takes back what was said: `cancel_at_period_end`, or a date, as a portal in flexible mode sets it. */
export function undoingCancel({ id, cancelAtPeriodEnd }: CurrentSubscription): StripeMutations['update_subscription'] {
  return { subscriptionId: id, ...(cancelAtPeriodEnd ? { cancelAtPeriodEnd: false } : { clearCancelAt: true }) }
}

export function isRefused(error: unknown): boolean {
  return error instanceof StripeCallError && error.outcome === 'refused'
}

export function wantsAuthentication(error: unknown): boolean {
  return error instanceof StripeCallError && error.details['requires_action'] === true
}

export async function follow({ context, session, organizationId }: Acting): Promise<void> {
  await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
}

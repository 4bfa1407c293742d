import { insertAuditEntry, type AuditEntry } from '../audit/store.ts'
import type { Session } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { HOUR_MS } from '../lib/period.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { RECENT_SCOPE } from '../stripe/fetch.ts'
import { finishPendingIntents, type FinishedIntent } from '../stripe/finish-intents.ts'
import { withOrganizationLock } from '../stripe/lock.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { syncOrganization } from '../stripe/sync.ts'
import { DECISIVE_STEP, executePlanChange } from './execute.ts'
import { previewPlanChange, type PlanChangePreview } from './preview.ts'
import type { BillingState, PlanChange, PlanChangeRequest } from './plan-change.ts'
import { computePlanChange, findOffer } from './rules.ts'
import { readBillingState } from './state.ts'

/** Who asks, for the audit log. */
export type Asker = { readonly actor: string; readonly requestId: string }

export type PlanChangeOptions = {
  readonly organizationId: string
  readonly request: PlanChangeRequest
  /** From a preview: from when a difference counts. At most an hour old. */
  readonly prorationAt: Instant | null
}

/**
 * Works out what a request would mean and asks Stripe for the amounts. Changes nothing, anywhere.
 * @throws those of `computePlanChange` and of Stripe
 */
export async function previewChange(context: BillingContext, options: PlanChangeOptions): Promise<PlanChangePreview> {
  const organization = await readOrganization(context.db, options.organizationId)
  requireGateway(context)
  const now = timeOf(organization, context.clock)
  const state = await readBillingState(context, context.db, organization.id)
  const change = computePlanChange(state, options.request, context.policy, now)
  const at = prorationTime(options.prorationAt, now)
  return previewPlanChange({ context, customerId: organization.customerId, now: at }, change)
}

/**
 * Changes an organization's plan, and answers when mirror, account and grants have followed.
 * @throws `nothing_to_change`, `payment_failed` (nothing has changed then), those of `computePlanChange` and of Stripe
 */
export async function changePlan(context: BillingContext, options: PlanChangeOptions, asker: Asker): Promise<PlanChange> {
  return runExclusively(context, options.organizationId, (session, finished) =>
    changePlanIn(context, session, options, asker, finished),
  )
}

/** The same for a caller who holds the organization's lock; `finished` are earlier requests that `runExclusively` settled. */
export async function changePlanIn(
  context: BillingContext,
  session: Session,
  options: PlanChangeOptions,
  asker: Asker,
  finished: readonly FinishedIntent[] = [],
): Promise<PlanChange> {
  const { organizationId, request } = options
  const organization = await readOrganization(session, organizationId)
  const now = timeOf(organization, context.clock)
  const state = await readBillingState(context, session, organizationId)
  const before = state.subscription
  const change = isDoneAlready(state, request, finished)
    ? ({ kind: 'none', reason: 'An earlier request has done it.' } as const)
    : computePlanChange(state, request, context.policy, now)
  const audit = {
    ...asker,
    action: AUDITED[change.kind],
    target: before?.id ?? organizationId,
    before: before === null ? null : { plan: before.planKey, interval: before.interval, quantity: before.quantity },
    after: describe(change),
  }
  if (change.kind !== 'none' || finished.length === 0) {
    const prorationAt = prorationTime(options.prorationAt, now)
    const told = change.kind === 'none' ? null : { told: { step: DECISIVE_STEP[change.kind], audit } }
    await executePlanChange({ context, session, organizationId, prorationAt, ...told }, change)
  }
  await syncAudited(context, session, organizationId, audit)
  return change
}

/**
 * Runs a change of an organization's billing under its lock, after what earlier requests left open has been settled.
 * `finished` are those that turned out to be done; the mirror has followed them.
 */
export async function runExclusively<Result>(
  context: BillingContext,
  organizationId: string,
  work: (session: Session, finished: readonly FinishedIntent[]) => Promise<Result>,
): Promise<Result> {
  requireGateway(context)
  await readOrganization(context.db, organizationId)
  return withOrganizationLock(context, organizationId, async (session) => {
    const finished = await finishPendingIntents(context, session, organizationId)
    if (finished.length > 0) {
      await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
    }
    return work(session, finished)
  })
}

/** Lets mirror, account and grants follow a change that somebody asked for, and tells of it in the audit log with them. */
export async function syncAudited(
  context: BillingContext,
  session: Session,
  organizationId: string,
  told: Omit<AuditEntry, 'organizationId' | 'at'>,
): Promise<void> {
  await syncOrganization(context, session, organizationId, {
    scope: RECENT_SCOPE,
    priority: 'interactive',
    alsoWrite: (tx) => insertAuditEntry(tx, { organizationId, ...told, at: context.clock.now() }),
  })
}

/** A purchase or an end whose answer was lost and that is asked for again is answered, not refused as a second one. */
function isDoneAlready(state: BillingState, request: PlanChangeRequest, finished: readonly FinishedIntent[]): boolean {
  if (request.kind === 'cancel') {
    return state.subscription === null && finished.some(({ intent }) => intent.kind === 'cancel_subscription')
  }
  if (request.kind !== 'subscribe' || state.subscription === null) return false
  const { priceId } = findOffer(state, request.planKey, request.interval)
  return finished.some(
    ({ intent, result }) =>
      intent.kind === 'create_subscription' && result.id === state.subscription?.id && state.subscription.priceId === priceId,
  )
}

export function prorationTime(given: Instant | null, now: Instant): Instant {
  if (given === null) return now
  if (given > now || now.getTime() - given.getTime() > HOUR_MS) {
    throw new DomainError('invalid_request', 'proration_date must be the one of a preview that is at most an hour old.', {
      field: 'proration_date',
    })
  }
  return given
}

const AUDITED: Readonly<Record<PlanChange['kind'], string>> = {
  start: 'subscription.started',
  switch_now: 'subscription.switched',
  switch_at_period_end: 'subscription.switch_scheduled',
  cancel_now: 'subscription.canceled',
  cancel_at_period_end: 'subscription.cancel_scheduled',
  undo_cancel: 'subscription.cancel_undone',
  undo_switch: 'subscription.switch_undone',
  pause: 'subscription.paused',
  resume: 'subscription.resumed',
  none: 'subscription.confirmed',
}

function describe(change: PlanChange): Readonly<Record<string, unknown>> {
  switch (change.kind) {
    case 'start':
      return {
        plan: change.offer.planKey,
        interval: change.offer.interval,
        quantity: change.quantity,
        trial_days: change.trialDays,
      }
    case 'switch_now':
      return { plan: change.to.planKey, interval: change.to.interval, quantity: change.to.quantity }
    case 'switch_at_period_end':
      return { plan: change.to.planKey, interval: change.to.interval, quantity: change.to.quantity, at: change.at }
    case 'cancel_at_period_end':
      return { cancel_at: change.at }
    case 'cancel_now':
    case 'undo_cancel':
    case 'undo_switch':
    case 'pause':
    case 'resume':
    case 'none':
      return { kind: change.kind }
  }
}

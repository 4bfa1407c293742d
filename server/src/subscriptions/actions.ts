import { isDeepStrictEqual } from 'node:util'
import { insertAuditEntry } from '../audit/store.ts'
import type { Queryable, Session } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { HOUR_MS, SECOND_MS } from '../lib/period.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import type { IntentAudit } from '../stripe/intents/intent.ts'
import { isAheadOfMirror, isHeard, listUnheard, markHeard, type FinishedIntent } from '../stripe/intents/intents.ts'
import { withOrganizationLock } from '../stripe/intents/lock.ts'
import { RECENT_SCOPE, type SyncScope } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { decisiveStep, executePlanChange } from './execute.ts'
import { readTakenAlong, restorePendingItems } from './pending-items.ts'
import type { BillingState, CurrentSubscription, PlanChange, PlanChangeRequest } from './plan-change.ts'
import { previewPlanChange, type PlanChangePreview } from './preview.ts'
import { restoreReleased } from './released.ts'
import { computePlanChange, findOffer } from './rules.ts'
import { readBillingState } from './state.ts'
import { findUnpaid } from './store.ts'
import { releaseSuperseded } from './superseded.ts'

/** Who asks, for the audit log, and under which key of theirs (Idempotency-Key). */
export type Asker = { readonly actor: string; readonly requestId: string; readonly requestKey?: string | null }

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
  const callsOff = 'subscription' in change && change.kind !== 'resume'
  const invoiceItems = callsOff ? await readTakenAlong(context, organization.id, change.subscription) : []
  const { id: organizationId, customerId } = organization
  return previewPlanChange({ context, organizationId, customerId, now: at, invoiceItems }, change)
}

/**
 * Changes an organization's plan, and answers when mirror, account and grants have followed.
 * @throws `nothing_to_change`, `payment_failed` (nothing has changed then, but a resumed subscription owes its new period), those of
 * `computePlanChange` and of Stripe
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
  const isAnswered = (await wasHeard(session, organizationId, asker)) || isDoneAlready(state, request, finished)
  const wished = isAnswered ? DONE : computePlanChange(state, request, context.policy, now)
  const toAudit = (each: PlanChange): IntentAudit => ({ ...asker, ...entryOf(each, state.subscription, organizationId) })
  const change = isUnderWay(wished) && wasMade(toAudit(wished), finished) ? DONE : wished
  const audit = toAudit(change)
  if (change.kind === 'none') {
    if (change !== DONE && finished.length === 0) throw new DomainError('nothing_to_change', change.reason)
    await followChange(context, session, organizationId, audit)
    if (request.kind === 'resume') await refuseUnpaid(session, organizationId)
    return change
  }
  if (organization.testClockNow === null) refuseNewerPrice(change, options.prorationAt)
  const prorationAt = prorationTime(options.prorationAt, now)
  const telling = { step: decisiveStep(change), audit, isTold: false }
  await executePlanChange({ context, session, organizationId, prorationAt, telling }, change)
  await followChange(context, session, organizationId)
  if (change.kind === 'resume') await refuseUnpaid(session, organizationId)
  return change
}

/**
 * Stripe lets a subscription go on whose new period the card declines: it is past due, and owes that invoice.
 * @throws DomainError `payment_failed` with `invoice_id` and `payment_url`
 */
async function refuseUnpaid(db: Queryable, organizationId: string): Promise<void> {
  const unpaid = await findUnpaid(db, organizationId)
  if (unpaid === null) return
  const sentence =
    'The subscription goes on, but the payment of its new period failed: the days of grace have begun. Pay the invoice, or replace the payment method.'
  throw new DomainError('payment_failed', sentence, { invoice_id: unpaid.invoiceId, payment_url: unpaid.paymentUrl })
}

/**
 * Runs a change of an organization's billing under its lock, after what earlier requests left open has been settled, what they took along in
 * vain waits again, what they released in vain is brought back, and what they took the place of has gone.
 * `finished` are those that turned out to be done, and those that were done and nobody was told; the mirror has followed them.
 */
export async function runExclusively<Result>(
  context: BillingContext,
  organizationId: string,
  work: (session: Session, finished: readonly FinishedIntent[]) => Promise<Result>,
): Promise<Result> {
  requireGateway(context)
  await readOrganization(context.db, organizationId)
  return withOrganizationLock(context, organizationId, async (session) => {
    const settled = await finishPendingIntents(context, session, organizationId)
    const now = context.clock.now()
    const unheard = await listUnheard(session, organizationId, now)
    const finished = [...settled.filter(({ intent }) => unheard.every((each) => each.intent.id !== intent.id)), ...unheard]
    if (finished.length > 0 || (await isAheadOfMirror(session, organizationId, now))) {
      await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
    }
    await restorePendingItems({ context, session, organizationId })
    await restoreReleased({ context, session, organizationId })
    await releaseSuperseded({ context, session, organizationId })
    return work(session, finished)
  })
}

/**
 * Lets mirror, account and grants follow a change; with that it is heard of. `told` is what no call to Stripe has told the audit log.
 */
export async function followChange(
  context: BillingContext,
  session: Session,
  organizationId: string,
  told: IntentAudit | null = null,
  scope: SyncScope = RECENT_SCOPE,
): Promise<void> {
  await syncOrganization(context, session, organizationId, {
    scope,
    priority: 'interactive',
    async alsoWrite(tx) {
      const at = context.clock.now()
      await markHeard(tx, organizationId, at)
      if (told !== null) await insertAuditEntry(tx, { organizationId, ...told, at })
    },
  })
}

/** Whether this very request was carried out before and came to its end, whatever has been changed since. */
export async function wasHeard(db: Queryable, organizationId: string, { requestKey }: Asker): Promise<boolean> {
  return requestKey != null && isHeard(db, organizationId, requestKey)
}

/** A purchase or an end whose answer was lost and that is asked for again is answered, not refused as a second one. */
function isDoneAlready(state: BillingState, request: PlanChangeRequest, finished: readonly FinishedIntent[]): boolean {
  if (request.kind === 'cancel') {
    return state.subscription === null && finished.some(({ intent: { audit } }) => audit?.action === AUDITED.cancel_now)
  }
  if (request.kind !== 'subscribe' || state.subscription === null) return false
  const { priceId } = findOffer(state, request.planKey, request.interval)
  return finished.some(
    ({ intent, result }) =>
      intent.kind === 'create_subscription' && result.id === state.subscription?.id && state.subscription.priceId === priceId,
  )
}

/**
 * Whether the mirror, which has just followed, has something of this kind that is not done yet: for the period's end, or waiting for the bank.
 * Anything else that was made shows in it; where it does not, it has been undone since, at Stripe, and is made again.
 */
function isUnderWay(change: PlanChange): boolean {
  if (change.kind === 'switch_at_period_end') return change.subscription.scheduledAt !== null
  return change.kind === 'switch_now' && change.subscription.waitingInvoiceId !== null
}

/** Whether the very change was made and nobody was told. */
function wasMade({ action, target, after }: IntentAudit, finished: readonly FinishedIntent[]): boolean {
  const told = JSON.parse(JSON.stringify(after)) as unknown
  return finished.some(
    ({ intent: { audit } }) => audit?.action === action && audit.target === target && isDeepStrictEqual(audit.after, told),
  )
}

/** A preview's amounts hold; where the price was made after it, another one has to be asked for. */
function refuseNewerPrice(change: PlanChange, previewedAt: Instant | null): void {
  if (previewedAt === null || !('offer' in change)) return
  const { soldSince } = change.offer
  if (soldSince === null || soldSince.getTime() < previewedAt.getTime() + SECOND_MS) return
  throw new DomainError('conflict', 'The price has changed since the preview; ask for another one.', { field: 'proration_date' })
}

const DONE: PlanChange = { kind: 'none', reason: 'An earlier request has done it.' }

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

function entryOf(change: PlanChange, before: CurrentSubscription | null, organizationId: string) {
  return {
    action: AUDITED[change.kind],
    target: before?.id ?? organizationId,
    before: before === null ? null : { plan: before.planKey, interval: before.interval, quantity: before.quantity },
    after: describe(change),
  }
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

/** What happens to invoices by itself: drafts are finalized, open ones charged again, sent ones fall due. */
import { nextRetryAt } from '../../billing/retries.ts'
import type { Ctx } from '../../engine/context.ts'
import { timeRule } from '../../engine/module.ts'
import { StripeError } from '../../engine/errors.ts'
import { billingSettings } from '../billing-settings.ts'
import { followFailedInvoice } from '../subscriptions/status.ts'
import { collectInvoice, paymentMethodOf, settleIfNothingDue } from './collect.ts'
import type { StoredInvoice } from './compose.ts'
import { markUncollectible, voidInvoice } from './end.ts'
import { finalizeInvoice } from './finalize.ts'

function finalizeDraft(ctx: Ctx, invoice: StoredInvoice): void {
  const subscription = invoice._.subscription === null ? undefined : ctx.get('subscription', invoice._.subscription)
  try {
    finalizeInvoice(ctx, invoice.id, { daysUntilDue: subscription?.days_until_due ?? null })
  } catch (error) {
    // What keeps its effects was told of, and waits for somebody to mend it.
    if (error instanceof StripeError && error.keepsEffects) return
    throw error
  }
  if (settleIfNothingDue(ctx, invoice.id)) return
  const paused = invoice.billing_reason === 'subscription_cycle' ? (subscription?.pause_collection?.behavior ?? null) : null
  if (paused === 'void') voidInvoice(ctx, invoice.id)
  else if (paused === 'mark_uncollectible') markUncollectible(ctx, invoice.id, 'subscription_paused')
  else if (invoice.collection_method === 'charge_automatically') {
    collectInvoice(ctx, invoice.id, { offSession: true, automatic: true })
  } else collectInvoice(ctx, invoice.id, { confirm: false, offSession: true, automatic: false })
}

/**
 * After a hard decline nothing is tried with the same method: the schedule goes on and counts, as Stripe's does.
 * Source: docs.stripe.com/api/invoices/object (attempt_count).
 */
function retry(ctx: Ctx, invoice: StoredInvoice): void {
  const { hardDeclined, firstAttemptAt, automaticAttempts } = invoice._
  const method = paymentMethodOf(ctx, invoice)
  if (hardDeclined === null || method !== hardDeclined || firstAttemptAt === null) {
    collectInvoice(ctx, invoice.id, { offSession: true, automatic: true })
    return
  }
  const attempts = automaticAttempts + 1
  const next = nextRetryAt({ offsets: billingSettings(ctx).retryOffsets }, firstAttemptAt, attempts)
  const skipped = ctx.change(
    'invoice',
    invoice.id,
    {
      attempt_count: invoice.attempt_count + 1,
      next_payment_attempt: next,
      _: { ...invoice._, automaticAttempts: attempts, retryAt: next },
    },
    'invoice.updated',
  )
  if (next === null) followFailedInvoice(ctx, skipped, true)
}

function fallDue(ctx: Ctx, invoice: StoredInvoice): void {
  const overdue = ctx.update('invoice', invoice.id, { _: { ...invoice._, overdueAnnounced: true } })
  ctx.emit('invoice.overdue', overdue)
  followFailedInvoice(ctx, overdue, false)
}

export const invoiceRules = [
  timeRule({
    name: 'invoice: finalize the draft',
    object: 'invoice',
    order: 50,
    due: (invoice) => (invoice.status === 'draft' && invoice.auto_advance === true ? invoice.automatically_finalizes_at : null),
    run: (invoice, ctx) => finalizeDraft(ctx, invoice),
  }),
  timeRule({
    name: 'invoice: charge again',
    object: 'invoice',
    order: 60,
    due: (invoice) => (invoice.status === 'open' && invoice.auto_advance === true ? invoice._.retryAt : null),
    run: (invoice, ctx) => retry(ctx, invoice),
  }),
  timeRule({
    name: 'invoice: fall due',
    object: 'invoice',
    order: 80,
    due: (invoice) => (invoice.status === 'open' && !invoice._.overdueAnnounced ? invoice.due_date : null),
    run: (invoice, ctx) => fallDue(ctx, invoice),
  }),
]

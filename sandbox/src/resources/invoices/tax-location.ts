/**
 * An invoice with automatic tax whose customer is nowhere known: that of a subscription is finalized without tax, and so are those
 * after it; another one stays a draft. Source: docs.stripe.com/tax/customer-locations (invoice finalization errors).
 */
import type { Ctx } from '../../engine/context.ts'
import { StripeError } from '../../engine/errors.ts'
import { scheduleOf } from '../subscriptions/schedule-phases.ts'
import type { StoredSubscription } from '../subscriptions/stored.ts'
import { unknownTaxLocation } from '../tax/automatic-tax.ts'
import { type StoredInvoice, taxStatus } from './compose.ts'

/** The draft as it can be finalized. Throws, and keeps the record of it, when it cannot be. */
export function withKnownTax(ctx: Ctx, draft: StoredInvoice): StoredInvoice {
  if (taxStatus(draft).status !== 'requires_location_inputs' || !draft.automatic_tax.enabled) return draft
  const subscription = draft._.subscription === null ? undefined : ctx.get('subscription', draft._.subscription)
  if (subscription === undefined) throw failed(ctx, draft)
  const off = { enabled: false, liability: null }
  const reason = 'requires_location_inputs'
  const patch = { automatic_tax: { ...off, disabled_reason: reason } } as const
  turnOffInSchedule(ctx, subscription, patch.automatic_tax)
  // A subscription that was never announced has nothing to tell of yet.
  if (draft.billing_reason === 'subscription_create') ctx.update('subscription', subscription.id, patch)
  else ctx.change('subscription', subscription.id, patch, 'customer.subscription.updated')
  return {
    ...draft,
    automatic_tax: { ...draft.automatic_tax, ...off, disabled_reason: 'finalization_requires_location_inputs' },
  }
}

/** The phase that runs, and what holds where a phase says nothing, are without tax too. */
function turnOffInSchedule(ctx: Ctx, subscription: StoredSubscription, tax: StoredSubscription['automatic_tax']): void {
  const schedule = scheduleOf(ctx, subscription)
  if (schedule === undefined) return
  const phases = schedule.phases.map((phase, index) => (index === schedule._.phase ? { ...phase, automatic_tax: tax } : phase))
  const settings = { ...schedule.default_settings, automatic_tax: tax }
  ctx.change('subscription_schedule', schedule.id, { default_settings: settings, phases }, 'subscription_schedule.updated')
}

function failed(ctx: Ctx, draft: StoredInvoice): StripeError {
  const { body, status } = unknownTaxLocation()
  const { code, doc_url, message, type } = body
  const failure = ctx.update('invoice', draft.id, {
    automatically_finalizes_at: null,
    last_finalization_error: { code, doc_url, message, type } as StoredInvoice['last_finalization_error'],
  })
  ctx.emit('invoice.finalization_failed', failure)
  return new StripeError(status, body, { keepsEffects: true })
}

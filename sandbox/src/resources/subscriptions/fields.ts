/** Fields of a subscription that are only stored: read from parameters in the same way by create and update. */
import { cancelsAtLatestPeriodEnd } from '../../billing/inferred.ts'
import { addRecurrence } from '../../billing/periods.ts'
import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { invoicePayments } from '../../payments/contract.ts'
import type { Params } from '../../wire.gen.ts'
import { AUTOMATIC_TAX_REFUSES, automaticTaxOf } from '../tax/automatic-tax.ts'
import { checkedTaxRates, lastPeriodEndOf, nextRenewalOf } from './items-params.ts'
import type { StoredSubscription } from './stored.ts'

type UpdateParams = Params['POST /v1/subscriptions/{id}']

/** Parameters that create and update read alike. */
export const SHARED_TAKES = [
  'add_invoice_items',
  'automatic_tax',
  'cancel_at',
  'cancel_at_period_end',
  'collection_method',
  'days_until_due',
  'default_payment_method',
  'default_tax_rates',
  'description',
  'discounts',
  'invoice_settings',
  'items',
  'metadata',
  'off_session',
  'payment_behavior',
  'payment_settings',
  'pending_invoice_item_interval',
  'proration_behavior',
  'trial_end',
  'trial_from_plan',
  'trial_settings',
] as const

/** Parts of shared parameters that are not understood. */
export const SHARED_REFUSES = [
  ...AUTOMATIC_TAX_REFUSES,
  'items.billing_thresholds',
  'items.current_trial',
  'invoice_settings.account_tax_ids',
  'invoice_settings.issuer',
]

type SharedFields = Pick<
  UpdateParams,
  | 'automatic_tax'
  | 'collection_method'
  | 'days_until_due'
  | 'default_payment_method'
  | 'default_tax_rates'
  | 'description'
  | 'invoice_settings'
  | 'payment_settings'
  | 'pending_invoice_item_interval'
  | 'trial_settings'
>

/** Turns stored-only parameters into a patch; what is absent stays. */
export function fieldsPatch(ctx: Ctx, old: StoredSubscription, params: SharedFields): Partial<StoredSubscription> {
  const method = params.default_payment_method
  if (method !== undefined && method !== '') {
    invoicePayments().requirePaymentMethodOf(ctx, {
      paymentMethod: method,
      customer: old.customer,
      param: 'default_payment_method',
    })
  }
  return {
    ...collectionPatch(old, params),
    automatic_tax: automaticTaxOf(old.automatic_tax, params.automatic_tax),
    default_payment_method: method === undefined ? old.default_payment_method : orNull(method),
    default_tax_rates:
      params.default_tax_rates === undefined ? old.default_tax_rates : checkedTaxRates(ctx, params.default_tax_rates),
    description: params.description === undefined ? old.description : orNull(params.description),
    invoice_settings: invoiceSettings(old, params.invoice_settings),
    payment_settings: paymentSettings(old, params.payment_settings),
    ...pendingItemsPatch(params.pending_invoice_item_interval, ctx.now(old.customer)),
    trial_settings: trialSettings(old, params.trial_settings),
  }
}

/** The rates that were set by hand: on the subscription, its items, and what is added to its next invoice. */
export function handSetRates(
  { default_tax_rates: defaults, _: { items } }: StoredSubscription,
  added: UpdateParams['add_invoice_items'],
): Array<readonly string[]> {
  return [defaults, ...items.map((item) => item.tax_rates), ...(added ?? []).map((item) => item.tax_rates || [])]
}

function collectionPatch(old: StoredSubscription, params: SharedFields): Partial<StoredSubscription> {
  const method = params.collection_method ?? old.collection_method
  const days = params.days_until_due ?? old.days_until_due
  if (method === 'send_invoice' && days === null) throw missing('days_until_due')
  if (method === 'charge_automatically' && params.days_until_due !== undefined) {
    throw invalidRequest('`days_until_due` can only be set when `collection_method` is `send_invoice`.', {
      param: 'days_until_due',
    })
  }
  return { collection_method: method, days_until_due: method === 'send_invoice' ? days : null }
}

function invoiceSettings(
  old: StoredSubscription,
  param: SharedFields['invoice_settings'],
): StoredSubscription['invoice_settings'] {
  const before = old.invoice_settings
  if (param === undefined) return before
  return {
    ...before,
    custom_fields: param.custom_fields === undefined ? before.custom_fields : orNull(param.custom_fields),
    description: param.description === undefined ? before.description : orNull(param.description),
    footer: param.footer === undefined ? before.footer : orNull(param.footer),
  }
}

function paymentSettings(
  old: StoredSubscription,
  param: SharedFields['payment_settings'],
): StoredSubscription['payment_settings'] {
  const before = old.payment_settings ?? {
    payment_method_options: null,
    payment_method_types: null,
    save_default_payment_method: null,
  }
  if (param === undefined) return before
  const card = param.payment_method_options?.card
  return {
    payment_method_options:
      card === undefined
        ? before.payment_method_options
        : {
            card:
              card === '' ? null : { network: card.network ?? null, request_three_d_secure: card.request_three_d_secure ?? null },
            customer_balance: null,
            sepa_debit: null,
            us_bank_account: null,
          },
    payment_method_types:
      param.payment_method_types === undefined ? before.payment_method_types : orNull(param.payment_method_types),
    save_default_payment_method: param.save_default_payment_method ?? before.save_default_payment_method,
  }
}

/** A year of each. Source: docs.stripe.com/api/subscriptions/create (pending_invoice_item_interval.interval_count). */
const MOST_INTERVALS = { day: 365, week: 52, month: 12, year: 1 } as const

/** How often pending items are invoiced by themselves; the first time is one interval from now. */
function pendingItemsPatch(param: SharedFields['pending_invoice_item_interval'], now: number): Partial<StoredSubscription> {
  if (param === undefined) return {}
  if (param === '') return { pending_invoice_item_interval: null, next_pending_invoice_item_invoice: null }
  const interval = { interval: param.interval, interval_count: param.interval_count ?? 1 }
  if (interval.interval_count < 1 || interval.interval_count > MOST_INTERVALS[interval.interval]) {
    throw invalidRequest('Pending items are invoiced after one interval at least, and within a year.', {
      param: 'pending_invoice_item_interval[interval_count]',
    })
  }
  const next = addRecurrence(now, { interval: interval.interval, count: interval.interval_count })
  return { pending_invoice_item_interval: interval, next_pending_invoice_item_invoice: next }
}

function trialSettings(old: StoredSubscription, param: SharedFields['trial_settings']): StoredSubscription['trial_settings'] {
  if (param === undefined) return old.trial_settings
  if (typeof param === 'string') return null
  const { missing_payment_method, billing_cycle_anchor } = param.end_behavior
  return {
    end_behavior: {
      billing_cycle_anchor: billing_cycle_anchor ?? null,
      missing_payment_method: missing_payment_method ?? 'create_invoice',
    },
  }
}

/**
 * When a subscription is to end: at a date, at the end of its shortest or longest running period, or at the period's end.
 * `cancel_at_period_end` sets `cancel_at` as well, and clearing either clears both.
 */
export function cancellationPatch(
  subscription: StoredSubscription,
  params: Pick<UpdateParams, 'cancel_at' | 'cancel_at_period_end' | 'cancellation_details'>,
  now: number,
): Partial<StoredSubscription> {
  const { cancel_at: at, cancel_at_period_end: atPeriodEnd } = params
  const details = detailsPatch(subscription, params.cancellation_details)
  if (at === undefined && atPeriodEnd === undefined) return details
  if (at !== undefined && at !== '' && atPeriodEnd === true) {
    throw invalidRequest('You may only specify one of these parameters: cancel_at, cancel_at_period_end.', { param: 'cancel_at' })
  }
  if (atPeriodEnd === true) {
    const end = cancelsAtLatestPeriodEnd() ? lastPeriodEndOf(subscription._.items) : nextRenewalOf(subscription._.items)
    return scheduled(subscription, end, true, now, details)
  }
  if (at === undefined || at === '') {
    const isScheduled = subscription.cancel_at_period_end || at === ''
    return isScheduled ? unscheduled(subscription, details) : details
  }
  return scheduled(subscription, cancelTime(subscription, at, now), false, now, details)
}

function cancelTime(
  subscription: StoredSubscription,
  at: Exclude<UpdateParams['cancel_at'], undefined | ''>,
  now: number,
): number {
  if (at === 'min_period_end') return nextRenewalOf(subscription._.items)
  if (typeof at === 'string') return lastPeriodEndOf(subscription._.items)
  if (at <= now) throw invalidRequest('`cancel_at` must be a timestamp in the future.', { param: 'cancel_at' })
  return at
}

type Details = Pick<Partial<StoredSubscription>, 'cancellation_details'>

/** What the customer has said, before and now. */
function saidOf(subscription: StoredSubscription, details: Details) {
  const nothing = { comment: null, feedback: null, feedback_option: null }
  return { ...nothing, ...subscription.cancellation_details, ...details.cancellation_details }
}

function scheduled(
  subscription: StoredSubscription,
  at: number,
  atPeriodEnd: boolean,
  now: number,
  details: Details,
): Partial<StoredSubscription> {
  return {
    cancel_at: at,
    cancel_at_period_end: atPeriodEnd,
    canceled_at: subscription.canceled_at ?? now,
    cancellation_details: { ...saidOf(subscription, details), reason: 'cancellation_requested' },
  }
}

function unscheduled(subscription: StoredSubscription, details: Details): Partial<StoredSubscription> {
  return {
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { ...saidOf(subscription, details), reason: null },
  }
}

/** `cancellation_details`: what the customer says. */
export function detailsPatch(subscription: StoredSubscription, param: UpdateParams['cancellation_details']): Details {
  if (param === undefined) return {}
  const before = subscription.cancellation_details ?? { comment: null, feedback: null, feedback_option: null, reason: null }
  return {
    cancellation_details: {
      ...before,
      comment: param.comment === undefined ? before.comment : orNull(param.comment),
      feedback: param.feedback === undefined ? before.feedback : orNull(param.feedback),
      feedback_option: param.feedback_option ?? before.feedback_option,
    },
  }
}

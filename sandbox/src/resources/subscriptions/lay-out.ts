/** A new subscription as an object: its dates, items and the lines of its first invoice. Nothing is charged here. */
import { decimalOf } from '../../billing/decimal.ts'
import { backdatedAnchor } from '../../billing/inferred.ts'
import { anchorFromConfig, boundary, DAY_SECONDS, type Span } from '../../billing/periods.ts'
import { prorate } from '../../billing/proration.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, notSupported } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredLine, StoredSubscriptionItem } from '../../model/billing.ts'
import type { Params } from '../../wire.gen.ts'
import { billingSettings } from '../billing-settings.ts'
import { redeemDiscounts } from '../catalog/discount-rules.ts'
import { isMetered, recurrenceOf } from '../catalog/price-terms.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { type BilledSubscription, fullAmountOf, licensedLines, meteredLines, trialLine } from '../invoices/lines.ts'
import { noAutomaticTax, refuseManualRates } from '../tax/automatic-tax.ts'
import { requireRoomForSubscription } from '../test-clock-limits.ts'
import { cancellationPatch, fieldsPatch, handSetRates, SHARED_TAKES } from './fields.ts'
import {
  anchorOf,
  checkItems,
  itemPeriod,
  naturalBillingDate,
  newItem,
  resolveRecurringPrice,
  subscriptionCurrency,
  withPeriod,
} from './items-params.ts'
import type { StoredSubscription } from './stored.ts'

export const CREATE_TAKES = [
  ...SHARED_TAKES,
  'backdate_start_date',
  'billing_cycle_anchor',
  'billing_cycle_anchor_config',
  'billing_mode',
  'currency',
  'customer',
  'trial_period_days',
] as const

export type CreateParams = Pick<Params['POST /v1/subscriptions'], (typeof CREATE_TAKES)[number]>

/** When a subscription begins, is free, and is billed. Unix seconds. */
interface Dates {
  readonly now: number
  readonly start: number
  readonly trialEnd: number | null
  readonly anchor: number
  readonly anchorDay: number | null
}

/** A subscription that is not stored yet, and the lines that its first invoice will have. */
export interface NewSubscription {
  readonly subscription: StoredSubscription
  readonly lines: readonly StoredLine[]
}

/** Reads the parameters, checks them, and lays out the subscription. Redeems coupons and makes inline prices. */
export function layOutSubscription(ctx: Ctx, params: CreateParams, customerId: string): NewSubscription {
  const customer = requireCustomer(ctx, customerId, 'customer')
  requireRoomForSubscription(ctx, customer)
  const [firstItem] = params.items ?? []
  if (firstItem === undefined)
    throw invalidRequest('Missing required param: items.', { param: 'items', code: 'parameter_missing' })
  const id = ctx.newId('sub', 24)
  const itemParams = (params.items ?? []).map((item, index) => inlinePriceMade(ctx, item, index))
  const firstPrice = ctx.require('price', itemParams[0]?.price ?? '', 'items[0][price]')
  const currency = subscriptionCurrency(ctx, customer.id, firstPrice, params.currency)
  const mode = params.billing_mode?.type ?? billingSettings(ctx).billingMode
  refuseItemized(params.billing_mode?.flexible?.proration_discounts)
  const items = itemParams.map((item, index) => newItem(ctx, item, { id, customer: customer.id, currency }, `items[${index}]`))
  checkItems(ctx, items, mode, currency)
  const dates = datesOf(ctx, params, customer.id, items)
  const bare = bareSubscription(ctx, { id, customer: customer.id, currency, mode, dates, params })
  const laid = { ...bare, _: { ...bare._, items: items.map((item) => withPeriod(item, firstPeriod(ctx, bare, item, dates))) } }
  const subscription: StoredSubscription = {
    ...laid,
    ...fieldsPatch(ctx, laid, params),
    ...cancellationPatch(laid, params, dates.now),
    discounts: redeemDiscounts(ctx, params.discounts === '' ? [] : (params.discounts ?? []), {
      customer: customer.id,
      currency,
      subscription: id,
      orderAmount: items.reduce((sum, item) => sum + fullAmountOf(ctx, item, currency), 0),
    }),
  }
  refuseManualRates(subscription.automatic_tax, handSetRates(subscription, params.add_invoice_items))
  return { subscription, lines: firstLines(ctx, subscription, dates, params.proration_behavior ?? 'create_prorations') }
}

/** Prorations carry their discounts in their amounts; showing them apart is not emulated. */
export function refuseItemized(discounts: 'included' | 'itemized' | undefined): void {
  if (discounts === 'itemized')
    throw notSupported('`proration_discounts=itemized`', 'billing_mode[flexible][proration_discounts]')
}

function inlinePriceMade(ctx: Ctx, item: NonNullable<CreateParams['items']>[number], index: number): typeof item {
  const { price_data: data, plan, ...rest } = item
  if (data === undefined && plan === undefined) return item
  const price = resolveRecurringPrice(ctx, item, `items[${index}]`)
  return price === null ? rest : { ...rest, price: price.id }
}

function datesOf(ctx: Ctx, params: CreateParams, customer: string, items: readonly StoredSubscriptionItem[]): Dates {
  const now = ctx.now(customer)
  const start = params.backdate_start_date ?? now
  if (start > now) throw invalidRequest('`backdate_start_date` must be in the past.', { param: 'backdate_start_date' })
  const trialEnd = trialEndOf(ctx, params, now, items)
  const free = trialEnd ?? backdatedAnchor(now, start)
  const config = params.billing_cycle_anchor_config
  if (config !== undefined) {
    if (params.billing_cycle_anchor !== undefined) {
      throw invalidRequest('You may only specify one of these parameters: billing_cycle_anchor, billing_cycle_anchor_config.', {
        param: 'billing_cycle_anchor',
      })
    }
    const anchor = anchorFromConfig({ ...config, dayOfMonth: config.day_of_month }, free)
    return { now, start, trialEnd, anchor, anchorDay: config.day_of_month }
  }
  const anchor = params.billing_cycle_anchor ?? free
  checkAnchor(ctx, anchor, free, items, params.billing_cycle_anchor !== undefined && params.backdate_start_date === undefined)
  return { now, start, trialEnd, anchor, anchorDay: null }
}

function checkAnchor(ctx: Ctx, anchor: number, free: number, items: readonly StoredSubscriptionItem[], isAsked: boolean): void {
  if (!isAsked) return
  if (anchor < free) {
    throw invalidRequest('`billing_cycle_anchor` cannot be earlier than the subscription starts to be billed.', {
      param: 'billing_cycle_anchor',
    })
  }
  const natural = naturalBillingDate(ctx, items, free)
  if (anchor > natural) {
    throw invalidRequest(`\`billing_cycle_anchor\` cannot be later than next natural billing date (${natural}) for plan.`, {
      param: 'billing_cycle_anchor',
    })
  }
}

const MAX_TRIAL_SECONDS = 730 * DAY_SECONDS

function trialEndOf(ctx: Ctx, params: CreateParams, now: number, items: readonly StoredSubscriptionItem[]): number | null {
  if (params.trial_end !== undefined && params.trial_period_days !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: trial_end, trial_period_days.', { param: 'trial_end' })
  }
  const days = params.trial_period_days ?? (params.trial_from_plan === true ? planTrialDays(ctx, items) : undefined)
  const end =
    params.trial_end === 'now'
      ? undefined
      : (params.trial_end ?? (days === undefined || days === 0 ? undefined : now + days * DAY_SECONDS))
  if (end === undefined) return null
  if (days !== undefined && days < 0)
    throw invalidRequest('Invalid trial_period_days: must be at least 1.', { param: 'trial_period_days' })
  if (end <= now)
    throw invalidRequest('Invalid timestamp: must be an integer Unix timestamp in the future.', { param: 'trial_end' })
  if (end > now + MAX_TRIAL_SECONDS) {
    throw invalidRequest('Invalid timestamp: can be no more than two years in the future.', { param: 'trial_end' })
  }
  return end
}

function planTrialDays(ctx: Ctx, items: readonly StoredSubscriptionItem[]): number | undefined {
  const days = items.map((item) => ctx.require('price', item.price).recurring?.trial_period_days ?? 0)
  return Math.max(0, ...days) || undefined
}

function bareSubscription(
  ctx: Ctx,
  given: { id: string; customer: string; currency: string; mode: 'classic' | 'flexible'; dates: Dates; params: CreateParams },
): StoredSubscription {
  const { dates, mode, params } = given
  const config = params.billing_cycle_anchor_config
  return {
    id: given.id,
    object: 'subscription',
    application: null,
    application_fee_percent: null,
    automatic_tax: noAutomaticTax(),
    billing_cycle_anchor: dates.anchor,
    billing_cycle_anchor_config:
      config === undefined
        ? null
        : {
            day_of_month: config.day_of_month,
            hour: config.hour ?? null,
            minute: config.minute ?? null,
            month: config.month ?? null,
            second: config.second ?? null,
          },
    billing_mode: {
      type: mode,
      flexible:
        mode === 'flexible' ? { proration_discounts: params.billing_mode?.flexible?.proration_discounts ?? 'included' } : null,
    },
    billing_schedules: [],
    billing_thresholds: null,
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { comment: null, feedback: null, feedback_option: null, reason: null },
    collection_method: 'charge_automatically',
    created: dates.now,
    currency: given.currency,
    customer: given.customer,
    customer_account: null,
    days_until_due: null,
    default_payment_method: null,
    default_source: null,
    default_tax_rates: [],
    description: null,
    discounts: [],
    ended_at: null,
    invoice_settings: { account_tax_ids: null, custom_fields: null, description: null, footer: null, issuer: { type: 'self' } },
    latest_invoice: null,
    livemode: false,
    managed_payments: null,
    metadata: mergeMetadata({}, params.metadata),
    next_pending_invoice_item_invoice: null,
    on_behalf_of: null,
    pause_collection: null,
    payment_settings: { payment_method_options: null, payment_method_types: null, save_default_payment_method: 'off' },
    pending_invoice_item_interval: null,
    pending_setup_intent: null,
    schedule: null,
    start_date: dates.start,
    status: dates.trialEnd === null ? 'active' : 'trialing',
    test_clock: ctx.require('customer', given.customer).test_clock ?? null,
    transfer_data: null,
    trial_end: dates.trialEnd,
    trial_settings: { end_behavior: { billing_cycle_anchor: null, missing_payment_method: 'create_invoice' } },
    trial_start: dates.trialEnd === null ? null : dates.now,
    _: {
      items: [],
      anchorDay: dates.anchorDay,
      trialEndAnnounced: null,
      renewalAnnounced: null,
      pendingUpdate: null,
      incompleteUntil: null,
      checkoutSession: null,
    },
  }
}

function firstPeriod(ctx: Ctx, subscription: StoredSubscription, item: StoredSubscriptionItem, dates: Dates): Span {
  if (dates.trialEnd !== null) return { start: dates.now, end: dates.trialEnd }
  const whole = itemPeriod(ctx, anchorOf(subscription), item, dates.now)
  return { start: dates.now, end: whole.end }
}

/** Lines of the first invoice: the trial, or the first period (prorated up to a future anchor), after what is billed back. */
function firstLines(
  ctx: Ctx,
  subscription: StoredSubscription,
  dates: Dates,
  proration: 'always_invoice' | 'create_prorations' | 'none',
): StoredLine[] {
  return subscription._.items.flatMap((item) => {
    const price = ctx.require('price', item.price)
    if (isMetered(price)) return meteredFirstLines(ctx, subscription, item)
    const period = { start: item.current_period_start, end: item.current_period_end }
    if (dates.trialEnd !== null) return [trialLine(ctx, subscription, item, period)]
    const back = proration === 'none' ? [] : backdatedLines(ctx, subscription, item, dates)
    const whole = itemPeriod(ctx, anchorOf(subscription), item, dates.now)
    const billed = { start: period.start, end: Math.min(period.end, subscription.cancel_at ?? period.end) }
    if (whole.start === billed.start && whole.end === billed.end)
      return [...back, ...licensedLines(ctx, subscription, item, billed)]
    return proration === 'none' && whole.start !== billed.start
      ? back
      : [...back, ...licensedLines(ctx, subscription, item, billed, whole)]
  })
}

/** Classic mode shows a metered item with nothing used yet; flexible mode leaves it out. */
function meteredFirstLines(ctx: Ctx, subscription: StoredSubscription, item: StoredSubscriptionItem): StoredLine[] {
  if (subscription.billing_mode.type === 'flexible') return []
  const period = { start: item.current_period_start, end: item.current_period_end }
  return meteredLines(ctx, subscription, item, { period, quantity: decimalOf(0) }).map((line) => ({
    ...line,
    amount: 0,
    subtotal: 0,
  }))
}

/** One line for the time between the backdated start and now. */
function backdatedLines(
  ctx: Ctx,
  owner: BilledSubscription & StoredSubscription,
  item: StoredSubscriptionItem,
  dates: Dates,
): StoredLine[] {
  if (dates.start >= dates.now) return []
  const full = fullAmountOf(ctx, item, owner.currency)
  const recurrence = recurrenceOf(ctx.require('price', item.price))
  let amount = 0
  let n = 0
  for (let end = dates.now; end > dates.start;) {
    n -= 1
    const start = boundary({ at: dates.now }, recurrence, n)
    amount += prorate(full, { start, end }, Math.max(start, dates.start))
    end = start
  }
  const [line] = licensedLines(ctx, owner, item, { start: dates.start, end: dates.now })
  return line === undefined ? [] : [{ ...line, amount, subtotal: amount }]
}

/** `POST /v1/invoices/create_preview`: the change is made, its invoice read, and everything undone. */
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import type { Store } from '../../engine/store.ts'
import type { Params } from '../../wire.gen.ts'
import type { Announce } from '../announce.ts'
import { redeemDiscounts } from '../catalog/discount-rules.ts'
import { addressOf } from '../customers/address.ts'
import { blankCustomer, shippingDetails } from '../customers/customers.ts'
import { creditUnusedTime, lastInvoice } from '../subscriptions/cancel.ts'
import { changeSubscription, type UpdateParams } from '../subscriptions/change.ts'
import { firstInvoice, storeNew } from '../subscriptions/create.ts'
import { nextRenewalOf } from '../subscriptions/items-params.ts'
import { prepareResumption, type ResumeParams } from '../subscriptions/pause.ts'
import type { StoredSchedule } from '../subscriptions/schedule-phases.ts'
import { creationParams } from '../subscriptions/schedule-run.ts'
import { draftSchedule, updateSchedule } from '../subscriptions/schedule-write.ts'
import { isEnded, type StoredSubscription } from '../subscriptions/stored.ts'
import { automaticTaxOf, keepRates, refuseManualRates } from '../tax/automatic-tax.ts'
import { composeInvoice, type StoredInvoice, totalsPatch } from './compose.ts'
import { addOneOffInvoiceItem, firstCurrencyOf } from './item-params.ts'
import { linesOfItems, pendingItems } from './item-store.ts'
import { handSetRates } from './manual.ts'
import { previewRenewal, upcoming } from './upcoming.ts'

export const PREVIEW_TAKES = [
  'automatic_tax',
  'currency',
  'customer',
  'customer_details',
  'discounts',
  'invoice_items',
  'preview_mode',
  'schedule',
  'schedule_details',
  'subscription',
  'subscription_details',
] as const

type PreviewParams = Pick<Params['POST /v1/invoices/create_preview'], (typeof PREVIEW_TAKES)[number]>
type Details = NonNullable<PreviewParams['subscription_details']>

const silently: Announce = () => {}

/** The invoice that would be, presented; nothing stays. Throws `invoice_upcoming_none` when there would be none. */
export function previewInvoice(ctx: Ctx, params: PreviewParams): Record<string, unknown> {
  const { presented, rates } = ctx.rehearse(() => {
    const invoice = withOverrides(ctx, rehearsedInvoice(ctx, params), params)
    keepLines(ctx.store, invoice)
    const named = (invoice.total_taxes ?? []).flatMap(({ tax_rate_details: details }) => details?.tax_rate ?? [])
    return { presented: ctx.present(invoice), rates: named.map((rate) => ctx.require('tax_rate', rate)) }
  })
  keepRates(ctx, rates)
  return presented
}

const PREVIEWS_KEPT = 100
const lines = new WeakMap<Store, Map<string, StoredInvoice['_']['lines']>>()

/** A preview brings its first lines and says where all of them are: those of the last previews are kept for whoever goes there. */
function keepLines(store: Store, { id, _ }: StoredInvoice): void {
  const kept = lines.get(store) ?? new Map<string, StoredInvoice['_']['lines']>()
  lines.set(store, kept.set(id, _.lines))
  if (kept.size > PREVIEWS_KEPT) kept.delete(kept.keys().next().value!)
}

/** The lines of an invoice, or of a preview that was just made. Throws `resource_missing`. */
export function linesOf(ctx: Ctx, id: string): StoredInvoice['_']['lines'] {
  return lines.get(ctx.store)?.get(id) ?? ctx.require('invoice', id)._.lines
}

function rehearsedInvoice(ctx: Ctx, params: PreviewParams): StoredInvoice {
  const details = params.subscription_details
  if (params.subscription !== undefined) {
    const subscription = ctx.require('subscription', params.subscription, 'subscription')
    addItems(ctx, params, subscription.customer, subscription)
    return orNone(ofSubscription(ctx, subscription, details, params), subscription.customer)
  }
  if (params.schedule_details !== undefined) return ofSchedule(ctx, plannedSchedule(ctx, params, params.schedule_details), params)
  if (params.schedule !== undefined)
    return ofSchedule(ctx, ctx.require('subscription_schedule', params.schedule, 'schedule'), params)
  const customer = params.customer ?? transientCustomer(ctx, params)
  if (details?.items !== undefined) return orNone(ofNewSubscription(ctx, customer, details, params), customer)
  addItems(ctx, params, customer, null)
  return orNone(ofCustomer(ctx, customer, params), customer)
}

/** The schedule as it would be with these details: an existing one changed, or a new one that has not begun. */
function plannedSchedule(
  ctx: Ctx,
  params: PreviewParams,
  details: NonNullable<PreviewParams['schedule_details']>,
): StoredSchedule {
  const { billing_mode: mode, pause_schedules: _pauses, phases, end_behavior: end, proration_behavior: proration } = details
  const given = {
    ...(phases === undefined ? {} : { phases }),
    ...(end === undefined ? {} : { end_behavior: end }),
  }
  if (params.schedule !== undefined) {
    return updateSchedule(ctx, params.schedule, {
      ...given,
      ...(proration === undefined ? {} : { proration_behavior: proration }),
    })
  }
  const customer = params.customer ?? transientCustomer(ctx, params)
  return draftSchedule(ctx, { customer, ...(mode === undefined ? {} : { billing_mode: mode }), ...given })
}

/** A running schedule's next invoice, or the first one of a schedule that has not begun. */
function ofSchedule(ctx: Ctx, schedule: StoredSchedule, params: PreviewParams): StoredInvoice {
  if (schedule.subscription !== null) {
    const subscription = ctx.require('subscription', schedule.subscription)
    addItems(ctx, params, subscription.customer, subscription)
    return orNone(ofSubscription(ctx, subscription, undefined, params), subscription.customer)
  }
  const [phase] = schedule.phases
  if (schedule.status !== 'not_started' || phase === undefined) return orNone(null, schedule.customer)
  const { subscription, lines } = storeNew(ctx, creationParams(ctx, schedule, phase), schedule.customer)
  const taken = pendingItems(ctx, schedule.customer, { subscription: subscription.id, currency: subscription.currency })
  return orNone(firstInvoice(ctx, subscription, lines, taken, true), schedule.customer)
}

function orNone(invoice: StoredInvoice | null, customer: string): StoredInvoice {
  if (invoice !== null) return invoice.id.startsWith('upcoming_') ? invoice : upcoming(invoice)
  throw invalidRequest(`No upcoming invoices for customer: ${customer}`, { code: 'invoice_upcoming_none' })
}

function ofSubscription(
  ctx: Ctx,
  subscription: StoredSubscription,
  details: Details | undefined,
  params: PreviewParams,
): StoredInvoice | null {
  if (isEnded(subscription)) return null
  const now = ctx.nowOf(subscription)
  if (details?.cancel_now === true) {
    if (details.proration_behavior !== 'none') creditUnusedTime(ctx, subscription, details.proration_date ?? now)
    return lastInvoice(ctx, subscription, { usage: true, now, store: false })
  }
  if (details?.resume_at === 'now') return prepareResumption(ctx, subscription, resumeParams(details))
  const changed = details === undefined ? null : changeSubscription(ctx, subscription.id, updateParams(details), silently)
  if (params.preview_mode === 'recurring') return recurring(ctx, ctx.require('subscription', subscription.id))
  const next = changed?.invoice ?? previewRenewal(ctx, ctx.require('subscription', subscription.id))
  return next === null || details?.items === undefined ? next : withProrationDate(next, details.proration_date ?? now)
}

function resumeParams(details: Details): ResumeParams {
  const anchor = details.billing_cycle_anchor
  const type = typeof anchor === 'object' && anchor.type === 'unchanged' ? 'unchanged' : 'now'
  return {
    billing_cycle_anchor: { type },
    ...(details.proration_behavior === undefined ? {} : { proration_behavior: details.proration_behavior }),
    ...(details.proration_date === undefined ? {} : { proration_date: details.proration_date }),
  }
}

/** Previews alone say at which instant they prorated. */
function withProrationDate(invoice: StoredInvoice, at: number): StoredInvoice {
  const details = invoice.parent?.subscription_details ?? null
  if (invoice.parent === null || details === null) return invoice
  return { ...invoice, parent: { ...invoice.parent, subscription_details: { ...details, subscription_proration_date: at } } }
}

/** What a period costs by itself: without pending items. */
function recurring(ctx: Ctx, subscription: StoredSubscription): StoredInvoice | null {
  for (const item of pendingItems(ctx, subscription.customer, {
    subscription: subscription.id,
    currency: subscription.currency,
  })) {
    ctx.delete('invoiceitem', item.id)
  }
  return previewRenewal(ctx, ctx.update('subscription', subscription.id, { cancel_at: null }))
}

function updateParams(details: Details): UpdateParams {
  const anchor = details.billing_cycle_anchor
  if (typeof anchor === 'object' && anchor.type === 'timestamp') {
    throw invalidRequest('`timestamp` is only for subscriptions that do not exist yet.', {
      param: 'subscription_details[billing_cycle_anchor][type]',
    })
  }
  const type = typeof anchor === 'object' ? (anchor.type === 'now' ? ('now' as const) : ('unchanged' as const)) : undefined
  return {
    ...(details.items === undefined ? {} : { items: details.items }),
    ...(details.proration_behavior === undefined ? {} : { proration_behavior: details.proration_behavior }),
    ...(details.proration_date === undefined ? {} : { proration_date: details.proration_date }),
    ...(details.trial_end === undefined ? {} : { trial_end: details.trial_end }),
    ...(details.cancel_at === undefined ? {} : { cancel_at: details.cancel_at }),
    ...(details.cancel_at_period_end === undefined ? {} : { cancel_at_period_end: details.cancel_at_period_end }),
    ...(details.default_tax_rates === undefined ? {} : { default_tax_rates: details.default_tax_rates }),
    ...(type === undefined ? {} : { billing_cycle_anchor: { type } }),
  }
}

function ofNewSubscription(ctx: Ctx, customer: string, details: Details, params: PreviewParams): StoredInvoice | null {
  const anchor = details.billing_cycle_anchor
  const items = (details.items ?? []).map(
    ({ id: _id, deleted: _deleted, clear_usage: _clear, billing_thresholds: _thresholds, discounts, metadata, ...item }) => ({
      ...item,
      ...(discounts === undefined || discounts === '' ? {} : { discounts }),
      ...(metadata === undefined || metadata === '' ? {} : { metadata }),
    }),
  )
  const { subscription, lines } = storeNew(
    ctx,
    {
      items,
      ...(params.currency === undefined ? {} : { currency: params.currency }),
      ...(details.trial_end === undefined ? {} : { trial_end: details.trial_end }),
      ...(details.start_date === undefined ? {} : { backdate_start_date: details.start_date }),
      ...(details.proration_behavior === undefined ? {} : { proration_behavior: details.proration_behavior }),
      ...(details.billing_mode === undefined ? {} : { billing_mode: details.billing_mode }),
      ...(typeof anchor === 'object' && anchor.timestamp !== undefined ? { billing_cycle_anchor: anchor.timestamp } : {}),
      ...(details.default_tax_rates === undefined ? {} : { default_tax_rates: details.default_tax_rates }),
    },
    customer,
  )
  addItems(ctx, params, customer, subscription)
  const taken = pendingItems(ctx, customer, { subscription: subscription.id, currency: subscription.currency })
  const first = firstInvoice(ctx, subscription, lines, taken, false)
  if (params.preview_mode === 'recurring' || first === null) return recurring(ctx, ctx.require('subscription', subscription.id))
  return first
}

/** Items that wait for no subscription, else the next invoice among the customer's subscriptions. */
function ofCustomer(ctx: Ctx, customerId: string, params: PreviewParams): StoredInvoice | null {
  const customer = ctx.require('customer', customerId, 'customer')
  const running = ctx.store
    .by('subscription', 'customer', customerId)
    .filter((subscription) => !isEnded(subscription))
    .sort((left, right) => nextRenewalOf(left._.items) - nextRenewalOf(right._.items))
  for (const subscription of running) {
    const invoice = previewRenewal(ctx, subscription)
    if (invoice !== null) return invoice
  }
  const currency = params.currency?.toLowerCase() ?? customer.currency ?? 'usd'
  const items = pendingItems(ctx, customerId, { subscription: null, currency })
  if (items.length === 0) return null
  const now = ctx.now(customerId)
  return composeInvoice(ctx, {
    customer: customerId,
    subscription: null,
    lines: linesOfItems(ctx, items),
    currency,
    billingReason: 'upcoming',
    period: { start: now, end: now },
    collectionMethod: 'charge_automatically',
    autoAdvance: true,
    automaticallyFinalizesAt: null,
    discounts: [],
    defaultTaxRates: [],
    offSession: true,
    now,
  })
}

function addItems(ctx: Ctx, params: PreviewParams, customer: string, subscription: StoredSubscription | null): void {
  for (const [index, item] of (params.invoice_items ?? []).entries()) {
    if (item.invoiceitem !== undefined) {
      ctx.require('invoiceitem', item.invoiceitem, `invoice_items[${index}][invoiceitem]`)
      ctx.delete('invoiceitem', item.invoiceitem)
    }
    addOneOffInvoiceItem(ctx, item, {
      customer,
      subscription: subscription?.id ?? null,
      currency: subscription?.currency ?? firstCurrencyOf(ctx, customer, item),
      at: `invoice_items[${index}]`,
    })
  }
}

/** The invoice with what the preview alone supposes: discounts, tax, and who the customer is. */
function withOverrides(ctx: Ctx, invoice: StoredInvoice, params: PreviewParams): StoredInvoice {
  const { automatic_tax: tax, customer_details: details, discounts } = params
  if (tax === undefined && details === undefined && discounts === undefined) return invoice
  const changed = {
    ...invoice,
    ...supposedCustomer(details),
    automatic_tax: automaticTaxOf(invoice.automatic_tax, tax),
    discounts: discounts === undefined ? invoice.discounts : supposedDiscounts(ctx, invoice, discounts),
  }
  if (tax !== undefined) refuseManualRates(changed.automatic_tax, handSetRates(changed))
  return { ...changed, ...totalsPatch(ctx, changed, []) }
}

function supposedDiscounts(ctx: Ctx, invoice: StoredInvoice, asked: NonNullable<PreviewParams['discounts']>): string[] {
  if (asked === '' || invoice.customer === null) return []
  return redeemDiscounts(ctx, asked, { customer: invoice.customer, currency: invoice.currency, invoice: invoice.id })
}

function supposedCustomer(details: PreviewParams['customer_details']): Partial<StoredInvoice> {
  const { address, shipping, tax_exempt: exempt, tax_ids: taxIds } = details ?? {}
  return {
    ...(address === undefined ? {} : { customer_address: address === '' ? null : addressOf(address) }),
    ...(shipping === undefined ? {} : { customer_shipping: shipping === '' ? null : shippingDetails(shipping) }),
    ...(exempt === undefined ? {} : { customer_tax_exempt: exempt || 'none' }),
    ...(taxIds === undefined ? {} : { customer_tax_ids: taxIds }),
  }
}

/** A customer for previews that name none. */
function transientCustomer(ctx: Ctx, params: PreviewParams): string {
  if (params.customer_details === undefined) throw missing('customer')
  const id = ctx.newId('cus')
  ctx.create('customer', blankCustomer({ id, created: ctx.now(), invoicePrefix: 'PREVIEW', testClock: null }))
  return id
}

/** Phases of a schedule, from the parameters that describe them. */
import { addRecurrence, type Interval, type Recurrence } from '../../billing/periods.ts'
import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { isMetered, recurrenceOf } from '../catalog/price-terms.ts'
import {
  type AutomaticTaxParam,
  automaticTaxOf,
  noAutomaticTax,
  refuseManualRates,
  requireTaxPlace,
} from '../tax/automatic-tax.ts'
import { resolvePrice, resolveRecurringPrice } from './items-params.ts'
import type { StoredSubscription } from './stored.ts'

export type StoredSchedule = Stored<'subscription_schedule'>
export type Phase = StoredSchedule['phases'][number]
export type PhaseParam = NonNullable<Params['POST /v1/subscription_schedules/{id}']['phases']>[number]
type PhaseItem = Phase['items'][number]
type ItemParam = PhaseParam['items'][number]

/** Parts of phases that are not understood. */
export const PHASE_REFUSES = [
  'phases.application_fee_percent',
  'phases.automatic_tax.liability.account',
  'phases.billing_thresholds',
  'phases.items.billing_thresholds',
  'phases.on_behalf_of',
  'phases.transfer_data',
  'default_settings.application_fee_percent',
  'default_settings.automatic_tax.liability.account',
  'default_settings.billing_thresholds',
  'default_settings.on_behalf_of',
  'default_settings.transfer_data',
]

/**
 * Lays phases end to end from a start. A phase ends at its `end_date` or after its `duration`; the last one may name neither and
 * lasts one billing period. Source: docs.stripe.com/billing/subscriptions/subscription-schedules.
 */
export function layOutPhases(
  ctx: Ctx,
  params: readonly PhaseParam[],
  options: { start: number; now: number; currency: string | null; proration: Phase['proration_behavior'] },
): Phase[] {
  if (params.length === 0) throw missing('phases')
  let start = options.start
  return params.map((param, index) => {
    const at = `phases[${index}]`
    const phase = phaseOf(ctx, param, at, { ...options, start })
    const isLast = index === params.length - 1
    if (param.end_date === undefined && param.duration === undefined && !isLast) throw missing(`${at}[end_date]`)
    if (phase.end_date <= phase.start_date) {
      throw invalidRequest('The `end_date` of a phase must be after its `start_date`.', { param: `${at}[end_date]` })
    }
    start = phase.end_date
    return phase
  })
}

function phaseOf(
  ctx: Ctx,
  param: PhaseParam,
  at: string,
  options: { start: number; now: number; currency: string | null; proration: Phase['proration_behavior'] },
): Phase {
  const items = param.items.map((item, index) => phaseItem(ctx, item, `${at}[items][${index}]`))
  const [first] = items
  if (first === undefined) throw missing(`${at}[items]`)
  const price = ctx.require('price', first.price)
  const end = phaseEnd(param, options, recurrenceOf(price))
  return {
    add_invoice_items: (param.add_invoice_items ?? []).map((item, index) =>
      addedItem(ctx, item, `${at}[add_invoice_items][${index}]`),
    ),
    application_fee_percent: null,
    ...phaseTax(param.automatic_tax),
    billing_cycle_anchor: param.billing_cycle_anchor ?? null,
    billing_thresholds: null,
    collection_method: param.collection_method ?? null,
    currency: param.currency?.toLowerCase() ?? options.currency ?? price.currency,
    default_payment_method: param.default_payment_method ?? null,
    default_tax_rates: taxRates(ctx, param.default_tax_rates ?? []),
    description: orNull(param.description),
    discounts: discountStack(param.discounts ?? []),
    end_date: end,
    invoice_settings:
      param.invoice_settings === undefined
        ? null
        : {
            account_tax_ids: null,
            custom_fields: null,
            days_until_due: param.invoice_settings.days_until_due ?? null,
            description: null,
            footer: null,
            issuer: null,
          },
    items,
    metadata: mergeMetadata({}, param.metadata),
    on_behalf_of: null,
    proration_behavior: param.proration_behavior ?? options.proration,
    start_date: options.start,
    transfer_data: null,
    trial_end: param.trial === true ? end : typeof param.trial_end === 'number' ? param.trial_end : null,
  }
}

/** Automatic tax, where a phase or the settings of a schedule say anything of it. */
export function phaseTax(param: AutomaticTaxParam | undefined): Pick<Phase, 'automatic_tax'> {
  return param === undefined ? {} : { automatic_tax: automaticTaxOf(noAutomaticTax(), param) }
}

/** What a running subscription has of automatic tax, as its schedule holds it. */
export function taxOfSubscription({ automatic_tax: tax }: StoredSubscription): Pick<Phase, 'automatic_tax'> {
  return tax.enabled ? { automatic_tax: tax } : {}
}

/** Whether tax is automatic in a phase; undefined where nobody says so, and it stays as it was. */
export function taxIn({ default_settings: settings }: StoredSchedule, phase: Phase): { enabled: boolean } | undefined {
  return phase.automatic_tax ?? settings.automatic_tax
}

/** Phases with automatic tax need a customer of whom it is known where they are, and no rates that were set by hand. */
export function requireTaxable(ctx: Ctx, schedule: StoredSchedule): void {
  const subscription = schedule.subscription === null ? undefined : ctx.get('subscription', schedule.subscription)
  for (const phase of schedule.phases.slice(Math.max(schedule._.phase, 0))) {
    const tax = taxIn(schedule, phase)
    if (tax?.enabled === true) requireTaxPlace(ctx, schedule.customer)
    const rates = [phase.default_tax_rates, ...phase.items.map((item) => item.tax_rates)]
    const given = rates.map((list) => (list ?? []).map((rate) => rate.id))
    refuseManualRates(tax ?? subscription?.automatic_tax ?? noAutomaticTax(), given)
  }
}

function phaseEnd(param: PhaseParam, options: { start: number; now: number }, recurrence: Recurrence): number {
  if (param.end_date !== undefined && param.duration !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: duration, end_date.', { param: 'phases' })
  }
  if (param.end_date !== undefined) return param.end_date === 'now' ? options.now : param.end_date
  const { duration } = param
  if (duration === undefined) return addRecurrence(options.start, recurrence)
  return addRecurrence(options.start, { interval: duration.interval satisfies Interval, count: duration.interval_count ?? 1 })
}

function phaseItem(ctx: Ctx, param: ItemParam, at: string): PhaseItem {
  const price = resolveRecurringPrice(ctx, param, at)
  if (price === null) throw missing(`${at}[price]`)
  return {
    billing_thresholds: null,
    discounts: discountStack(param.discounts ?? []),
    metadata: mergeMetadata({}, param.metadata),
    plan: price.id,
    price: price.id,
    ...(isMetered(price) ? {} : { quantity: param.quantity ?? 1 }),
    tax_rates: taxRates(ctx, param.tax_rates ?? []),
  }
}

function addedItem(
  ctx: Ctx,
  param: NonNullable<PhaseParam['add_invoice_items']>[number],
  at: string,
): Phase['add_invoice_items'][number] {
  const price = resolvePrice(ctx, param, at)
  if (price === null) throw missing(`${at}[price]`)
  return {
    discountable: param.discountable ?? null,
    discounts: discountStack(param.discounts ?? []),
    metadata: mergeMetadata({}, param.metadata),
    period: param.period ?? { start: { type: 'phase_start' }, end: { type: 'phase_end' } },
    price: price.id,
    quantity: param.quantity ?? 1,
    tax_rates: taxRates(ctx, param.tax_rates ?? []),
  }
}

type DiscountParams = '' | ReadonlyArray<{ coupon?: string; discount?: string; promotion_code?: string }>

function discountStack(params: DiscountParams): Phase['discounts'] {
  if (params === '') return []
  return params.map(({ coupon, discount, promotion_code }) => ({
    coupon: coupon ?? null,
    discount: discount ?? null,
    promotion_code: promotion_code ?? null,
  }))
}

/** The stack as parameters again. */
export function discountParams(
  stack: Phase['discounts'],
): Array<{ coupon?: string; discount?: string; promotion_code?: string }> {
  return stack.map(({ coupon, discount, promotion_code }) => ({
    ...(coupon === null ? {} : { coupon }),
    ...(discount === null ? {} : { discount }),
    ...(promotion_code === null ? {} : { promotion_code }),
  }))
}

function taxRates(ctx: Ctx, ids: '' | readonly string[]): NonNullable<Phase['default_tax_rates']> {
  return ids === '' ? [] : ids.map((id) => ctx.require('tax_rate', id, 'tax_rates'))
}

/** The phase that a running subscription is in: its items until the end of its period. */
export function phaseOfSubscription(ctx: Ctx, subscription: StoredSubscription, span: { start: number; end: number }): Phase {
  return {
    add_invoice_items: [],
    application_fee_percent: null,
    ...taxOfSubscription(subscription),
    billing_cycle_anchor: null,
    billing_thresholds: null,
    collection_method: null,
    currency: subscription.currency,
    default_payment_method: null,
    default_tax_rates: subscription.default_tax_rates.map((id) => ctx.require('tax_rate', id)),
    description: subscription.description,
    discounts: subscription.discounts.map((discount) => ({ coupon: null, discount, promotion_code: null })),
    end_date: span.end,
    invoice_settings: null,
    items: subscription._.items.map((item) => itemOfSubscription(ctx, item)),
    metadata: subscription.metadata,
    on_behalf_of: null,
    proration_behavior: 'create_prorations',
    start_date: span.start,
    transfer_data: null,
    trial_end: subscription.status === 'trialing' ? subscription.trial_end : null,
  }
}

/** A subscription's item as a phase holds it. */
export function itemOfSubscription(ctx: Ctx, item: StoredSubscriptionItem): PhaseItem {
  return {
    billing_thresholds: null,
    discounts: item.discounts.map((discount) => ({ coupon: null, discount, promotion_code: null })),
    metadata: item.metadata,
    plan: item.price,
    price: item.price,
    ...(item.quantity === undefined ? {} : { quantity: item.quantity }),
    tax_rates: item.tax_rates.map((id) => ctx.require('tax_rate', id)),
  }
}

/** The schedule that manages a subscription. */
export function scheduleOf(ctx: Ctx, { schedule: id }: StoredSubscription): StoredSchedule | undefined {
  const schedule = id === null ? undefined : ctx.get('subscription_schedule', id)
  return schedule?.status === 'active' ? schedule : undefined
}

/** The running phase of a subscription's schedule holds the items that the subscription has. */
export function followInSchedule(ctx: Ctx, subscription: StoredSubscription): void {
  const schedule = scheduleOf(ctx, subscription)
  if (schedule === undefined) return
  const items = subscription._.items.map((item) => itemOfSubscription(ctx, item))
  const phases = schedule.phases.map((phase, index) => (index === schedule._.phase ? { ...phase, items } : phase))
  ctx.change('subscription_schedule', schedule.id, { phases }, 'subscription_schedule.updated')
}

/** Running a schedule: it starts, moves from phase to phase, and ends. */
import { phaseKeepsItemIds } from '../../billing/inferred.ts'
import { DAY_SECONDS } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import { timeRule } from '../../engine/module.ts'
import { defaultPaymentMethod } from '../../payments/payment-methods.ts'
import { announceDifference, announceNow, LaterEvents } from '../announce.ts'
import { isDiscountRunning } from '../catalog/discount-rules.ts'
import { recurrenceOf } from '../catalog/price-terms.ts'
import { dropPendingUpdate } from '../invoices/end.ts'
import { cancelAtTheEnd } from './cancel.ts'
import { changeSubscription, type UpdateParams } from './change.ts'
import { createSubscription } from './create.ts'
import { cancellationPatch } from './fields.ts'
import type { ItemParam } from './item-changes.ts'
import { nextRenewalOf } from './items-params.ts'
import type { CreateParams } from './lay-out.ts'
import { discountParams, type Phase, type StoredSchedule, taxIn } from './schedule-phases.ts'
import { isEnded, type StoredSubscription } from './stored.ts'
import { collectChange } from './update.ts'

type PhaseItem = Phase['items'][number]

/** Starts a schedule with its first phase: its subscription is created. */
export function startSchedule(ctx: Ctx, id: string): StoredSchedule {
  const schedule = ctx.require('subscription_schedule', id)
  const [phase] = schedule.phases
  if (phase === undefined) throw new Error(`Schedule ${id} has no phase`)
  const subscription = createSubscription(ctx, creationParams(ctx, schedule, phase), { schedule: id })
  const started = ctx.change(
    'subscription_schedule',
    id,
    {
      status: 'active',
      subscription: subscription.id,
      current_phase: { start_date: phase.start_date, end_date: phase.end_date },
      _: { phase: 0, expiryAnnounced: null },
    },
    'subscription_schedule.updated',
  )
  planEnd(ctx, started)
  return started
}

/** What creates the subscription of a phase. */
export function creationParams(ctx: Ctx, schedule: StoredSchedule, phase: Phase): CreateParams {
  const now = ctx.nowOf(schedule)
  const settings = schedule.default_settings
  const collection = phase.collection_method ?? settings.collection_method ?? 'charge_automatically'
  const method = phase.default_payment_method ?? settings.default_payment_method ?? null
  const canPay = collection === 'send_invoice' || method !== null || defaultPaymentMethod(ctx, schedule.customer, null) !== null
  const days = phase.invoice_settings?.days_until_due ?? settings.invoice_settings.days_until_due ?? 30
  const description = phase.description ?? settings.description
  const tax = taxIn(schedule, phase)
  return {
    customer: schedule.customer,
    currency: phase.currency,
    items: phase.items.map(itemParam),
    add_invoice_items: addedItems(phase),
    ...(tax === undefined ? {} : { automatic_tax: { enabled: tax.enabled } }),
    billing_mode: { type: schedule.billing_mode.type },
    collection_method: collection,
    ...(collection === 'send_invoice' ? { days_until_due: days } : {}),
    ...(method === null ? {} : { default_payment_method: method }),
    ...(description === null ? {} : { description }),
    default_tax_rates: (phase.default_tax_rates ?? []).map((rate) => rate.id),
    discounts: discountParams(phase.discounts),
    metadata: phase.metadata ?? {},
    off_session: true,
    payment_behavior: canPay ? 'allow_incomplete' : 'default_incomplete',
    ...(phase.start_date < now ? { backdate_start_date: phase.start_date } : {}),
    ...(phase.trial_end !== null && phase.trial_end > now ? { trial_end: phase.trial_end } : {}),
    proration_behavior: phase.proration_behavior,
  }
}

function itemParam(item: PhaseItem): NonNullable<CreateParams['items']>[number] {
  return {
    price: item.price,
    ...(item.quantity === undefined ? {} : { quantity: item.quantity }),
    metadata: item.metadata ?? {},
    discounts: discountParams(item.discounts),
    tax_rates: (item.tax_rates ?? []).map((rate) => rate.id),
  }
}

function addedItems(phase: Phase): NonNullable<CreateParams['add_invoice_items']> {
  return phase.add_invoice_items.map((item) => ({
    price: item.price,
    quantity: item.quantity ?? 1,
    discountable: item.discountable ?? true,
    discounts: discountParams(item.discounts),
    metadata: item.metadata ?? {},
    tax_rates: (item.tax_rates ?? []).map((rate) => rate.id),
  }))
}

/** A schedule that ends by canceling shows its subscription's end from the start. */
export function planEnd(ctx: Ctx, schedule: StoredSchedule): void {
  const subscription = schedule.subscription === null ? undefined : ctx.get('subscription', schedule.subscription)
  const last = schedule.phases.at(-1)
  if (subscription === undefined || last === undefined || isEnded(subscription)) return
  const at = schedule.end_behavior === 'cancel' ? last.end_date : null
  if (subscription.cancel_at === at || (at === null && subscription.cancel_at_period_end)) return
  const patch = at === null ? goesOn(ctx, subscription) : { cancel_at: at }
  ctx.change('subscription', subscription.id, patch, 'customer.subscription.updated')
}

/** An end that was planned is no more. */
function goesOn(ctx: Ctx, subscription: StoredSubscription): Partial<StoredSubscription> {
  return cancellationPatch(subscription, { cancel_at: '' }, ctx.nowOf(subscription))
}

/** The current phase is over: the next one begins, or the schedule ends. */
function leavePhase(ctx: Ctx, schedule: StoredSchedule): void {
  const next = schedule.phases[schedule._.phase + 1]
  if (next === undefined) {
    endSchedule(ctx, schedule)
    return
  }
  const subscription = schedule.subscription === null ? undefined : ctx.get('subscription', schedule.subscription)
  if (subscription === undefined || isEnded(subscription)) {
    cancelSchedule(ctx, schedule)
    return
  }
  // Source: docs.stripe.com/billing/subscriptions/pending-updates (pending updates and subscription schedules).
  dropPendingUpdate(ctx, subscription)
  enterPhase(ctx, schedule, ctx.require('subscription', subscription.id), next, next.proration_behavior)
  ctx.change(
    'subscription_schedule',
    schedule.id,
    {
      current_phase: { start_date: next.start_date, end_date: next.end_date },
      _: { ...schedule._, phase: schedule._.phase + 1 },
    },
    'subscription_schedule.updated',
  )
}

/** Gives a subscription the items and settings of a phase. At the end of a period nothing is prorated: the renewal bills it. */
export function enterPhase(
  ctx: Ctx,
  schedule: StoredSchedule,
  subscription: StoredSubscription,
  phase: Phase,
  proration: Phase['proration_behavior'],
): void {
  const now = ctx.nowOf(subscription)
  const isBoundary = nextRenewalOf(subscription._.items) <= now
  const items = itemChanges(subscription, phase)
  const resets = resetsAnchor(ctx, schedule, subscription, phase)
  const trialEnd = phase.trial_end !== null && phase.trial_end > now ? phase.trial_end : null
  const params: UpdateParams = {
    items,
    proration_behavior: isBoundary && !resets ? 'none' : proration,
    metadata: { ...subscription.metadata, ...phase.metadata },
    ...(resets && trialEnd === null ? anchorReset(subscription, now) : {}),
    ...(trialEnd === null || trialEnd === subscription.trial_end ? {} : { trial_end: trialEnd }),
    ...discountsOf(ctx, subscription, phase, now),
    ...settingsOf(schedule, phase),
  }
  const shown = ctx.present(subscription)
  const events = new LaterEvents(ctx)
  const change = changeSubscription(ctx, subscription.id, { ...params, add_invoice_items: addedItems(phase) }, events.announce)
  announceDifference(ctx, announceNow(ctx), 'customer.subscription.updated', change.after, shown)
  events.flush()
  if (change.invoice === null) return
  ctx.emit('invoice.created', change.invoice)
  const canPay = defaultPaymentMethod(ctx, subscription.customer, subscription.id) !== null
  collectChange(ctx, change.after, change.invoice, {
    off_session: true,
    payment_behavior: canPay ? 'allow_incomplete' : 'default_incomplete',
  })
}

/**
 * A phase has the discounts that it names and no others; one that is over by then is not given again.
 * Source: docs.stripe.com/api/subscription_schedules/update (phases.discounts).
 */
function discountsOf(ctx: Ctx, subscription: StoredSubscription, phase: Phase, now: number): Pick<UpdateParams, 'discounts'> {
  const named = phase.discounts.filter(({ discount }) => {
    const found = discount === null ? undefined : ctx.get('discount', discount)
    return found === undefined || isDiscountRunning(found, now)
  })
  if (named.length > 0) return { discounts: discountParams(named) }
  return subscription.discounts.length === 0 ? {} : { discounts: '' }
}

/** A running trial keeps its end as the anchor; one that is over now ends with the reset. */
function anchorReset(subscription: StoredSubscription, now: number): Partial<UpdateParams> {
  if (subscription.status !== 'trialing' || subscription.trial_end === null) return { billing_cycle_anchor: { type: 'now' } }
  return subscription.trial_end <= now ? { trial_end: 'now' } : {}
}

function settingsOf(schedule: StoredSchedule, phase: Phase): Partial<UpdateParams> {
  const settings = schedule.default_settings
  const method = phase.default_payment_method ?? settings.default_payment_method ?? null
  const collection = phase.collection_method ?? settings.collection_method ?? null
  const days = phase.invoice_settings?.days_until_due ?? settings.invoice_settings.days_until_due ?? 30
  const tax = taxIn(schedule, phase)
  return {
    ...(tax === undefined ? {} : { automatic_tax: { enabled: tax.enabled } }),
    ...(method === null ? {} : { default_payment_method: method }),
    ...(collection === null ? {} : { collection_method: collection }),
    ...(collection === 'send_invoice' ? { days_until_due: days } : {}),
    ...(phase.description === null ? {} : { description: phase.description }),
    default_tax_rates: (phase.default_tax_rates ?? []).map((rate) => rate.id),
  }
}

/** `automatic` moves the anchor when the interval changes, `phase_start` always. */
function resetsAnchor(ctx: Ctx, schedule: StoredSchedule, subscription: StoredSubscription, phase: Phase): boolean {
  const anchor = phase.billing_cycle_anchor ?? schedule.default_settings.billing_cycle_anchor
  if (anchor === 'phase_start') return true
  const intervals = (prices: readonly string[]): string =>
    [...new Set(prices.map((price) => JSON.stringify(recurrenceOf(ctx.require('price', price)))))].sort().join()
  return intervals(subscription._.items.map((item) => item.price)) !== intervals(phase.items.map((item) => item.price))
}

/** Items with the same price stay; the others are swapped in order, and what is left over is added or removed. */
function itemChanges(subscription: StoredSubscription, phase: Phase): ItemParam[] {
  const wanted = [...phase.items]
  const changes: ItemParam[] = []
  const spare: string[] = []
  for (const item of subscription._.items) {
    const position = wanted.findIndex((candidate) => candidate.price === item.price)
    const [match] = position < 0 ? [] : wanted.splice(position, 1)
    if (match === undefined) spare.push(item.id)
    else changes.push({ id: item.id, ...changedFields(match) })
  }
  for (const item of wanted) {
    const id = phaseKeepsItemIds() ? spare.shift() : undefined
    changes.push(id === undefined ? itemParam(item) : { id, price: item.price, ...changedFields(item) })
  }
  return [...changes, ...spare.map((id) => ({ id, deleted: true }))]
}

function changedFields(item: PhaseItem): ItemParam {
  return {
    ...(item.quantity === undefined ? {} : { quantity: item.quantity }),
    metadata: item.metadata ?? {},
    ...(item.discounts.length === 0 ? {} : { discounts: discountParams(item.discounts) }),
  }
}

function endSchedule(ctx: Ctx, schedule: StoredSchedule): void {
  if (schedule.end_behavior === 'cancel') {
    completeSchedule(ctx, schedule)
    return
  }
  if (schedule.end_behavior === 'renew') {
    renewSchedule(ctx, schedule)
    return
  }
  releaseSchedule(ctx, schedule, false)
}

function completeSchedule(ctx: Ctx, schedule: StoredSchedule): void {
  if (schedule.subscription !== null && ctx.require('subscription', schedule.subscription).ended_at === null) {
    ctx.update('subscription', schedule.subscription, { schedule: null })
    cancelAtTheEnd(ctx, ctx.require('subscription', schedule.subscription))
  }
  const completed = ctx.update('subscription_schedule', schedule.id, {
    status: 'completed',
    completed_at: ctx.nowOf(schedule),
    current_phase: null,
  })
  ctx.emit('subscription_schedule.completed', completed)
}

/** The last phase begins again, as long as it was. */
function renewSchedule(ctx: Ctx, schedule: StoredSchedule): void {
  const last = schedule.phases.at(-1)
  if (last === undefined) return
  const again = {
    ...last,
    start_date: last.end_date,
    end_date: last.end_date + (last.end_date - last.start_date),
    trial_end: null,
  }
  ctx.change(
    'subscription_schedule',
    schedule.id,
    {
      phases: [...schedule.phases, again],
      current_phase: { start_date: again.start_date, end_date: again.end_date },
      _: { ...schedule._, phase: schedule.phases.length },
    },
    'subscription_schedule.updated',
  )
}

/** Leaves the subscription as it is, without a schedule. */
export function releaseSchedule(ctx: Ctx, schedule: StoredSchedule, keepsCancelDate: boolean): StoredSchedule {
  const { subscription } = schedule
  const released = ctx.update('subscription_schedule', schedule.id, {
    status: 'released',
    released_at: ctx.nowOf(schedule),
    released_subscription: subscription,
    subscription: null,
    current_phase: null,
  })
  if (subscription !== null) {
    const held = ctx.require('subscription', subscription)
    const isKept = keepsCancelDate || held.cancel_at === null || held.cancel_at_period_end
    const patch = isKept ? { schedule: null } : { schedule: null, ...goesOn(ctx, held) }
    ctx.change('subscription', subscription, patch, 'customer.subscription.updated')
  }
  ctx.emit('subscription_schedule.released', released)
  return released
}

/** Ends a schedule whose subscription is canceled. */
export function cancelSchedule(ctx: Ctx, schedule: StoredSchedule): StoredSchedule {
  const canceled = ctx.update('subscription_schedule', schedule.id, {
    status: 'canceled',
    canceled_at: ctx.nowOf(schedule),
    current_phase: null,
  })
  ctx.emit('subscription_schedule.canceled', canceled)
  return canceled
}

/** `subscription_schedule.expiring` comes this long before the last phase ends. */
const EXPIRING_SECONDS = 7 * DAY_SECONDS

function expiringAt(schedule: StoredSchedule): number | null {
  const last = schedule.phases.at(-1)
  if (schedule.status !== 'active' || last === undefined || schedule._.expiryAnnounced === last.end_date) return null
  return Math.max(last.end_date - EXPIRING_SECONDS, last.start_date)
}

export const scheduleRules = [
  timeRule({
    name: 'subscription schedule: start',
    object: 'subscription_schedule',
    order: 9,
    due: (schedule) => (schedule.status === 'not_started' ? (schedule.phases[0]?.start_date ?? null) : null),
    run: (schedule, ctx) => {
      startSchedule(ctx, schedule.id)
    },
  }),
  timeRule({
    name: 'subscription schedule: leave the phase',
    object: 'subscription_schedule',
    order: 10,
    due: (schedule) => (schedule.status === 'active' ? (schedule.current_phase?.end_date ?? null) : null),
    run: (schedule, ctx) => leavePhase(ctx, schedule),
  }),
  timeRule({
    name: 'subscription schedule: announce its end',
    object: 'subscription_schedule',
    order: 41,
    due: expiringAt,
    run: (schedule, ctx) => {
      const last = schedule.phases.at(-1)
      const expiring = ctx.update('subscription_schedule', schedule.id, {
        _: { ...schedule._, expiryAnnounced: last?.end_date ?? null },
      })
      ctx.emit('subscription_schedule.expiring', expiring)
    },
  }),
]

/**
 * A change of a subscription, made up to the invoice that it asks for: what `update` then collects and what a preview shows.
 * Source: docs.stripe.com/billing/subscriptions/change, docs.stripe.com/billing/subscriptions/prorations.
 */
import { describeRemainingTime } from '../../billing/descriptions.ts'
import {
  intervalChangeInvoicesNow,
  intervalChangeResetsAnchor,
  refusesAnchorResetInTrial,
  resetBillsUsage,
} from '../../billing/inferred.ts'
import { type Anchor, DAY_SECONDS, type Span } from '../../billing/periods.ts'
import { debitsBefore, prorateSpan } from '../../billing/proration.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredLine, StoredSubscriptionItem } from '../../model/billing.ts'
import type { Params } from '../../wire.gen.ts'
import { type Announce } from '../announce.ts'
import { markDiscountEnded, redeemDiscounts } from '../catalog/discount-rules.ts'
import { isMetered } from '../catalog/price-terms.ts'
import { composeInvoice, type StoredInvoice } from '../invoices/compose.ts'
import { addOneOffItems, createInvoiceItem, linesOfItems, pendingItems } from '../invoices/item-store.ts'
import { licensedLines, trialLine } from '../invoices/lines.ts'
import { refuseManualRates } from '../tax/automatic-tax.ts'
import { inheritedDiscounts } from './create.ts'
import { storeInvoice } from './debits.ts'
import { cancellationPatch, fieldsPatch, handSetRates, SHARED_TAKES } from './fields.ts'
import { changeItems, type ItemChanges } from './item-changes.ts'
import { anchorOf, checkItems, itemPeriod, sharedPeriodOf, withPeriod } from './items-params.ts'
import { creditItem, describedProduct, discountedAmount, prorationFields } from './prorations.ts'
import { usageLines } from './renewal.ts'
import type { StoredSubscription } from './stored.ts'

export const UPDATE_TAKES = [
  ...SHARED_TAKES,
  'billing_cycle_anchor',
  'cancellation_details',
  'pause_collection',
  'proration_date',
] as const

export type UpdateParams = Pick<Params['POST /v1/subscriptions/{id}'], (typeof UPDATE_TAKES)[number]>

/** What a change came to: the subscription is stored as changed, the invoice is a stored draft. */
export interface Change {
  readonly before: StoredSubscription
  readonly after: StoredSubscription
  readonly invoice: StoredInvoice | null
}

/** How the dates move. */
interface Moves {
  readonly now: number
  readonly prorationDate: number
  /** All periods begin anew now. */
  readonly resets: boolean
  /** A trial that begins or is extended. */
  readonly trialEnd: number | null
  /** The running trial ends now. */
  readonly endsTrial: boolean
  readonly anchor: Anchor
}

/** Makes the change. Announces pending items to `announce`; the subscription and the invoice are for the caller to announce. */
export function changeSubscription(ctx: Ctx, id: string, params: UpdateParams, announce: Announce): Change {
  const before = ctx.require('subscription', id)
  const now = ctx.nowOf(before)
  const asked = movesOf(before, params, now)
  const items = changeItems(ctx, before, params.items ?? [], asked.anchor, now)
  const movesAnchor =
    items.changesInterval && before.status !== 'trialing' && intervalChangeResetsAnchor(before.billing_mode.type)
  const resets = asked.resets || movesAnchor
  const moves = { ...asked, resets, anchor: resets ? { at: asked.trialEnd ?? now } : asked.anchor }
  const changed = storeChange(ctx, before, params, items, moves)
  const behavior = params.proration_behavior ?? 'create_prorations'
  if (behavior !== 'none') prorateChanges(ctx, before, changed, items, moves, announce)
  if (behavior !== 'none' && items.changes.length === 0 && !resets) prorateCancelDate(ctx, before, changed, announce)
  const ended = endedUsage(ctx, before, items, { now, prorates: behavior !== 'none', resets: moves.resets })
  billEndedUsage(ctx, before, ended, now, announce)
  const invoice = invoiceOfChange(ctx, params, ctx.require('subscription', id), items, moves, announce)
  return { before, after: ctx.require('subscription', id), invoice }
}

function movesOf(subscription: StoredSubscription, params: UpdateParams, now: number): Moves {
  const isTrialing = subscription.status === 'trialing'
  const asked = params.trial_end
  const endsTrial = isTrialing && asked === 'now'
  const trialEnd = typeof asked === 'number' ? asked : null
  if (trialEnd !== null && trialEnd <= now) {
    throw invalidRequest('Invalid timestamp: must be an integer Unix timestamp in the future.', { param: 'trial_end' })
  }
  if (trialEnd !== null && trialEnd > now + 730 * DAY_SECONDS) {
    throw invalidRequest('Invalid timestamp: can be no more than two years in the future.', { param: 'trial_end' })
  }
  if (
    isTrialing &&
    !endsTrial &&
    trialEnd === null &&
    params.billing_cycle_anchor?.type === 'now' &&
    refusesAnchorResetInTrial()
  ) {
    throw invalidRequest(
      'The billing cycle of a trialing subscription begins with the end of its trial. Pass `trial_end=now` to end it.',
      {
        param: 'billing_cycle_anchor',
      },
    )
  }
  const resets = endsTrial || trialEnd !== null || params.billing_cycle_anchor?.type === 'now'
  const prorationDate = params.proration_date ?? now
  if (params.proration_date !== undefined) checkProrationDate(subscription, prorationDate)
  return { now, prorationDate, resets, trialEnd, endsTrial, anchor: resets ? { at: trialEnd ?? now } : anchorOf(subscription) }
}

function checkProrationDate(subscription: StoredSubscription, at: number): void {
  const start = Math.min(...subscription._.items.map((item) => item.current_period_start))
  const end = Math.max(...subscription._.items.map((item) => item.current_period_end))
  if (at < start || at > end) {
    throw invalidRequest('Cannot specify `proration_date` outside of current subscription period.', { param: 'proration_date' })
  }
}

function storeChange(
  ctx: Ctx,
  before: StoredSubscription,
  params: UpdateParams,
  items: ItemChanges,
  moves: Moves,
): StoredSubscription {
  checkItems(ctx, items.items, before.billing_mode.type, before.currency)
  const rolled = moves.resets ? items.items.map((item) => withPeriod(item, resetPeriod(ctx, item, moves))) : items.items
  const base: StoredSubscription = { ...before, _: { ...before._, items: rolled } }
  const patch: Partial<StoredSubscription> = {
    ...fieldsPatch(ctx, base, params),
    ...cancellationPatch(base, params, moves.now),
    ...discountsPatch(ctx, before, params),
    ...pausePatch(params),
    ...movesPatch(before, base, moves),
    metadata: mergeMetadata(before.metadata, params.metadata),
  }
  const anchorDay = moves.resets ? null : before._.anchorDay
  const changed = ctx.update('subscription', before.id, { ...patch, _: { ...before._, items: rolled, anchorDay } })
  refuseManualRates(changed.automatic_tax, handSetRates(changed, params.add_invoice_items))
  return changed
}

function resetPeriod(ctx: Ctx, item: StoredSubscriptionItem, moves: Moves): { start: number; end: number } {
  if (moves.trialEnd !== null) return { start: moves.now, end: moves.trialEnd }
  return itemPeriod(ctx, { at: moves.now }, item, moves.now)
}

function movesPatch(before: StoredSubscription, base: StoredSubscription, moves: Moves): Partial<StoredSubscription> {
  if (!moves.resets) return {}
  const atPeriodEnd = before.cancel_at_period_end
    ? { cancel_at: Math.max(...base._.items.map((item) => item.current_period_end)) }
    : {}
  const anchor = { billing_cycle_anchor: moves.anchor.at, ...atPeriodEnd }
  if (moves.endsTrial) return { ...anchor, status: 'active', trial_end: moves.now }
  if (moves.trialEnd === null) return anchor
  const restarts = before.status !== 'trialing'
  return { ...anchor, status: 'trialing', trial_end: moves.trialEnd, ...(restarts ? { trial_start: moves.now } : {}) }
}

function discountsPatch(ctx: Ctx, before: StoredSubscription, params: UpdateParams): Partial<StoredSubscription> {
  // An empty list leaves the discounts as they are; `''` clears them.
  if (params.discounts === undefined || (params.discounts !== '' && params.discounts.length === 0)) return {}
  const kept = params.discounts === '' ? [] : params.discounts
  const discounts = redeemDiscounts(ctx, kept, { customer: before.customer, currency: before.currency, subscription: before.id })
  for (const id of before.discounts) if (!discounts.includes(id)) markDiscountEnded(ctx, id)
  return { discounts }
}

function pausePatch(params: UpdateParams): Partial<StoredSubscription> {
  const pause = params.pause_collection
  if (pause === undefined) return {}
  return { pause_collection: pause === '' ? null : { behavior: pause.behavior, resumes_at: pause.resumes_at ?? null } }
}

/** Credits what is left of the old, debits what is left of the new; with new periods only the old is credited. */
function prorateChanges(
  ctx: Ctx,
  before: StoredSubscription,
  after: StoredSubscription,
  items: ItemChanges,
  moves: Moves,
  announce: Announce,
): void {
  if (before.status === 'trialing' || before.status === 'incomplete' || before.status === 'paused') return
  const credited = moves.resets
    ? before._.items
    : items.changes.flatMap((change) => (change.before === null ? [] : [change.before]))
  for (const item of credited) creditItem(ctx, before, item, moves.prorationDate, announce)
  dropCreditedDebits(ctx, after.id, credited, moves.prorationDate)
  if (moves.resets) return
  for (const { after: item } of items.changes) if (item !== null) debitItem(ctx, after, item, moves.prorationDate, announce)
}

function dropCreditedDebits(ctx: Ctx, id: string, credited: readonly StoredSubscriptionItem[], at: number): void {
  const ids = new Set(credited.map((item) => item.id))
  const subscription = ctx.require('subscription', id)
  const items = subscription._.items.map((item) =>
    ids.has(item.id) ? { ...item, _: { ...item._, debits: debitsBefore(item._.debits, at) } } : item,
  )
  ctx.update('subscription', id, { _: { ...subscription._, items } })
}

function debitItem(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
  at: number,
  announce: Announce,
): void {
  const end = Math.min(item.current_period_end, subscription.cancel_at ?? item.current_period_end)
  debitSpan(ctx, subscription, item, { start: Math.max(at, item.current_period_start), end }, announce)
}

function debitSpan(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
  rest: Span,
  announce: Announce,
): void {
  if (isMetered(ctx.require('price', item.price)) || rest.end <= rest.start) return
  const period = { start: item.current_period_start, end: item.current_period_end }
  const amount = prorateSpan(discountedAmount(ctx, subscription, item, rest.start), period, rest)
  const created = createInvoiceItem(
    ctx,
    {
      ...prorationFields(ctx, subscription, item),
      amount,
      description: describeRemainingTime(describedProduct(ctx, item), item.quantity ?? null, rest.start),
      period: rest,
      quantity: item.quantity ?? 1,
    },
    announce,
  )
  const current = ctx.require('subscription', subscription.id)
  const debit = {
    amount,
    period: rest,
    quantity: item.quantity ?? null,
    invoice: null,
    lines: [],
    invoiceItem: created.id,
    price: item.price,
  }
  const items = current._.items.map((member) =>
    member.id === item.id ? { ...member, _: { ...member._, debits: [...member._.debits, debit] } } : member,
  )
  ctx.update('subscription', subscription.id, { _: { ...current._, items } })
}

/**
 * A date to cancel at within the running period: the time after it is credited; it is debited again when the date moves or goes.
 * Source: docs.stripe.com/api/subscriptions/update (cancel_at).
 */
function prorateCancelDate(ctx: Ctx, before: StoredSubscription, after: StoredSubscription, announce: Announce): void {
  if (before.status === 'trialing' || before.cancel_at === after.cancel_at) return
  for (const item of after._.items) {
    const period = { start: item.current_period_start, end: item.current_period_end }
    const until = (cancelAt: number | null): number => Math.min(cancelAt ?? period.end, period.end)
    const [from, to] = [until(before.cancel_at), until(after.cancel_at)]
    if (to < from) {
      creditItem(ctx, before, item, to, announce)
      dropCreditedDebits(ctx, after.id, [item], to)
    }
    if (to > from) debitSpan(ctx, after, item, { start: from, end: to }, announce)
  }
}

/**
 * The metered items whose usage until now is billed with the next invoice: those removed or re-priced, unless nothing is to be
 * prorated (a period that is over is always billed), and all of them when their period begins anew. Classic mode bills none of it.
 * Source: docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup (update prices mid-cycle).
 */
function endedUsage(
  ctx: Ctx,
  before: StoredSubscription,
  items: ItemChanges,
  { now, prorates, resets }: { now: number; prorates: boolean; resets: boolean },
): StoredSubscriptionItem[] {
  if (before.billing_mode.type === 'classic' || before.status === 'trialing') return []
  return before._.items.filter((item) => {
    if (!isMetered(ctx.require('price', item.price)) || items.clearedUsage.has(item.id)) return false
    if (resets && resetBillsUsage()) return true
    const change = items.changes.find((each) => each.before?.id === item.id)
    const isGone = change !== undefined && change.after?.price !== item.price
    return isGone && (prorates || item.current_period_end <= now)
  })
}

function billEndedUsage(
  ctx: Ctx,
  before: StoredSubscription,
  ended: readonly StoredSubscriptionItem[],
  now: number,
  announce: Announce,
): void {
  for (const item of ended) {
    const price = ctx.require('price', item.price)
    const period = { start: item.current_period_start, end: now }
    for (const line of usageLines(ctx, before, item, price, period)) {
      if (line.amount === 0) continue
      createInvoiceItem(
        ctx,
        {
          ...prorationFields(ctx, before, item),
          proration: false,
          discountable: true,
          amount: line.amount,
          description: line.description,
          period,
          quantity: line.quantity ?? 1,
        },
        announce,
      )
    }
  }
}

/** The draft that the change asks for now; null when everything waits for the next renewal. */
function invoiceOfChange(
  ctx: Ctx,
  params: UpdateParams,
  subscription: StoredSubscription,
  items: ItemChanges,
  moves: Moves,
  announce: Announce,
): StoredInvoice | null {
  addOneOff(ctx, params, subscription, announce)
  const isInvoiced =
    params.proration_behavior === 'always_invoice' || moves.resets || (items.changesInterval && intervalChangeInvoicesNow())
  if (!isInvoiced || subscription.status === 'incomplete' || subscription.status === 'paused') return null
  const taken = pendingItems(ctx, subscription.customer, { subscription: subscription.id, currency: subscription.currency })
  const lines = [...linesOfItems(ctx, taken), ...resetLines(ctx, subscription, moves)]
  if (lines.length === 0) return null
  const start = Math.min(...subscription._.items.map((item) => item.current_period_start))
  const invoice = composeInvoice(ctx, {
    customer: subscription.customer,
    subscription,
    lines,
    currency: subscription.currency,
    billingReason: 'subscription_update',
    period: { start: moves.resets ? moves.now : start, end: moves.now },
    collectionMethod: subscription.collection_method,
    autoAdvance: true,
    automaticallyFinalizesAt: null,
    discounts: inheritedDiscounts(ctx, subscription),
    defaultTaxRates: subscription.default_tax_rates,
    offSession: params.off_session === true,
    now: moves.now,
  })
  return storeInvoice(ctx, subscription, invoice, taken)
}

function addOneOff(ctx: Ctx, params: UpdateParams, subscription: StoredSubscription, announce: Announce): void {
  const period = sharedPeriodOf(subscription._.items)
  const owner = { customer: subscription.customer, subscription: subscription.id, currency: subscription.currency, period }
  addOneOffItems(ctx, params.add_invoice_items ?? [], owner, announce)
}

/** New periods are billed in full at once; a trial is a line of nothing. */
function resetLines(ctx: Ctx, subscription: StoredSubscription, moves: Moves): StoredLine[] {
  if (!moves.resets) return []
  return subscription._.items.flatMap((item) => {
    if (isMetered(ctx.require('price', item.price))) return []
    const period = { start: item.current_period_start, end: item.current_period_end }
    return moves.trialEnd === null ? licensedLines(ctx, subscription, item, period) : [trialLine(ctx, subscription, item, period)]
  })
}

import type { Instant } from '../lib/clock.ts'
import { settleInvoice } from '../lib/money.ts'
import { anchoredMonthOf } from '../lib/period.ts'
import { requireGateway } from '../stripe/context.ts'
import type { InvoicePreview } from '../stripe/gateway/invoice-previews.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { newItems, switchedItems } from './items.ts'
import {
  ask,
  askForAny,
  billedByNow,
  chargedOf,
  dueByNow,
  totalsByNow,
  foretellAfter,
  foretellNext,
  staying,
  type NextInvoice,
  type Previewing,
  type Query,
} from './next-invoice.ts'
import type { CurrentSubscription, Discount, Offer, PlanChange, Terms } from './plan-change.ts'
import { discounted, trialEndOf } from './rules.ts'

/** What a plan change would mean, before it is made. Amounts are minor units of `currency`. */
export type PlanChangePreview = {
  readonly kind: PlanChange['kind']
  readonly direction: 'upgrade' | 'downgrade' | 'interval' | null
  readonly reason: string | null
  readonly from: Terms | null
  /** null when nothing is bought afterwards. */
  readonly to: Terms | null
  readonly effectiveAt: Instant | null
  readonly currency: string | null
  /** What is charged in the moment of the change. */
  readonly dueNowMinor: number
  /** What is credited for time that is not used, a positive number; it lowers later invoices. */
  readonly creditMinor: number
  readonly lines: readonly PreviewLine[]
  /** With all that will be on it, as far as it can be foretold; null where it cannot, and where none comes. */
  readonly nextInvoice: NextInvoice | null
  readonly trialEndsAt: Instant | null
  readonly cancelAt: Instant | null
  /** Send it back with the change, and the amounts are those of this preview. */
  readonly prorationAt: Instant
}

export type PreviewLine = {
  readonly description: string
  readonly amountMinor: number
  readonly proration: boolean
  readonly periodStart: Instant
  readonly periodEnd: Instant
}

/** Answers a plan change with the amounts that Stripe itself works out for it. Changes nothing. */
export async function previewPlanChange(previewing: Previewing, change: PlanChange): Promise<PlanChangePreview> {
  switch (change.kind) {
    case 'start':
      return previewStart(previewing, change)
    case 'switch_now':
      return previewSwitch(previewing, change)
    case 'switch_at_period_end':
      return previewLaterSwitch(previewing, change)
    case 'cancel_now':
      return previewCancel(previewing, change)
    case 'cancel_at_period_end': {
      const nextInvoice = await renewal(previewing, change.subscription, { ending: { cancelAtPeriodEnd: true } })
      const charges = nextInvoice !== null && nextInvoice.amountMinor > 0
      return {
        ...quiet(previewing, change),
        to: null,
        effectiveAt: change.at,
        cancelAt: change.at,
        nextInvoice: charges ? nextInvoice : null,
      }
    }
    case 'pause':
    case 'undo_switch':
      // While a schedule is there, Stripe foretells what it will have made of the subscription.
      return quiet(previewing, change)
    case 'undo_cancel': {
      // Of a pause there is no invoice until it ends.
      const comes = change.subscription.status !== 'paused'
      const nextInvoice = comes ? await renewal(previewing, change.subscription, { ending: staying(change.subscription) }) : null
      return { ...quiet(previewing, change), nextInvoice, cancelAt: null }
    }
    case 'resume':
      return previewResume(previewing, change)
    case 'none':
      return { ...nothing(previewing), reason: change.reason }
  }
}

function nothing({ now }: Previewing): PlanChangePreview {
  return {
    kind: 'none',
    direction: null,
    reason: null,
    from: null,
    to: null,
    effectiveAt: null,
    currency: null,
    dueNowMinor: 0,
    creditMinor: 0,
    lines: [],
    nextInvoice: null,
    trialEndsAt: null,
    cancelAt: null,
    // Stripe counts in whole seconds: the same second previewed and executed gives the same amounts.
    prorationAt: new Date(Math.floor(now.getTime() / 1000) * 1000),
  }
}

function termsOf({ planKey, interval, quantity }: CurrentSubscription): Terms {
  return { planKey, interval, quantity }
}

function quiet(
  previewing: Previewing,
  change: { kind: PlanChange['kind']; subscription: CurrentSubscription },
): PlanChangePreview {
  const { kind, subscription } = change
  const terms = termsOf(subscription)
  return {
    ...nothing(previewing),
    kind,
    from: terms,
    to: terms,
    effectiveAt: previewing.now,
    cancelAt: subscription.cancelAt,
    trialEndsAt: subscription.trialEndsAt,
  }
}

/** The next invoice of a subscription that stays what it is, or changes as `query` says; null where nobody can be invoiced. */
async function renewal(
  previewing: Previewing,
  subscription: CurrentSubscription,
  query: Omit<Query, 'customerId'> = {},
): Promise<NextInvoice | null> {
  const { customerId, invoiceItems } = previewing
  if (customerId === null) return null
  const subscriptionId = subscription.id
  return foretellNext(previewing, subscription.currentPeriodEnd, { ...query, customerId, subscriptionId, invoiceItems })
}

type Start = Extract<PlanChange, { kind: 'start' }>

async function previewStart(previewing: Previewing, { offer, quantity, trialDays, discount }: Start): Promise<PlanChangePreview> {
  const { context, customerId, now } = previewing
  const listed = discounted(offer.amountMinor * quantity, discount)
  const { dueMinor: priceMinor } = settleInvoice({ amountMinor: listed, currency: offer.currency })
  const started: PlanChangePreview = {
    ...nothing(previewing),
    kind: 'start',
    to: { planKey: offer.planKey, interval: offer.interval, quantity },
    effectiveAt: now,
    currency: offer.currency,
  }
  const items = newItems(offer, quantity)
  const { automaticTax } = context.policy
  const discounts = discount === null ? [] : [{ couponId: discount.couponId }]
  if (trialDays !== null) {
    const trialEndsAt = trialEndOf(now, trialDays)
    if (customerId === null) return { ...started, trialEndsAt, nextInvoice: { at: trialEndsAt, amountMinor: priceMinor } }
    const query: Query = { customerId, items, discounts, automaticTax, trialEndUnix: toUnix(trialEndsAt) }
    // A trial begins with an invoice of nothing, which asks for what the customer owes on their balance.
    const first = await ask(context, query)
    const nextInvoice = await foretellAfter(previewing, query, first, { withUse: false })
    return { ...started, trialEndsAt, dueNowMinor: chargedOf(first), nextInvoice }
  }
  // Nobody is a customer at Stripe before the first purchase: the price is all there is to know.
  if (customerId === null) return { ...started, dueNowMinor: priceMinor }
  const invoice = await ask(context, { customerId, items, discounts, automaticTax })
  const isLeft = await isLeftAtRenewal(previewing, discount, offer)
  const later = { customerId, items, discounts: isLeft ? discounts : [], automaticTax }
  return {
    ...started,
    ...amountsOf(invoice),
    nextInvoice: await foretellAfter(previewing, later, invoice, { withUse: false }),
  }
}

/** Whether a code takes something off the second invoice as well. */
async function isLeftAtRenewal(
  { context }: Previewing,
  discount: Discount | null,
  { interval, usagePriceIds }: Offer,
): Promise<boolean> {
  if (discount === null) return false
  const coupon = await requireGateway(context).reads.retrieveCoupon(discount.couponId)
  if (coupon === null || coupon.duration === 'once') return false
  // Use is billed by the month beside a year's fee too.
  const months = interval === 'monthly' || usagePriceIds.length > 0 ? 1 : 12
  return coupon.durationInMonths === null || coupon.durationInMonths > months
}

const STAYS_USED =
  'The credit is for the time that is left, whatever was used: what was used of the present allowance stays used, and beyond the smaller plan’s it is not charged. With at: "period_end" the smaller plan begins with the next period.'

type SwitchNow = Extract<PlanChange, { kind: 'switch_now' }>

async function previewSwitch(previewing: Previewing, change: SwitchNow): Promise<PlanChangePreview> {
  const { context, customerId, now, invoiceItems } = previewing
  const { subscription, offer, to, from, direction, invoiceNow } = change
  const base = {
    ...quiet(previewing, change),
    direction,
    from,
    to,
    effectiveAt: now,
    currency: offer.currency,
    cancelAt: change.undoesCancel ? null : subscription.cancelAt,
  }
  const items = switchedItems(subscription, offer, to.quantity)
  const ending = change.undoesCancel ? staying(subscription) : null
  const prorationBehavior = invoiceNow ? 'always_invoice' : 'create_prorations'
  if (subscription.status === 'trialing' || customerId === null) {
    return { ...base, nextInvoice: await renewal(previewing, subscription, { items, prorationBehavior, ending }) }
  }
  const newInterval = from.interval !== to.interval
  const query: Query = {
    customerId,
    subscriptionId: subscription.id,
    items,
    prorationBehavior,
    prorationAtUnix: toUnix(base.prorationAt),
    ending,
    invoiceItems,
  }
  // Another interval begins a new period at once, and its invoice comes with it; otherwise a smaller plan waits for the next one.
  if (!invoiceNow && !newInterval) {
    const invoice = await ask(context, query)
    const amountMinor = await dueByNow(previewing, invoice)
    const creditMinor = Math.max(0, -sum(invoice.lines.filter(({ proration }) => proration)))
    const nextInvoice = isForetold(change) ? { at: invoice.periodEnd, amountMinor } : null
    // EM-10 has it happen at once; what it leaves unpaid is said before.
    const reason = direction === 'downgrade' && from.planKey !== to.planKey ? STAYS_USED : null
    return { ...base, ...amountsOf(invoice), reason, dueNowMinor: 0, creditMinor, nextInvoice }
  }
  const foretold = await ask(context, query)
  // Use at prices that stay is for the next invoice, at prices that go for this one.
  const stays = subscription.usageItems.some(({ priceId }) => offer.usagePriceIds.includes(priceId))
  const invoice = stays ? foretold : await billedByNow(previewing, foretold)
  return {
    ...base,
    ...amountsOf(invoice),
    nextInvoice: isForetold(change) ? await foretellAfter(previewing, query, invoice, { withUse: stays }) : null,
  }
}

/** A schedule that is dropped, or an end within the period that is taken back, is still in what Stripe foretells. */
function isForetold({ subscription, undoesCancel, releasesScheduleId }: SwitchNow): boolean {
  const { cancelAt, currentPeriodEnd } = subscription
  return releasesScheduleId === null && !(undoesCancel && cancelAt !== null && cancelAt < currentPeriodEnd)
}

type SwitchLater = Extract<PlanChange, { kind: 'switch_at_period_end' }>

async function previewLaterSwitch(previewing: Previewing, change: SwitchLater): Promise<PlanChangePreview> {
  const { subscription, offer, to, from, direction, at } = change
  // Metered prices that go bill what was used until then, and those that come have nothing to bill: were they there now, months of use would begin.
  const items = [{ itemId: subscription.itemId, priceId: offer.priceId, quantity: to.quantity }]
  const ending = change.undoesCancel ? staying(subscription) : null
  // Stripe shows another interval as it would begin now, and a schedule that is there instead of what will be.
  const isForetellable = from.interval === to.interval && change.scheduleId === null
  return {
    ...quiet(previewing, change),
    direction,
    from,
    to,
    effectiveAt: at,
    currency: offer.currency,
    cancelAt: change.undoesCancel ? null : subscription.cancelAt,
    nextInvoice: isForetellable ? await renewal(previewing, subscription, { items, ending, prorationBehavior: 'none' }) : null,
  }
}

type CancelNow = Extract<PlanChange, { kind: 'cancel_now' }>

/** What is open is settled in the moment: what was used beyond the allowance, and what a change left for the next invoice. */
async function previewCancel(previewing: Previewing, change: CancelNow): Promise<PlanChangePreview> {
  const { context, customerId, now, invoiceItems } = previewing
  const { subscription } = change
  const base = { ...quiet(previewing, change), to: null, cancelAt: now }
  if (customerId === null || !['active', 'past_due', 'unpaid', 'paused'].includes(subscription.status)) return base
  const subscriptionId = subscription.id
  const query: Query = { customerId, subscriptionId, cancelNow: true, prorationBehavior: 'none', invoiceItems }
  const invoice = await askForAny(context, query)
  const totals = await totalsByNow(previewing, invoice)
  return { ...base, ...(invoice === null ? {} : amountsOf(invoice)), ...totals }
}

type Resume = Extract<PlanChange, { kind: 'resume' }>

/** Within the period that is paid for nothing is due; otherwise a new one begins, paid at once with all that the subscription has. */
async function previewResume(previewing: Previewing, change: Resume): Promise<PlanChangePreview> {
  const { context, customerId, now } = previewing
  const { subscription } = change
  const base = quiet(previewing, change)
  if (change.keepsPeriod) {
    const next = subscription.cancelAt === null ? await renewal(previewing, subscription) : null
    // The months in which use is billed beside a year's fee went on meanwhile; Stripe foretells the one in which it was paused.
    const isOver = next !== null && next.at <= now
    return { ...base, nextInvoice: isOver ? { ...next, at: anchoredMonthOf(subscription.currentPeriodStart, now).end } : next }
  }
  if (customerId === null) return { ...base, dueNowMinor: subscription.amountMinor * subscription.quantity }
  const { waitingInvoiceId } = subscription
  const waiting = waitingInvoiceId === null ? null : await requireGateway(context).reads.retrieveInvoice(waitingInvoiceId)
  if (waiting !== null) return { ...base, currency: waiting.currency, dueNowMinor: waiting.amountRemainingMinor }
  const invoice = await ask(context, { customerId, subscriptionId: subscription.id, resumesNow: true })
  return { ...base, ...amountsOf(invoice) }
}

function amountsOf(invoice: InvoicePreview): Pick<PlanChangePreview, 'currency' | 'dueNowMinor' | 'creditMinor' | 'lines'> {
  return {
    currency: invoice.currency,
    dueNowMinor: chargedOf(invoice),
    creditMinor: Math.max(0, -invoice.totalMinor),
    lines: invoice.lines.map(({ description, amountMinor, proration, periodStart, periodEnd }) => ({
      description: description ?? '',
      amountMinor,
      proration,
      periodStart,
      periodEnd,
    })),
  }
}

function sum(lines: readonly { amountMinor: number }[]): number {
  return lines.reduce((total, { amountMinor }) => total + amountMinor, 0)
}

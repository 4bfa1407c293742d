import type { Instant } from '../lib/clock.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { NEXT_INVOICE, type InvoicePreview, type InvoicePreviewQuery } from '../stripe/gateway.ts'
import { toUnix } from '../stripe/wire.ts'
import { newItems, switchedItems } from './items.ts'
import type { CurrentSubscription, PlanChange, Terms } from './plan-change.ts'
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
  readonly nextInvoice: { readonly at: Instant; readonly amountMinor: number } | null
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

type Previewing = { readonly context: BillingContext; readonly customerId: string | null; readonly now: Instant }

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
      return { ...quiet(previewing, change), to: null, effectiveAt: previewing.now, nextInvoice: null, cancelAt: previewing.now }
    case 'cancel_at_period_end':
      return { ...quiet(previewing, change), to: null, effectiveAt: change.at, nextInvoice: null, cancelAt: change.at }
    case 'pause':
      return { ...quiet(previewing, change), nextInvoice: null }
    case 'undo_cancel':
    case 'undo_switch':
      return { ...quiet(previewing, change), ...renewal(change.subscription), cancelAt: null }
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

function renewal(subscription: CurrentSubscription): Pick<PlanChangePreview, 'nextInvoice'> {
  return {
    nextInvoice: { at: subscription.currentPeriodEnd, amountMinor: subscription.amountMinor * subscription.quantity },
  }
}

type Start = Extract<PlanChange, { kind: 'start' }>

async function previewStart(previewing: Previewing, { offer, quantity, trialDays, discount }: Start): Promise<PlanChangePreview> {
  const { context, customerId, now } = previewing
  const amountMinor = offer.amountMinor * quantity
  const started: PlanChangePreview = {
    ...nothing(previewing),
    kind: 'start',
    to: { planKey: offer.planKey, interval: offer.interval, quantity },
    effectiveAt: now,
    currency: offer.currency,
  }
  if (trialDays !== null) {
    const trialEndsAt = trialEndOf(now, trialDays)
    return { ...started, trialEndsAt, nextInvoice: { at: trialEndsAt, amountMinor: discounted(amountMinor, discount) } }
  }
  // Nobody is a customer at Stripe before the first purchase: the price is all there is to know.
  if (customerId === null) return { ...started, dueNowMinor: discounted(amountMinor, discount) }
  const items = newItems(offer, quantity)
  const discounts = discount === null ? [] : [{ couponId: discount.couponId }]
  const invoice = await ask(context, { customerId, items, discounts })
  const renewsAt = invoice.lines.find(({ proration }) => !proration)?.periodEnd
  return {
    ...started,
    ...amountsOf(invoice),
    nextInvoice: renewsAt === undefined ? null : { at: renewsAt, amountMinor },
  }
}

type SwitchNow = Extract<PlanChange, { kind: 'switch_now' }>

async function previewSwitch(previewing: Previewing, change: SwitchNow): Promise<PlanChangePreview> {
  const { context, customerId, now } = previewing
  const { subscription, offer, to, from, direction, invoiceNow } = change
  const base = { ...quiet(previewing, change), direction, from, to, effectiveAt: now, currency: offer.currency }
  const amountMinor = offer.amountMinor * to.quantity
  const cancelAt = change.undoesCancel ? null : base.cancelAt
  if (subscription.status === 'trialing' || customerId === null) {
    return { ...base, cancelAt, nextInvoice: { at: subscription.currentPeriodEnd, amountMinor } }
  }
  const newInterval = from.interval !== to.interval
  const invoice = await ask(context, {
    customerId,
    subscriptionId: subscription.id,
    items: switchedItems(subscription, offer, to.quantity),
    prorationBehavior: invoiceNow ? 'always_invoice' : 'create_prorations',
    prorationAtUnix: toUnix(base.prorationAt),
  })
  // Another interval begins a new period at once, and its invoice comes with it; otherwise a smaller plan waits for the next one.
  const chargedNow = invoiceNow || newInterval
  const credit = sum(invoice.lines.filter(({ proration }) => proration))
  return {
    ...base,
    ...amountsOf(invoice),
    dueNowMinor: chargedNow ? invoice.amountDueMinor : 0,
    creditMinor: chargedNow ? Math.max(0, -invoice.totalMinor) : Math.max(0, -credit),
    cancelAt,
    nextInvoice: chargedNow
      ? { at: newInterval ? (latestEnd(invoice) ?? subscription.currentPeriodEnd) : subscription.currentPeriodEnd, amountMinor }
      : { at: subscription.currentPeriodEnd, amountMinor: invoice.amountDueMinor },
  }
}

type SwitchLater = Extract<PlanChange, { kind: 'switch_at_period_end' }>

function previewLaterSwitch(previewing: Previewing, change: SwitchLater): PlanChangePreview {
  const { offer, to, from, direction, at } = change
  return {
    ...quiet(previewing, change),
    direction,
    from,
    to,
    effectiveAt: at,
    currency: offer.currency,
    cancelAt: change.undoesCancel ? null : change.subscription.cancelAt,
    nextInvoice: { at, amountMinor: offer.amountMinor * to.quantity },
  }
}

type Resume = Extract<PlanChange, { kind: 'resume' }>

/** Within the period that is paid for nothing is due; otherwise a new one begins, paid at once with all that the subscription has. */
async function previewResume(previewing: Previewing, change: Resume): Promise<PlanChangePreview> {
  const { context, customerId } = previewing
  const { subscription } = change
  const base = quiet(previewing, change)
  if (change.keepsPeriod) return { ...base, ...renewal(subscription) }
  if (customerId === null) return { ...base, dueNowMinor: subscription.amountMinor * subscription.quantity }
  const invoice = await ask(context, { customerId, subscriptionId: subscription.id, resumesNow: true })
  return { ...base, ...amountsOf(invoice) }
}

function ask(context: BillingContext, query: Partial<InvoicePreviewQuery> & { customerId: string }): Promise<InvoicePreview> {
  return requireGateway(context).reads.previewInvoice({ ...NEXT_INVOICE, ...query })
}

function amountsOf(invoice: InvoicePreview): Pick<PlanChangePreview, 'currency' | 'dueNowMinor' | 'creditMinor' | 'lines'> {
  return {
    currency: invoice.currency,
    dueNowMinor: invoice.amountDueMinor,
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

function latestEnd({ lines }: InvoicePreview): Instant | null {
  return lines.length === 0 ? null : new Date(Math.max(...lines.map(({ periodEnd }) => periodEnd.getTime())))
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { findUsagePrices } from '../stripe/push-usage-prices.ts'
import { sumCredits } from './credit-store.ts'
import { priceParts, type PricePart } from './rules.ts'
import { listCountedGrants, listSpans, listUnfinishedSpans, listUninvoicedSpans } from './span-store.ts'
import { statementPeriodOf } from './statement-periods.ts'
import { assignCounts, type BillingSpan, type Included, type Report } from './spans.ts'
import { creditedWith, listFalls, NO_CREDIT, type Falls } from './taken-back.ts'
import { listAdjustments, listCycles, listLateUse, readIncluded, readInvoicing, type Adjustment } from './statement-store.ts'

/** What a period costs, as far as it is known. Amounts are whole minor units of `currency`. */
export type Statement = {
  readonly organizationId: string
  readonly currency: string
  readonly period: Period
  /** Whether it can still change. */
  readonly isFinal: boolean
  readonly base: readonly BaseLine[]
  readonly usage: readonly UsageLine[]
  /** What a change of plan within the period credited and charged, as Stripe worked it out; there once it is on an invoice. */
  readonly adjustments: readonly Adjustment[]
  readonly totalMinor: number
  /** What of the use comes back, or has come back, to the customer's balance; not in the total, as on no invoice. */
  readonly creditedMinor: number
}

export type BaseLine = {
  readonly priceId: string
  readonly quantity: number
  readonly unitAmountMinor: number
  readonly amountMinor: number
  readonly period: Period
}

export type UsageLine = {
  /** Names the line: what it bills is explained by it. */
  readonly id: string
  readonly balanceKey: string
  readonly planKey: string | null
  readonly priceId: string
  readonly reports: 'overage' | 'use'
  /** The plan's allowance in this period, and how much of it was used. */
  readonly included: Included
  /** What is billed: overage, or all use where that is reported. */
  readonly quantity: Quantity
  /** What of it was counted in an earlier period whose invoice was closed. */
  readonly lateQuantity: Quantity
  readonly parts: readonly PricePart[]
  readonly amountMinor: number
  /** What of the quantity was taken back after the invoice was closed, and what it had cost: it comes back as a credit. */
  readonly creditedQuantity: Quantity
  readonly creditedMinor: number
  readonly period: Period
  readonly state: BillingSpan['state']
  readonly invoiceId: string | null
}

/**
 * What an organization owes for the period that holds a time: the base fee, charged in advance, and the use, charged when the
 * period ends. Computed from what is stored here alone, but for the adjustments of a plan changed within the period.
 * Tax, discounts and credits are Stripe's and not in it.
 * @param at default: the organization's present
 */
export async function readStatement(
  context: BillingContext,
  { organizationId, at }: { readonly organizationId: string; readonly at: Instant | null },
): Promise<Statement> {
  const { db, clock, catalogs } = context
  const organization = await readOrganization(db, organizationId)
  const now = timeOf(organization, clock)
  const moment = at ?? now
  const period = statementPeriodOf(await listCycles(db, organizationId), moment)
  const touching = await listSpans(db, organizationId, period)
  // A line is on the statement of the period in which it begins, so on one alone.
  const spans = touching.filter(({ startsAt }) => startsAt >= period.start && startsAt < period.end)
  const usage = await usageLines(db, { organizationId, now }, spans)
  const base = spans.filter(({ kind, whole }) => kind === 'base' && whole).map(baseLine)
  const adjustments = await listAdjustments(db, organizationId, period)
  const lines = [...base, ...usage, ...adjustments]
  return {
    organizationId,
    currency: catalogs.current.catalog.currency,
    period,
    isFinal: await isSettled(db, { organizationId, now, period }, { touching, usage }),
    base,
    usage,
    adjustments,
    totalMinor: lines.reduce((sum, { amountMinor }) => sum + amountMinor, 0),
    creditedMinor: usage.reduce((sum, { creditedMinor }) => sum + creditedMinor, 0),
  }
}

/** What a subscription's use comes to that no invoice has yet, a draft neither: of the present period, and what a pause left to be settled. */
export async function readUninvoicedUse(
  { db, clock }: BillingContext,
  { organizationId, subscriptionId }: { readonly organizationId: string; readonly subscriptionId: string },
): Promise<readonly UsageLine[]> {
  const now = timeOf(await readOrganization(db, organizationId), clock)
  return usageLines(db, { organizationId, now }, await listUninvoicedSpans(db, { organizationId, subscriptionId }))
}

/**
 * Whether nothing of a period changes any more: its use is closed and, where it costs something, on an invoice (of a paused
 * subscription it waits for the resume, or the end), and Stripe has invoiced whatever changes have left pending.
 */
async function isSettled(
  db: Queryable,
  { organizationId, now, period }: { readonly organizationId: string; readonly now: Instant; readonly period: Period },
  { touching, usage }: { readonly touching: readonly BillingSpan[]; readonly usage: readonly UsageLine[] },
): Promise<boolean> {
  const isUseInvoiced = usage.every(
    ({ state, invoiceId, amountMinor }) => state === 'closed' && (invoiceId !== null || amountMinor === 0),
  )
  if (!isUseInvoiced) return false
  const subscriptionIds = [...new Set(touching.map(({ subscriptionId }) => subscriptionId))]
  const { isInvoiced, isEnded } = await readInvoicing(db, { organizationId, period, subscriptionIds })
  return isInvoiced && (period.end <= now || (isEnded && touching.length > 0))
}

function baseLine(span: BillingSpan): BaseLine {
  const quantity = Number(span.quantity)
  const unitAmountMinor = Number(span.unitAmountMinor)
  return {
    priceId: span.priceId,
    quantity,
    unitAmountMinor,
    amountMinor: quantity * unitAmountMinor,
    period: { start: span.periodStart, end: span.periodEnd },
  }
}

/** The lines of spans, with what has been counted but is in no report yet. */
export async function usageLines(
  db: Queryable,
  place: { readonly organizationId: string; readonly now: Instant },
  spans: readonly BillingSpan[],
): Promise<UsageLine[]> {
  const billing = spans.filter(({ kind }) => kind === 'usage')
  if (billing.length === 0) return []
  const prices = await findUsagePrices(
    db,
    billing.map(({ priceId }) => priceId),
  )
  const { waiting, falling } = await readWaiting(db, place)
  const ids = billing.map(({ id }) => id)
  const late = await listLateUse(db, place.organizationId, ids)
  const credits = await sumCredits(db, place.organizationId, ids)
  return Promise.all(
    billing.map(async (span) => {
      const price = prices.get(span.priceId)!
      const own = waiting.filter((report) => report.span.id === span.id)
      const quantity = span.quantity + totalOf(own)
      const parts = priceParts(price.price, quantity)
      const credited = falling
        .filter((fall) => fall.span.id === span.id)
        .reduce(
          (sum, fall) => creditedWith(sum, { price: price.price, quantity }, fall.quantity),
          credits.get(span.id) ?? NO_CREDIT,
        )
      const period = { start: span.startsAt, end: span.endsAt }
      return {
        id: span.id,
        balanceKey: span.balanceKey!,
        planKey: price.planKey,
        priceId: span.priceId,
        reports: price.reports,
        included:
          span.included ??
          (await readIncluded(db, { organizationId: place.organizationId, balanceKey: span.balanceKey!, period })),
        quantity,
        lateQuantity: (late.get(span.id) ?? 0n) + totalOf(own.filter((report) => report.late)),
        parts,
        amountMinor: parts.reduce((sum, { amountMinor }) => sum + amountMinor, 0),
        creditedQuantity: credited.quantity,
        creditedMinor: credited.amountMinor,
        period,
        state: span.state,
        invoiceId: span.invoiceId,
      }
    }),
  )
}

/** What has been counted or taken back and is written down nowhere yet. */
export type Waiting = {
  /** On whichever of the organization's open lines it will be. */
  readonly waiting: readonly Report[]
  /** Of closed lines. */
  readonly falling: Falls['closed']
}

export async function readWaiting(
  db: Queryable,
  { organizationId, now }: { readonly organizationId: string; readonly now: Instant },
): Promise<Waiting> {
  const spans = (await listUnfinishedSpans(db, organizationId)).filter(({ kind }) => kind === 'usage')
  const prices = await findUsagePrices(
    db,
    spans.map(({ priceId }) => priceId),
  )
  const waiting: Report[] = []
  for (const reports of ['overage', 'use'] as const) {
    const own = spans.filter(({ priceId }) => prices.get(priceId)?.reports === reports)
    const balanceKeys = own.map(({ balanceKey }) => balanceKey!)
    waiting.push(...assignCounts(own, await listCountedGrants(db, { organizationId, balanceKeys, reports, now })))
  }
  const { open, closed } = await listFalls(db, { organizationId, now })
  return { waiting: [...waiting, ...open], falling: closed }
}

function totalOf(reports: readonly Report[]): Quantity {
  return reports.reduce((sum, { quantity }) => sum + quantity, 0n)
}

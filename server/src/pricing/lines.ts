import type { UsagePrice } from '../catalog/catalog.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { findUsagePrices } from '../stripe/push/push-usage-prices.ts'
import { sumCredits, type Credited } from './credit-store.ts'
import { creditedWith, lateMinorOf, NO_CREDIT, readWholes, wholeIdOf, type Whole } from './late-lines.ts'
import { overageCost, priceOf, priceParts, type FreeReason, type PricedOverage, type PricePart } from './rules.ts'
import { listCountedGrants, listUnfinishedSpans, listUninvoicedSpans } from './span-store.ts'
import { assignCounts, type BillingSpan, type CountedGrant, type Included, type Report } from './spans.ts'
import { listLateUse, readIncluded } from './statement-store.ts'
import { listFalls, type Falls } from './taken-back.ts'

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
  /** The line whose use it is, where that was told late of one that a change had ended. */
  readonly lateOf: string | null
  readonly balanceKey: string
  readonly planKey: string | null
  readonly priceId: string
  readonly price: UsagePrice
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

/** The base fees that were charged in a time. */
export function baseLines(spans: readonly BillingSpan[], { start, end }: Period): readonly BaseLine[] {
  return spans
    .filter(({ kind, whole, startsAt }) => kind === 'base' && whole && startsAt >= start && startsAt < end)
    .map(baseLine)
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
  const billing = spans.filter(({ kind }) => kind !== 'base')
  if (billing.length === 0) return []
  const prices = await findUsagePrices(
    db,
    billing.map(({ priceId }) => priceId),
  )
  const { waiting, unasked, falling } = await readWaiting(db, place)
  const late = await listLateUse(
    db,
    place.organizationId,
    billing.map(({ id }) => id),
  )
  const quantityOf = (span: BillingSpan): Quantity =>
    span.quantity + totalOf(waiting.filter((report) => report.span.id === span.id)) - takenFrom(unasked, span)
  const wholes = await readWholes(db, place.organizationId, { spans: billing, quantityOf })
  const credits = await readCredits(db, place.organizationId, { spans: billing, wholes, falling })
  return Promise.all(
    billing.map(async (span) => {
      const price = prices.get(span.priceId)!
      const quantity = quantityOf(span)
      const isLate = span.kind === 'late'
      const waitingLate = totalOf(waiting.filter((report) => report.span.id === span.id && report.late))
      const parts = isLate ? [latePart(span, wholes.get(wholeIdOf(span))!, quantity)] : priceParts(price.price, quantity)
      const credited = credits.get(span.id) ?? NO_CREDIT
      const period = { start: span.startsAt, end: span.endsAt }
      return {
        id: span.id,
        lateOf: span.lateOf,
        balanceKey: span.balanceKey!,
        planKey: price.planKey,
        priceId: span.priceId,
        price: price.price,
        reports: price.reports,
        included:
          span.included ??
          (await readIncluded(db, { organizationId: place.organizationId, balanceKey: span.balanceKey!, period })),
        quantity,
        lateQuantity: isLate ? quantity : (late.get(span.id) ?? 0n) + waitingLate,
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

/** Late use has one part: what the line of its time costs with it, less what that comes to without. */
function latePart({ amountMinor }: BillingSpan, whole: Whole, quantity: Quantity): PricePart {
  const minor = amountMinor === null ? lateMinorOf(whole, quantity) : Number(amountMinor)
  return { quantity, amountMinor: minor, tier: null, flat: false }
}

/** What is credited of lines, with what was taken back of them and is written down nowhere yet. */
async function readCredits(
  db: Queryable,
  organizationId: string,
  lines: {
    readonly spans: readonly BillingSpan[]
    readonly wholes: ReadonlyMap<string, Whole>
    readonly falling: Falls['closed']
  },
): Promise<ReadonlyMap<string, Credited>> {
  const ids = lines.spans.map(({ id }) => id)
  const credits = new Map(await sumCredits(db, organizationId, ids))
  const wholes = new Map(lines.wholes)
  for (const { span, quantity } of lines.falling) {
    const whole = wholes.get(wholeIdOf(span))
    if (whole === undefined) continue
    const credited = creditedWith(whole.credited, whole, quantity)
    wholes.set(wholeIdOf(span), { ...whole, credited })
    const own = credits.get(span.id) ?? NO_CREDIT
    const amountMinor = own.amountMinor + credited.amountMinor - whole.credited.amountMinor
    credits.set(span.id, { quantity: own.quantity + quantity, amountMinor })
  }
  return credits
}

/** What a subscription's use comes to that no invoice has yet, a draft neither: of the present period, and what a pause left to be settled. */
export async function readUninvoicedUse(
  { db, clock }: BillingContext,
  { organizationId, subscriptionId }: { readonly organizationId: string; readonly subscriptionId: string },
): Promise<readonly UsageLine[]> {
  const now = timeOf(await readOrganization(db, organizationId), clock)
  return usageLines(db, { organizationId, now }, await listUninvoicedSpans(db, { organizationId, subscriptionId }))
}

/** What of a line lies in a time: all of it, or what was counted there of what it bills. */
export type PartOfLine = 'all' | { readonly counted: Quantity }

/**
 * What use costs, and the one place that says so: of a line what the statement has of it, less what comes back of it; of a part what that would cost
 * alone. Whole minor units.
 */
export function costOfLine({ price, amountMinor, creditedMinor }: UsageLine, part: PartOfLine): number {
  if (part === 'all') return amountMinor - creditedMinor
  return part.counted > 0n ? priceOf(price, part.counted) : 0
}

/** Whether a time holds all of a line; what is still running has nothing beyond the present. */
export function isWithin(
  { period }: UsageLine,
  time: { readonly start: Instant; readonly end: Instant | null },
  now: Instant,
): boolean {
  if (period.start < time.start) return false
  return time.end === null || period.end <= time.end || now <= time.end
}

/**
 * What overage will cost of which no line has ever billed anything: the subscription says whether one will. Whole minor units.
 * @param because why nothing bills now
 */
export function costAhead(price: UsagePrice | null, because: FreeReason | null, overage: PricedOverage): number {
  return price === null || because !== null || overage.overage <= 0n ? 0 : overageCost(price, overage)
}

/** What has been counted or taken back and is written down nowhere yet. */
export type Waiting = {
  /** On whichever of the organization's open lines it will be. */
  readonly waiting: readonly Report[]
  /** Of late use whose item is not asked for yet. */
  readonly unasked: Falls['unasked']
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
  const falls = await listFalls(db, { organizationId, now })
  const told = [...falls.closed, ...falls.unasked].filter(({ isTold }) => isTold)
  const waiting: Report[] = []
  for (const reports of ['overage', 'use'] as const) {
    const own = spans.filter(({ priceId }) => prices.get(priceId)?.reports === reports)
    const balanceKeys = own.map(({ balanceKey }) => balanceKey!)
    const counted = await listCountedGrants(db, { organizationId, balanceKeys, reports, now })
    waiting.push(
      ...assignCounts(
        own,
        counted.map((grant) => withoutTold(grant, told)),
      ),
    )
  }
  return { waiting: [...waiting, ...falls.open], unasked: falls.unasked, falling: falls.closed }
}

/** A grant as it is reported once what was told late of lines that have ended, and taken back, is written down. */
function withoutTold(grant: CountedGrant, told: Falls['closed']): CountedGrant {
  const own = told.filter((each) => each.grant.grantId === grant.grantId)
  return own.reduce((left, { quantity }) => ({ ...left, reported: left.reported - quantity }), grant)
}

function takenFrom(taken: Falls['unasked'], { id }: BillingSpan): Quantity {
  return taken.reduce((sum, { span, quantity }) => (span.id === id ? sum + quantity : sum), 0n)
}

function totalOf(reports: readonly Report[]): Quantity {
  return reports.reduce((sum, { quantity }) => sum + quantity, 0n)
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Period } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { baseLines, usageLines, type BaseLine, type UsageLine } from './lines.ts'
import { listSpans } from './span-store.ts'
import { statementPeriodOf } from './statement-periods.ts'
import type { BillingSpan } from './spans.ts'
import { listAdjustments, listCycles, readInvoicing, type Adjustment } from './statement-store.ts'

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

/**
 * What an organization owes for the period that holds a time: the base fee, charged in advance, and the use, charged when the
 * period ends. Computed from what is stored here alone, but for the adjustments of a plan changed within the period.
 * Tax, discounts and credits are Stripe's and not in it.
 * @param at default: the organization's present
 */
export async function readStatement(
  context: Pick<BillingContext, 'db' | 'clock' | 'catalogs'>,
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
  const base = baseLines(touching, period)
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

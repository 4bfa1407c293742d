import type { Db } from '../db/database.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS } from '../lib/period.ts'
import { splitPeriod, type ReportInterval } from './periods.ts'
import { countTrials, listStandingAt, sumMovements, type TrialCounts } from './reports-store.ts'
import { convertSeries, ratioOf, roundSpan, seriesOf, type RateTable, type Series, type Span } from './series.ts'

export type AnalyticsContext = {
  readonly db: Db
  readonly clock: Clock
  /** Into which currency all are converted beside; null keeps them apart only. */
  readonly rates: RateTable | null
}

export type ReportQuery = { readonly from: Instant; readonly to: Instant; readonly interval: ReportInterval }

export type Reported = {
  /** Each currency for itself. */
  readonly series: readonly Series[]
  /** All in one, where a table of rates is given; `left` names those that it lacks. */
  readonly converted: { readonly series: Series; readonly left: readonly string[] } | null
}

/** Revenue and its movements over the spans of a period. */
export async function reportRevenue(context: AnalyticsContext, query: ReportQuery): Promise<Reported> {
  return reportSpans(context, splitPeriod(query.from, query.to, query.interval))
}

async function reportSpans({ db, rates }: AnalyticsContext, boundaries: readonly Instant[]): Promise<Reported> {
  const series = seriesOf(await listStandingAt(db, boundaries[0]!), await sumMovements(db, boundaries), boundaries)
  return { series, converted: rates === null ? null : convertSeries(series, rates) }
}

export type Summary = ReturnType<typeof summaryOf>

/** Where each currency stands at the end of a period, and what the period brought and lost. */
export async function summarize(context: AnalyticsContext, period: Omit<ReportQuery, 'interval'>) {
  if (period.from >= period.to) throw new DomainError('invalid_request', 'from must lie before to.', { field: 'from' })
  const boundaries = [period.from, period.to]
  const { series, converted } = await reportSpans(context, boundaries)
  const [trials = noTrials] = await countTrials(context.db, boundaries)
  return {
    currencies: series.map(summaryOf),
    converted: converted === null ? null : { ...summaryOf(converted.series), left: converted.left },
    trials,
  }
}

const noTrials: TrialCounts = { bucket: 0, started: 0, running: 0, converted: 0, lost: 0 }

/** The mean length of a month, in milliseconds: 365.2425 / 12 days. */
const MONTH_MS = (365.2425 * DAY_MS) / 12

/** The figures of docs/analytics.md for one currency over a period, which is the only span of its series. Pure. */
export function summaryOf({ currency, unit, spans }: Series) {
  const [span] = spans
  if (span === undefined) return { currency, ...NOTHING }
  const { openingMinor, closingMinor, amounts } = roundSpan(span, unit)
  const customers = BigInt(span.customersClosing)
  return {
    currency,
    mrrMinor: closingMinor,
    openingMrrMinor: openingMinor,
    arrMinor: Number(roundHalfUp(span.closing * 12n, unit)),
    customers: span.customersClosing,
    openingCustomers: span.customersOpening,
    arpuMinor: customers <= 0n ? null : Number(roundHalfUp(span.closing, unit * customers)),
    lifetimeValueMinor: lifetimeValueOf(span, unit),
    amounts,
    counts: span.counts,
    ...churnOf(span),
  }
}

const NOTHING = {
  mrrMinor: 0,
  openingMrrMinor: 0,
  arrMinor: 0,
  customers: 0,
  openingCustomers: 0,
  arpuMinor: null,
  lifetimeValueMinor: null,
  amounts: { new: 0, expansion: 0, contraction: 0, churn: 0, reactivation: 0 },
  counts: { new: 0, expansion: 0, contraction: 0, churn: 0, reactivation: 0 },
  customerChurn: null,
  grossRevenueChurn: null,
  netRevenueChurn: null,
}

/** Churn of a span: of the customers, and of the revenue, with which it began. Pure. */
export function churnOf(span: Span) {
  const { churn, contraction, expansion, reactivation } = span.amounts
  const lost = -churn - contraction
  return {
    customerChurn: ratioOf(BigInt(span.leavers), BigInt(span.customersOpening)),
    grossRevenueChurn: ratioOf(lost, span.opening),
    netRevenueChurn: ratioOf(lost - expansion - reactivation, span.opening),
  }
}

/** What a customer brings before leaving: ARPU / the monthly rate at which customers leave; null while none leaves. Pure. */
function lifetimeValueOf(span: Span, unit: bigint): number | null {
  const [customers, opening, churned] = [span.customersClosing, span.customersOpening, span.leavers].map(BigInt)
  if (customers! <= 0n || opening! <= 0n || churned! <= 0n) return null
  const spanMs = BigInt(span.end.getTime() - span.start.getTime())
  return Number(roundHalfUp(span.closing * opening! * spanMs, unit * customers! * churned! * BigInt(Math.round(MONTH_MS))))
}

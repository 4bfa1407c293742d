import { z } from 'zod'
import type { Db } from '../db/database.ts'
import type { Statement } from '../db/row-stream.ts'
import { termsOfAccounts, timeOf, type GrantsContext } from '../grants/actions.ts'
import { allowanceSpanOf } from '../grants/periods.ts'
import { billingCycleOf, meterOf, type PlanTerms } from '../grants/rules.ts'
import { findAccounts } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS, type Period } from '../lib/period.ts'
import { cursorTime, readCursor, writeCursor } from './cursors.ts'
import {
  groupsStatement,
  hoursStatement,
  listCycleStarts,
  listReportRows,
  type ReportQuery,
  type ReportRow,
} from './report-store.ts'
import { cyclesWithin, isMadeOfDays, periodAt, spanOfRow, type Calendar, type Grain, type ReportPeriod } from './spans.ts'

export type ReadingContext = GrantsContext & { readonly db: Db }

/** Which use is looked at. Without a span it is the organization's present calendar month. */
export type SpanInput = {
  readonly organizationId: string
  readonly meter?: string | undefined
  readonly start?: Instant | undefined
  readonly end?: Instant | undefined
  readonly period?: ReportPeriod | undefined
  readonly at?: Instant | undefined
}

export type ReportInput = SpanInput & {
  readonly grain: Grain
  readonly groupBy: readonly string[]
  readonly filter: Readonly<Record<string, readonly string[]>>
  readonly limit: number
  readonly cursor?: string | undefined
}

/** The span of a reading, in the time of its organization. */
export type ReadSpan = Period & { readonly calendar: Calendar; readonly terms: PlanTerms; readonly onTestClock: boolean }

export type Report = ReadSpan & {
  readonly rows: readonly (ReportRow & Period)[]
  readonly nextCursor: string | null
}

const LONGEST_MS = 100 * 366 * DAY_MS
const rowPlace = z.tuple([cursorTime, z.string(), z.string()])

/**
 * What was used, from the sums that are kept: by the hour, day, month or billing cycle of the organization, and by the properties
 * that the meter names.
 * @throws DomainError `not_found` for an unknown organization, `unknown_meter`, `invalid_request` for a span that is none, a property
 * that the meter does not name, or a cursor of another list
 */
export async function readReport(context: ReadingContext, input: ReportInput): Promise<Report> {
  const span = await readSpan(context, input)
  const found = await listReportRows(context.db, statementOf(input, span, input.limit + 1))
  const rows = found.slice(0, input.limit)
  const last = rows.at(-1)
  return {
    ...span,
    rows: rows.map((row) => ({ ...row, ...spanOfRow(input.grain, span.calendar, row.start, span) })),
    nextCursor: found.length > rows.length && last ? writeCursor([last.start, last.meter, last.labels]) : null,
  }
}

/** The whole report as a statement whose rows are `ReportRow`s, with what it spans. @throws DomainError as `readReport` */
export async function planReport(
  context: ReadingContext,
  input: Omit<ReportInput, 'limit' | 'cursor'>,
): Promise<ReadSpan & { readonly statement: Statement }> {
  const span = await readSpan(context, input)
  return { ...span, statement: statementOf(input, span, null) }
}

function statementOf(input: Omit<ReportInput, 'limit'>, span: ReadSpan, limit: number | null): Statement {
  const { start, end, calendar, terms } = span
  const { organizationId, grain, groupBy, filter } = input
  const place = readCursor(input.cursor, rowPlace)
  const query: ReportQuery = {
    organizationId,
    meter: input.meter ?? null,
    start,
    end,
    grain,
    timeZone: calendar.timeZone,
    cycles: grain === 'billing_cycle' ? cyclesWithin(calendar.cycles, span) : [],
    after: place && { start: place[0], meter: place[1], labels: place[2] },
    limit,
  }
  if (groupBy.length === 0 && Object.keys(filter).length === 0) return hoursStatement(query)
  const { meter } = query
  if (meter === null) {
    throw new DomainError('invalid_request', 'Properties are those of a meter: name one.', { field: 'meter' })
  }
  const declared = meterOf(terms, meter)?.groupBy ?? []
  const unknown = [...groupBy, ...Object.keys(filter)].find((name) => !declared.includes(name))
  if (unknown !== undefined) {
    throw new DomainError(
      'invalid_request',
      `The meter "${meter}" is not split by "${unknown}"; its groupBy names: ${declared.join(', ') || 'nothing'}.`,
      { field: groupBy.includes(unknown) ? 'group_by' : 'filter' },
    )
  }
  const byDays = grain !== 'hour' && grain !== 'billing_cycle' && isMadeOfDays(calendar, span)
  return groupsStatement({ ...query, meter, groupBy, filter, span: byDays ? 'day' : 'hour' })
}

/**
 * The span that is asked for, in the organization's own time.
 * @throws DomainError `not_found`, `unknown_meter`, `invalid_request`
 */
export async function readSpan(context: ReadingContext, input: SpanInput): Promise<ReadSpan> {
  const { organizationId } = input
  const machineNow = context.clock.now()
  const { version, catalog } = context.catalogs.current
  const accounts = await findAccounts(context.db, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version })
  const [account] = accounts
  if (!account) {
    throw new DomainError('not_found', `There is no organization ${organizationId}.`, { organization_id: organizationId })
  }
  const terms = (await termsOfAccounts(context, accounts, machineNow)).get(organizationId)!
  if (input.meter !== undefined && !meterOf(terms, input.meter)) {
    throw new DomainError('unknown_meter', `No meter is called "${input.meter}".`, { meter: input.meter })
  }
  const now = timeOf(account, machineNow)
  const calendar = { timeZone: terms.timeZone, cycles: cyclesOf(terms, await listCycleStarts(context.db, organizationId), now) }
  return { ...boundsOf(input, calendar, now), calendar, terms, onTestClock: account.testClockNow !== null }
}

/** The cycles that are known: those that there were allowances for, and the one that stands, with its end. */
function cyclesOf(terms: PlanTerms, known: readonly Instant[], now: Instant): readonly Instant[] {
  const { start, end } = allowanceSpanOf('billing_cycle', billingCycleOf(terms), now)
  const times = new Set([...known, start, ...(end === null ? [] : [end])].map((moment) => moment.getTime()))
  return [...times].sort((a, b) => a - b).map((time) => new Date(time))
}

function boundsOf({ start, end, period, at }: SpanInput, calendar: Calendar, now: Instant): Period {
  if (start === undefined && end === undefined) return periodAt(period ?? 'calendar_month', calendar, at ?? now)
  if (period !== undefined || at !== undefined) {
    throw new DomainError('invalid_request', 'A span is a period, or a start and an end, not both.', { field: 'period' })
  }
  if (start === undefined) throw new DomainError('invalid_request', 'An end has a start.', { field: 'start' })
  // Without an end it is all until now, with what is used in this very moment: on a frozen clock that may be all there is.
  const until = end ?? new Date(now.getTime() + 1)
  if (start >= until) throw new DomainError('invalid_request', 'The end does not lie after the start.', { field: 'end' })
  if (until.getTime() - start.getTime() > LONGEST_MS) {
    throw new DomainError('invalid_request', 'The span is longer than a hundred years.', { field: 'start' })
  }
  return { start, end: until }
}

import type { PassThrough } from 'node:stream'
import { ZipFile } from 'yazl'
import { summarize, type AnalyticsContext } from '../analytics/actions.ts'
import { calendarMonthOf } from '../lib/period.ts'
import { csvLine } from '../lib/csv.ts'
import { DomainError } from '../lib/errors.ts'
import { formatMajor } from '../lib/money.ts'
import { formatQuantity, MICRO } from '../lib/quantity.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import type { Instant } from '../lib/clock.ts'
import { invoiceReport, revenueReport, usageReport } from './documents.ts'
import { renderReport } from './pdf.ts'
import type { Typeface } from './pdf-fonts.ts'
import { EVERYBODY } from './rules.ts'
import {
  countInvoices,
  countTable,
  findName,
  listUsage,
  readInvoices,
  readMovements,
  readOrganizations,
  readSubscriptions,
  type ExportedInvoice,
} from './sources-store.ts'
import { shownPlan } from '../standing/rules.ts'
import { readSpan, type ReadingContext } from '../usage/reports.ts'
import type { Export } from './store.ts'

/** A piece of a file, and how many rows or documents are in it up to here. */
export type Piece = { readonly data: Buffer; readonly made: number }

export type Content = {
  /** How many there will be; null where that is not known before. */
  readonly planned: number | null
  readonly pieces: AsyncIterable<Piece>
}

export type ExportContext = AnalyticsContext & ReadingContext & { readonly typeface: Typeface }

/** As many documents as one ZIP holds. */
const DOCUMENTS_AT_MOST = 10_000

/** What an export is to hold. */
export async function contentOf(context: ExportContext, made: Export): Promise<Content> {
  const { db } = context
  const wanted = { ...made, organizationId: made.organizationId === EVERYBODY ? null : made.organizationId }
  switch (made.kind) {
    case 'invoices': {
      const planned = await countInvoices(db, wanted)
      const batches = readInvoices(db, wanted)
      if (made.format === 'csv') return { planned, pieces: csvOf(INVOICE_COLUMNS, batches) }
      if (planned > DOCUMENTS_AT_MOST) {
        throw new DomainError(
          'invalid_request',
          `There are ${planned} invoices; a ZIP holds ${DOCUMENTS_AT_MOST}. Choose a shorter span.`,
        )
      }
      return { planned, pieces: zipOf(batches, context.typeface) }
    }
    case 'organizations':
      return {
        planned: await countTable(db, 'organizations', wanted),
        pieces: csvOf(organizationColumns(context.clock.now()), readOrganizations(db, wanted)),
      }
    case 'subscriptions':
      return {
        planned: await countTable(db, 'stripe_subscriptions', wanted),
        pieces: csvOf(SUBSCRIPTION_COLUMNS, readSubscriptions(db, wanted)),
      }
    case 'revenue_movements':
      return {
        planned: await countTable(db, 'mrr_movements', wanted),
        pieces: csvOf(MOVEMENT_COLUMNS, readMovements(db, wanted)),
      }
    case 'usage_statement':
      return usageStatement(context, made)
    case 'analytics_report':
      return analyticsReport(context, made)
  }
}

type Cell = string | number | null
type Columns<Row> = Readonly<Record<string, (row: Row) => Cell>>

async function* csvOf<Row>(
  columns: Columns<Row>,
  batches: AsyncIterable<readonly Row[]> | Iterable<readonly Row[]>,
): AsyncGenerator<Piece> {
  const cells = Object.values(columns)
  let made = 0
  yield { data: Buffer.from(csvLine(Object.keys(columns))), made }
  for await (const rows of batches) {
    made += rows.length
    yield { data: Buffer.from(rows.map((row) => csvLine(cells.map((cell) => cell(row)))).join('')), made }
  }
}

const iso = (at: Instant | null): string | null => at?.toISOString() ?? null
const money = (amountMinor: number, currency: string): string => formatMajor({ amountMinor, currency })
const revenue = (parts: bigint, currency: string): string => money(Number(roundHalfUp(parts, MICRO)), currency)

type RowOf<Batches> = Batches extends AsyncGenerator<readonly (infer Row)[]> ? Row : never

const INVOICE_COLUMNS: Columns<ExportedInvoice> = {
  id: (row) => row.id,
  number: (row) => row.number,
  organization_id: (row) => row.organizationId,
  organization: (row) => row.organizationName,
  status: (row) => row.status,
  currency: (row) => row.currency,
  subtotal: (row) => money(row.subtotalMinor, row.currency),
  total: (row) => money(row.totalMinor, row.currency),
  amount_due: (row) => money(row.amountDueMinor, row.currency),
  amount_paid: (row) => money(row.amountPaidMinor, row.currency),
  amount_remaining: (row) => money(row.amountRemainingMinor, row.currency),
  created: (row) => iso(row.createdAt),
  due: (row) => iso(row.dueAt),
  paid: (row) => iso(row.paidAt),
  period_start: (row) => iso(row.periodStart),
  period_end: (row) => iso(row.periodEnd),
  url: (row) => row.hostedInvoiceUrl,
  discount: (row) => money(row.discountMinor, row.currency),
  tax: (row) => money(row.taxMinor, row.currency),
  tax_included: (row) => money(row.includedTaxMinor, row.currency),
  amount_credited: (row) => money(row.creditedBeforeMinor + row.creditedAfterMinor, row.currency),
  amount_refunded: (row) => money(row.refundedMinor, row.currency),
  balance_applied: (row) => money(row.balanceMinor, row.currency),
}

const organizationColumns = (now: Instant): Columns<RowOf<ReturnType<typeof readOrganizations>>> => ({
  id: (row) => row.id,
  name: (row) => row.name,
  email: (row) => row.email,
  stripe_customer_id: (row) => row.customerId,
  plan: (row) => shownPlan(row, now),
  status: (row) => row.status,
  created: (row) => iso(row.createdAt),
})

const SUBSCRIPTION_COLUMNS: Columns<RowOf<ReturnType<typeof readSubscriptions>>> = {
  id: (row) => row.id,
  organization_id: (row) => row.organizationId,
  customer: (row) => row.customerId,
  plan: (row) => row.plan,
  status: (row) => row.status,
  amount: (row) => money(row.amountMinor, row.currency),
  currency: (row) => row.currency,
  created: (row) => iso(row.createdAt),
  cancel_at: (row) => iso(row.cancelAt),
  ended: (row) => iso(row.endedAt),
}

const MOVEMENT_COLUMNS: Columns<RowOf<ReturnType<typeof readMovements>>> = {
  occurred: (row) => iso(row.occurredAt),
  organization_id: (row) => row.organizationId,
  movement: (row) => row.kind,
  amount: (row) => revenue(row.amount, row.currency),
  mrr_after: (row) => revenue(row.mrrAfter, row.currency),
  currency: (row) => row.currency,
  plan: (row) => row.plan,
}

/** Each invoice as a document of its own, one after the other. */
async function* zipOf(batches: AsyncIterable<readonly ExportedInvoice[]>, typeface: Typeface): AsyncGenerator<Piece> {
  const zip = new ZipFile()
  const output = zip.outputStream as PassThrough
  let made = 0
  for await (const invoices of batches) {
    for (const invoice of invoices) {
      const name = `${invoice.number ?? invoice.id}-${invoice.id}.pdf`
      zip.addBuffer(await renderReport(invoiceReport(invoice), typeface), name, { mtime: invoice.createdAt, compress: false })
      made += 1
      // What is written is taken at once, so that no more than a document waits.
      const data = output.read() as Buffer | null
      if (data !== null) yield { data, made }
    }
  }
  zip.end()
  for await (const data of output) yield { data: data as Buffer, made }
}

async function usageStatement(context: ExportContext, made: Export): Promise<Content> {
  const { db, typeface } = context
  const { organizationId, createdAt } = made
  // Its present month, by its own clock and zone.
  const { start, end, calendar } = await readSpan(context, { organizationId })
  const span = { from: made.startsAt ?? start, to: made.endsAt ?? end, timeZone: calendar.timeZone }
  const rows = await listUsage(db, organizationId, span)
  if (made.format === 'pdf') {
    const report = usageReport({ name: await findName(db, organizationId), ...span, rows, createdAt })
    return { planned: rows.length, pieces: once(await renderReport(report, typeface), rows.length) }
  }
  const columns: Columns<(typeof rows)[number]> = {
    day: (row) => row.day,
    meter: (row) => row.meter,
    events: (row) => row.events,
    quantity: (row) => formatQuantity(row.quantity),
    drawn: (row) => formatQuantity(row.drawn),
    overage: (row) => formatQuantity(row.overage),
  }
  return { planned: rows.length, pieces: csvOf(columns, [rows]) }
}

async function analyticsReport(context: ExportContext, made: Export): Promise<Content> {
  const { startsAt, endsAt, createdAt } = made
  const month = calendarMonthOf(createdAt)
  const [from, to] = [startsAt ?? month.start, endsAt ?? month.end]
  const report = revenueReport({ from, to, summary: await summarize(context, { from, to }), createdAt })
  return { planned: 1, pieces: once(await renderReport(report, context.typeface), 1) }
}

async function* once(data: Buffer, made: number): AsyncGenerator<Piece> {
  yield { data, made }
}

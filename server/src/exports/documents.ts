import type { summarize } from '../analytics/actions.ts'
import { MOVEMENT_KINDS } from '../analytics/rules.ts'
import type { Instant } from '../lib/clock.ts'
import { calendarPeriodOf } from '../lib/period.ts'
import { formatMajor } from '../lib/money.ts'
import { formatQuantity } from '../lib/quantity.ts'
import type { PdfReport } from './pdf.ts'
import type { ExportedInvoice, UsageRow } from './sources-store.ts'

const day = (at: Instant): string => at.toISOString().slice(0, 10)
const money = (amountMinor: number, currency: string): string =>
  `${formatMajor({ amountMinor, currency })} ${currency.toUpperCase()}`
const percent = (ratio: number | null): string => (ratio === null ? '–' : `${(ratio * 100).toFixed(2)} %`)

/** A copy of an invoice, from the mirror: the original is Stripe's. Pure. */
export function invoiceReport(invoice: ExportedInvoice): PdfReport {
  const amount = (minor: number): string => money(minor, invoice.currency)
  const some = (name: string, minor: number) => (minor === 0 ? [] : [[name, amount(minor)]])
  return {
    title: `Invoice ${invoice.number ?? invoice.id}`,
    facts: [
      ['To', invoice.organizationName],
      ['Status', invoice.status],
      ['Date', day(invoice.createdAt)],
      ['Period', `${day(invoice.periodStart)} to ${day(invoice.periodEnd)}`],
      ...(invoice.paidAt === null ? [] : [['Paid', day(invoice.paidAt)] as const]),
    ],
    tables: [
      {
        heading: 'Lines',
        columns: ['Description', 'Quantity', 'Amount'],
        rows: (invoice.lines ?? []).map((line) => [line.description ?? '', String(line.quantity ?? ''), amount(line.amount)]),
      },
      {
        heading: 'Amounts',
        columns: ['', ''],
        rows: [
          ['Subtotal', amount(invoice.subtotalMinor)],
          ...some('Discounts', -invoice.discountMinor),
          ...some('Tax', invoice.taxMinor),
          ['Total', amount(invoice.totalMinor)],
          ...some('Tax included', invoice.includedTaxMinor),
          ...some('Credit notes', -invoice.creditedBeforeMinor),
          ...some('Customer balance', -invoice.balanceMinor),
          ['Paid', amount(invoice.amountPaidMinor)],
          ['Remaining', amount(invoice.amountRemainingMinor)],
          ...some('Credited afterwards', invoice.creditedAfterMinor),
          ...some('Refunded', invoice.refundedMinor),
        ],
      },
    ],
    note: `A copy for your records.${invoice.hostedInvoiceUrl === null ? '' : ` The original: ${invoice.hostedInvoiceUrl}`}`,
    createdAt: invoice.createdAt,
  }
}

type Statement = {
  readonly name: string
  readonly from: Instant
  readonly to: Instant
  readonly timeZone: string
  readonly rows: readonly UsageRow[]
  readonly createdAt: Instant
}

/** What an organization used: in all, and day by day. Pure. */
export function usageReport({ name, from, to, timeZone, rows, createdAt }: Statement): PdfReport {
  const localDay = (at: Instant): string => day(calendarPeriodOf('day', timeZone, at).date)
  const totals = [...Map.groupBy(rows, ({ meter }) => meter)].map(([meter, own]) => [
    meter,
    String(own.reduce((sum, { events }) => sum + events, 0)),
    ...(['quantity', 'drawn', 'overage'] as const).map((key) => formatQuantity(own.reduce((sum, row) => sum + row[key], 0n))),
  ])
  const columns = ['Meter', 'Events', 'Quantity', 'Drawn', 'Overage']
  return {
    title: 'Usage statement',
    facts: [
      ['Of', name],
      ['Period', `${localDay(from)} to ${localDay(to)} (${timeZone}, the end not included)`],
    ],
    tables: [
      { heading: 'In all', columns, rows: totals },
      {
        heading: 'Day by day',
        columns: ['Day and meter', ...columns.slice(1)],
        rows: rows.map((row) => [
          `${row.day} ${row.meter}`,
          String(row.events),
          formatQuantity(row.quantity),
          formatQuantity(row.drawn),
          formatQuantity(row.overage),
        ]),
      },
    ],
    note: 'Drawn is what was taken from allowances and grants; overage is what went beyond them.',
    createdAt,
  }
}

type Analytics = {
  readonly from: Instant
  readonly to: Instant
  readonly summary: Awaited<ReturnType<typeof summarize>>
  readonly createdAt: Instant
}

/** The figures of docs/analytics.md for a period, each currency for itself. Pure. */
export function revenueReport({ from, to, summary, createdAt }: Analytics): PdfReport {
  const { trials } = summary
  return {
    title: 'Revenue report',
    facts: [
      ['Period', `${day(from)} to ${day(to)} (UTC, the end not included)`],
      ['Trials begun', `${trials.started}: ${trials.converted} converted, ${trials.lost} lost, ${trials.running} running`],
    ],
    tables: summary.currencies.map((one) => {
      const amount = (minor: number | null): string => (minor === null ? '–' : money(minor, one.currency))
      return {
        heading: one.currency.toUpperCase(),
        columns: ['', ''],
        rows: [
          ['MRR at the beginning', amount(one.openingMrrMinor)],
          ...MOVEMENT_KINDS.map((kind) => [`${kind} (${one.counts[kind]})`, amount(one.amounts[kind])]),
          ['MRR at the end', amount(one.mrrMinor)],
          ['ARR', amount(one.arrMinor)],
          ['Customers at the end', String(one.customers)],
          ['ARPU', amount(one.arpuMinor)],
          ['Lifetime value', amount(one.lifetimeValueMinor)],
          ['Customer churn', percent(one.customerChurn)],
          ['Gross revenue churn', percent(one.grossRevenueChurn)],
          ['Net revenue churn', percent(one.netRevenueChurn)],
        ],
      }
    }),
    note: 'Definitions: docs/analytics.md.',
    createdAt,
  }
}

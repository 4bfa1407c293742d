import { readPages } from './pages.ts'
import type { InvoiceSnapshot } from './snapshots.ts'

type WireCreditNote = {
  readonly id: string
  readonly status: string
  readonly lines: Page<WireLine>
  readonly out_of_band_amount: number | null
  readonly refunds: readonly { readonly amount_refunded: number; readonly type: string | null }[]
}

type WireLine = {
  readonly id: string
  /** The line of the invoice; none of a line of the note's own. */
  readonly invoice_line_item?: string
  readonly amount: number
  readonly pretax_credit_amounts: readonly { readonly amount: number }[]
  readonly taxes: readonly { readonly amount: number; readonly tax_behavior: string }[] | null
}

export type CreditNote = Omit<WireCreditNote, 'lines'> & { readonly lines: readonly WireLine[] }

type Page<Wire> = { data: Wire[]; has_more: boolean }
type PageParams = { readonly limit: number; readonly starting_after?: string }

type CreditNoteReads = {
  readonly listNotes: (params: PageParams & { readonly invoice: string }) => Promise<Page<WireCreditNote>>
  readonly listLines: (noteId: string, params: PageParams) => Promise<Page<WireLine>>
}

const PAGE = 100

/** Makes what reads the credit notes of an invoice. A note brings its first ten lines; the rest is read by the page. */
export function createCreditNoteReader({ listNotes, listLines }: CreditNoteReads): (invoiceId: string) => Promise<CreditNote[]> {
  const linesOf = (noteId: string): Promise<WireLine[]> =>
    readPages(
      (after) => listLines(noteId, { limit: PAGE, ...after }),
      (line) => line,
    )
  return async (invoice) => {
    const notes = await readPages(
      (after) => listNotes({ invoice, limit: PAGE, ...after }),
      (note) => note,
    )
    return Promise.all(
      notes.map(async ({ lines, ...note }) => ({ ...note, lines: lines.has_more ? await linesOf(note.id) : lines.data })),
    )
  }
}

/**
 * The same invoice with what its credit notes gave back of what was paid, and took off its lines. A payment that Stripe did not take is not given back by
 * Stripe either.
 */
export function withCreditNotes(snapshot: InvoiceSnapshot, notes: readonly CreditNote[]): InvoiceSnapshot {
  const issued = notes.filter(({ status }) => status === 'issued')
  const refunds = issued.flatMap((note) => note.refunds)
  const refunded = (isOutside: boolean) =>
    sum(refunds.filter(({ type }) => (type === 'payment_record_refund') === isOutside).map(({ amount_refunded: minor }) => minor))
  return {
    ...snapshot,
    creditedByRefundMinor: refunded(false),
    creditedOutsideMinor: refunded(true) + sum(issued.map(({ out_of_band_amount: minor }) => minor ?? 0)),
    creditedLines: creditedLinesOf(issued.flatMap(({ lines }) => lines)),
  }
}

function creditedLinesOf(lines: readonly WireLine[]): Record<string, number> {
  const credited: Record<string, number> = {}
  for (const { invoice_line_item: id, amount, pretax_credit_amounts: pretax, taxes } of lines) {
    if (id === undefined) continue
    const exclusive = (taxes ?? []).filter(({ tax_behavior: behavior }) => behavior === 'exclusive')
    const net = amount - sum(pretax.map((each) => each.amount))
    credited[id] = (credited[id] ?? 0) + net + sum(exclusive.map((tax) => tax.amount))
  }
  return credited
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0)
}

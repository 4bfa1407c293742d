import { invoiceReport } from '../src/exports/documents.ts'
import { loadTypeface } from '../src/exports/pdf-fonts.ts'
import { renderReport } from '../src/exports/pdf.ts'
import { readInvoices } from '../src/exports/sources-store.ts'
import type { TestBilling } from './billing.ts'
import { textOfPdf } from './pdf-text.ts'

/** The sums in the PDF of an invoice, such as `Total 29.00 USD`. */
export async function sumsOfPdf({ database }: TestBilling, organizationId: string, invoice: string): Promise<string[]> {
  const wanted = { organizationId, startsAt: null, endsAt: null, filter: {} }
  for await (const invoices of readInvoices(database.db, wanted)) {
    const found = invoices.find(({ id }) => id === invoice)
    if (found === undefined) continue
    const words = textOfPdf(await renderReport(invoiceReport(found), loadTypeface([]))).split('\n')
    // An amount is written before its name.
    const sums = words.slice(
      words.indexOf('Subtotal') - 1,
      words.findIndex((word) => word.startsWith('A copy for')),
    )
    return sums.flatMap((word, index) => (index % 2 === 0 ? [`${sums[index + 1]} ${word}`] : []))
  }
  return []
}

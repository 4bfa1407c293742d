import PdfDocument from 'pdfkit'
import type { InvoiceView } from './invoice-view.ts'
import { invoiceDates, statusOf } from './invoice-view.ts'
import { formatDate, formatMoney } from './money.ts'

const margin = 50
const width = 595 - 2 * margin
const bottom = 842 - 2 * margin

/** What the built-in fonts write (WinAnsiEncoding); other characters would come out as noise, so they become question marks, and currencies their codes. */
const printable = (text: string): string =>
  text
    .replaceAll('₹', 'INR ')
    .replaceAll('₩', 'KRW ')
    .replace(/[^\u0020-\u007e\u00a0-\u00ff€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]/gu, '?')

const money = (invoice: InvoiceView, amount: number): string => printable(formatMoney(amount, invoice.currency))

type Document = PDFKit.PDFDocument

function drawRow(doc: Document, left: string, right: string, options: { bold?: boolean; note?: string | null } = {}): void {
  if (doc.y > bottom) doc.addPage()
  const top = doc.y
  doc.font(options.bold ? 'Helvetica-Bold' : 'Helvetica').fontSize(10)
  doc.text(right, margin + width - 140, top, { width: 140, align: 'right' })
  doc.text(printable(left), margin, top, { width: width - 160 })
  if (options.note)
    doc
      .fontSize(8)
      .fillColor('#565d70')
      .text(printable(options.note), { width: width - 160 })
      .fillColor('#000000')
  doc.moveDown(0.5)
  doc
    .moveTo(margin, doc.y - 3)
    .lineTo(margin + width, doc.y - 3)
    .lineWidth(0.5)
    .stroke('#d3d7e0')
}

function drawHead(doc: Document, invoice: InvoiceView): void {
  doc.font('Helvetica-Bold').fontSize(20).text('Invoice').moveDown(0.5)
  doc.font('Helvetica').fontSize(10)
  const facts = [['Number', invoice.number], ['Status', statusOf(invoice)], ...invoiceDates(invoice)]
  for (const [label, value] of facts) doc.text(`${label}: ${printable(value ?? '')}`)
  doc.moveDown()
  doc.font('Helvetica-Bold').text('From').font('Helvetica').text(printable(invoice.from)).moveDown()
  doc.font('Helvetica-Bold').text('To').font('Helvetica')
  for (const line of invoice.to) doc.text(printable(line))
  doc.moveDown()
  doc
    .font('Helvetica-Bold')
    .fontSize(14)
    .text(`${money(invoice, invoice.amountRemaining)} due`)
    .moveDown()
  if (invoice.memo) doc.font('Helvetica').fontSize(10).text(printable(invoice.memo)).moveDown()
}

/**
 * The invoice as a PDF of A4 pages. `now` (unix seconds) is written as its creation date, so that the sandbox's clock and not
 * the machine's stands in the file.
 */
export async function renderInvoicePdf(invoice: InvoiceView, now: number): Promise<Buffer> {
  const doc = new PdfDocument({
    size: 'A4',
    margin,
    info: { Title: `Invoice ${invoice.number}`, CreationDate: new Date(now * 1000) },
  })
  const chunks: Buffer[] = []
  doc.on('data', (chunk: Buffer) => chunks.push(chunk))
  const ended = new Promise<void>((resolve, reject) => doc.on('end', resolve).on('error', reject))
  drawHead(doc, invoice)
  for (const line of invoice.lines) {
    const note = line.period && `${formatDate(line.period.start)} – ${formatDate(line.period.end)}`
    drawRow(doc, line.description, money(invoice, line.amount), { note })
  }
  for (const sum of invoice.sums) drawRow(doc, sum.label, money(invoice, sum.amount), { bold: sum.strong ?? false })
  if (invoice.footer) doc.moveDown().font('Helvetica').fontSize(8).text(printable(invoice.footer), margin, doc.y, { width })
  doc.end()
  await ended
  return Buffer.concat(chunks)
}

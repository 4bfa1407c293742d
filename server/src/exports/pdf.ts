import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import PdfDocument from 'pdfkit'
import type { Instant } from '../lib/clock.ts'

const MARGIN = 50
const WIDTH = 595 - 2 * MARGIN
const BOTTOM = 842 - 2 * MARGIN

export type PdfTable = {
  readonly heading: string
  /** The first column takes what the others leave. */
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

export type PdfReport = {
  readonly title: string
  readonly facts: readonly (readonly [label: string, value: string])[]
  readonly tables: readonly PdfTable[]
  readonly note: string | null
  readonly createdAt: Instant
}

/** A report as a PDF of A4 pages. The same report makes the same bytes. */
export async function renderReport({ title, facts, tables, note, createdAt }: PdfReport): Promise<Buffer> {
  const document = new PdfDocument({
    size: 'A4',
    margin: MARGIN,
    info: { Title: title, CreationDate: createdAt, Producer: 'Tollgate' },
  })
  const bytes = buffer(document)
  document.font('Helvetica-Bold').fontSize(18).text(printable(title)).moveDown(0.5)
  document.fontSize(10)
  for (const [label, value] of facts) {
    document
      .font('Helvetica-Bold')
      .text(printable(`${label}: `), { continued: true })
      .font('Helvetica')
      .text(printable(value))
  }
  for (const table of tables) drawTable(document, table)
  if (note !== null) document.moveDown().font('Helvetica').fontSize(8).text(printable(note))
  document.end()
  await once(document, 'end')
  return bytes
}

const COLUMN = 85

function drawTable(document: PDFKit.PDFDocument, { heading, columns, rows }: PdfTable): void {
  if (document.y > BOTTOM - 60) document.addPage()
  document.moveDown().font('Helvetica-Bold').fontSize(12).text(printable(heading), MARGIN).moveDown(0.3)
  document.fontSize(9)
  drawRow(document, columns, 'Helvetica-Bold')
  for (const row of rows) {
    if (document.y > BOTTOM) {
      document.addPage()
      drawRow(document, columns, 'Helvetica-Bold')
    }
    drawRow(document, row, 'Helvetica')
  }
}

function drawRow(document: PDFKit.PDFDocument, cells: readonly string[], font: string): void {
  const top = document.y
  const first = WIDTH - COLUMN * (cells.length - 1)
  document.font(font)
  for (const [index, cell] of cells.slice(1).entries()) {
    document.text(printable(cell), MARGIN + first + index * COLUMN, top, { width: COLUMN, align: 'right', lineBreak: false })
  }
  document.text(printable(cells[0] ?? ''), MARGIN, top, { width: first - 10 })
  document.moveDown(0.4)
}

/** The fonts that every reader has know Latin-1 only; other characters would come out as noise, so they become question marks. */
function printable(text: string): string {
  return text
    .replaceAll('–', '-')
    .replaceAll('’', "'")
    .replaceAll('×', 'x')
    .replace(/[^\u0020-\u007e\u00a0-\u00ff]/gu, '?')
}

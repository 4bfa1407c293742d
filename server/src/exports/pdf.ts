import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import PdfDocument from 'pdfkit'
import type { Instant } from '../lib/clock.ts'
import { runsOf, type Faces, type Typeface } from './pdf-fonts.ts'

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
export async function renderReport(report: PdfReport, typeface: Typeface): Promise<Buffer> {
  const { title, facts, tables, note, createdAt } = report
  const document = new PdfDocument({
    size: 'A4',
    margin: MARGIN,
    info: { Title: title, CreationDate: createdAt, Producer: 'Tollgate' },
  })
  const bytes = buffer(document)
  const { regular, bold } = typeface
  for (const face of new Set([...regular.embedded, ...bold.embedded])) document.registerFont(face.name, face.bytes, face.member)
  document.fontSize(18)
  write(document, title, bold)
  document.moveDown(0.5).fontSize(10)
  for (const [label, value] of facts) {
    write(document, `${label}: `, bold, { continued: true })
    write(document, value, regular)
  }
  for (const table of tables) drawTable(document, table, typeface)
  if (note !== null) {
    document.moveDown().fontSize(8)
    write(document, note, regular)
  }
  document.end()
  await once(document, 'end')
  return bytes
}

/** Writes a text from where the last one ended, each part of it in the font that has it; lines break as they must. */
function write(document: PDFKit.PDFDocument, text: string, faces: Faces, options: PDFKit.Mixins.TextOptions = {}): void {
  const runs = runsOf(text, faces)
  for (const [index, run] of runs.entries()) {
    const isContinued = index < runs.length - 1 || options.continued === true
    document.font(run.font).text(run.text, { ...options, continued: isContinued })
  }
}

/** Writes a text in one line that ends at a place. */
function writeUpTo(
  document: PDFKit.PDFDocument,
  text: string,
  faces: Faces,
  end: { readonly x: number; readonly y: number },
): void {
  let { x } = end
  for (const run of runsOf(text, faces).toReversed()) {
    x -= document.font(run.font).widthOfString(run.text)
    document.text(run.text, x, end.y, { lineBreak: false })
  }
}

const COLUMN = 85

function drawTable(document: PDFKit.PDFDocument, { heading, columns, rows }: PdfTable, { regular, bold }: Typeface): void {
  if (document.y > BOTTOM - 60) document.addPage()
  document.moveDown().fontSize(12)
  document.x = MARGIN
  write(document, heading, bold)
  document.moveDown(0.3).fontSize(9)
  drawRow(document, columns, bold)
  for (const row of rows) {
    if (document.y > BOTTOM) {
      document.addPage()
      drawRow(document, columns, bold)
    }
    drawRow(document, row, regular)
  }
}

function drawRow(document: PDFKit.PDFDocument, cells: readonly string[], faces: Faces): void {
  const top = document.y
  const first = WIDTH - COLUMN * (cells.length - 1)
  for (const [index, cell] of cells.slice(1).entries()) {
    writeUpTo(document, cell, faces, { x: MARGIN + first + (index + 1) * COLUMN, y: top })
  }
  document.x = MARGIN
  document.y = top
  write(document, cells[0] ?? '', faces, { width: first - 10 })
  document.moveDown(0.4)
}

import { CONTROLS } from '../lib/storable.ts'

/** Where a command's words go. */
export type Output = { readonly out: (text: string) => void; readonly err: (text: string) => void }

/** Prints an answer: as JSON when asked to, else as lines of `name: value`, or as a table for a list of records. */
export function printAnswer(answer: unknown, { json, output }: { json: boolean; output: Output }): void {
  if (json) {
    // JSON leaves some of them as they are; escaped, they say the same.
    output.out(`${withoutControls(JSON.stringify(answer, asJson, 2), CONTROLS_BUT_LINES)}\n`)
    return
  }
  if (Array.isArray(answer)) output.out(formatTable(answer as readonly Record<string, unknown>[]))
  else if (answer !== null && typeof answer === 'object') output.out(formatRecord(answer as Record<string, unknown>))
  else output.out(`${String(answer)}\n`)
}

/** JSON has no whole numbers of any size: a bigint is its text. */
function asJson(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}

function formatRecord(record: Readonly<Record<string, unknown>>): string {
  const width = Math.max(...Object.keys(record).map((name) => name.length), 0)
  return Object.entries(record)
    .map(([name, value]) => `${name.padEnd(width)}  ${withoutControls(formatValue(value), CONTROLS_BUT_LINES)}\n`)
    .join('')
}

function formatTable(records: readonly Readonly<Record<string, unknown>>[]): string {
  const [first] = records
  if (first === undefined) return 'none\n'
  const names = Object.keys(first)
  const rows = [names, ...records.map((record) => names.map((name) => withoutControls(formatValue(record[name]), CONTROLS)))]
  const widths = names.map((_name, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}

function formatValue(value: unknown): string {
  if (value === null || value === undefined) return '–'
  return typeof value === 'string' ? value : JSON.stringify(value, asJson)
}

/** Of a record on its own, as a mail's text, lines stay. */
const CONTROLS_BUT_LINES = /[^\P{Cc}\n\t]|[\u202a-\u202e\u2066-\u2069]/gu

/** Characters that a terminal would obey, written as JSON writes them. */
function withoutControls(text: string, which: RegExp): string {
  return text.replace(which, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

// What a spreadsheet takes for a formula when a cell begins with it (OWASP, CSV injection), full-width forms included. A decimal number is none.
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/
const DECIMAL = /^-?\d+(\.\d+)?$/

/**
 * One cell of a CSV file (RFC 4180), safe to open in a spreadsheet: text that would be run as a formula gets an apostrophe in
 * front, which spreadsheets show as the text. null is an empty cell.
 */
export function csvCell(value: string | number | bigint | boolean | null): string {
  if (value === null) return ''
  const text = String(value)
  const safe = FORMULA.test(text) && !DECIMAL.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** One line of a CSV file, with its end. */
export function csvLine(values: readonly (string | number | bigint | boolean | null)[]): string {
  return `${values.map(csvCell).join(',')}\r\n`
}

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { csvCell, csvLine } from './csv.ts'

/** Reads one line as RFC 4180 says, by nothing of ours. */
function parseLine(line: string): string[] {
  const cells: string[] = []
  for (const match of line.slice(0, -2).matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)) {
    cells.push(match[1] === undefined ? match[2]! : match[1].replaceAll('""', '"'))
  }
  return cells
}

describe('a line of CSV', () => {
  it('reads back as what was written, but for the apostrophe before a formula', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1 }), { minLength: 1 }), (values) => {
        const cells = parseLine(csvLine(values))
        expect(cells.map((cell, index) => (cell === `'${values[index]}` ? values[index] : cell))).toEqual(values)
      }),
    )
  })

  it('never begins a cell with what a spreadsheet runs', () => {
    const text = fc.string({ unit: fc.constantFrom('=', '+', '-', '@', '\t', '\r', '\n', '"', ',', '1', 'a', '＝') })
    fc.assert(
      fc.property(text, (value) => {
        const [cell = ''] = parseLine(csvLine([value]))
        expect(/^[=+\-@\t\r\n＝]/.test(cell) && !/^-\d+$/.test(cell)).toBe(false)
      }),
    )
    expect(csvCell('=HYPERLINK("http://x")')).toBe('"\'=HYPERLINK(""http://x"")"')
  })

  it('leaves numbers what they are', () => {
    expect(csvLine([-1.5, '-2', 10n, true, null, '-2+3'])).toBe("-1.5,-2,10,true,,'-2+3\r\n")
  })
})

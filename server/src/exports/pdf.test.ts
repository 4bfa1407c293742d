import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { textOfPdf } from '../../test/pdf-text.ts'
import { renderReport, type PdfReport } from './pdf.ts'
import { loadTypeface, runsOf } from './pdf-fonts.ts'

const directory = mkdtempSync(join(tmpdir(), 'tollgate-fonts-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const typeface = loadTypeface([])

const report = (name: string, line = '2 × Pro (at €29.00 / month) – the owner’s'): PdfReport => ({
  title: `Invoice of ${name}`,
  facts: [['To', name]],
  tables: [{ heading: name, columns: ['Description', name], rows: [[line, '58.00 EUR']] }],
  note: null,
  createdAt: new Date('2026-03-10T00:00:00Z'),
})

describe('a PDF', () => {
  it.each(['Łódź', 'Привет, мир', 'Ünï Œuvre €', 'Ελλάδα', 'Đặng Thị Ngọc', 'Հայաստան', 'საქართველო', '₹ № ½'])(
    'has the name %s wherever it stands',
    async (name) => {
      const words = textOfPdf(await renderReport(report(name), typeface))
      expect(words.split('\n').filter((line) => line.includes(name))).toHaveLength(4)
    },
  )

  it('has signs as they are: times, euro, dashes, apostrophes', async () => {
    expect(textOfPdf(await renderReport(report('Acme'), typeface))).toContain('2 × Pro (at €29.00 / month) – the owner’s')
  })

  it('takes with it of its fonts only what it writes, and none for what every reader can write', async () => {
    expect((await renderReport(report('Привет'), typeface)).byteLength).toBeLessThan(30_000)
    const plain = await renderReport(report('Ünï €'), typeface)
    expect(plain.byteLength).toBeLessThan(4_000)
    expect(plain.toString('latin1')).not.toContain('/FontFile')
  })

  it('is the same, byte by byte, for the same report', async () => {
    const [first, second] = [await renderReport(report('Łódź'), typeface), await renderReport(report('Łódź'), typeface)]
    expect(first.equals(second)).toBe(true)
  })

  it('shows a sign for a character that no font has, and the rest of the name', async () => {
    expect(textOfPdf(await renderReport(report('東京 Tōkyō'), typeface))).toContain('□□ Tōkyō')
  })

  it('does not write from the left what is written from the right: signs instead of words in the wrong order', () => {
    const { regular } = typeface
    expect(
      runsOf('Acme مرحبا', regular)
        .map(({ text }) => text)
        .join(''),
    ).toBe('Acme □□□□□')
    expect(
      runsOf('Łódź', regular)
        .map(({ text }) => text)
        .join(''),
    ).toBe('Łódź')
  })

  it('writes with a font of one’s own what its own does not have', async () => {
    const letter = String.fromCodePoint(0x1d4d0)
    expect(textOfPdf(await renderReport(report(`${letter} Ł`), typeface))).not.toContain(letter)
    const own = fileURLToPath(import.meta.resolve('dejavu-fonts-ttf/ttf/DejaVuMathTeXGyre.ttf'))
    const words = textOfPdf(await renderReport(report(`${letter} Ł`), loadTypeface([own])))
    expect(words.split(letter)).toHaveLength(5)
    expect(words).not.toContain('□')
  })

  it('is not begun with a file that is no font', () => {
    const path = join(directory, 'words.txt')
    writeFileSync(path, 'no font')
    expect(() => loadTypeface([path])).toThrow(`${path} cannot be read as a font of PDFs`)
    expect(() => loadTypeface([join(directory, 'missing.ttf')])).toThrow('missing.ttf cannot be read')
  })
})

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { create } from 'fontkit'
import { StartError } from '../start-error.ts'

/** A font file that a PDF takes with it: of its characters only those that are written. */
export type Face = {
  readonly name: string
  readonly bytes: Buffer
  /** Which font of a collection (TTC) it is. */
  readonly member?: string
  readonly has: (codePoint: number) => boolean
}

/** One weight: the font that every reader of PDFs has, and those for what it cannot write, in the order in which a character is looked for. */
export type Faces = { readonly standard: string; readonly embedded: readonly Face[] }

export type Typeface = { readonly regular: Faces; readonly bold: Faces }

/** A part of a text, and the font that writes it. */
export type Run = { readonly font: string; readonly text: string }

/** What stands for a character that no font has. */
const MISSING = '□'

/** What the standard fonts of PDF write (WinAnsiEncoding: Latin-1 and a few more). A document of nothing else embeds no font, and is made in a tenth of the time. */
const STANDARD = /^[\u0020-\u007e\u00a0-\u00ff€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]*$/

/**
 * Helvetica; DejaVu Sans for texts that have more (Greek, Cyrillic, Armenian, Georgian, the rest of Latin); and fonts of one's own
 * for what that does not have either.
 * @param files paths of TTF, OTF, TTC or WOFF files
 * @throws StartError that names the file that is no font
 */
export function loadTypeface(files: readonly string[]): Typeface {
  const others = files.map((path) => loadFace(path))
  const [regular, bold] = ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'].map((file) =>
    loadFace(fileURLToPath(import.meta.resolve(`dejavu-fonts-ttf/ttf/${file}`))),
  ) as [Face, Face]
  return {
    regular: { standard: 'Helvetica', embedded: [regular, ...others] },
    bold: { standard: 'Helvetica-Bold', embedded: [bold, regular, ...others] },
  }
}

function loadFace(path: string): Face {
  try {
    const bytes = readFileSync(path)
    const opened = create(bytes)
    // A collection has the same characters in several forms; the first is as good as another.
    const font = 'fonts' in opened ? opened.fonts[0]! : opened
    const has = (codePoint: number): boolean => font.hasGlyphForCodePoint(codePoint)
    return { name: path, bytes, has, ...('fonts' in opened ? { member: font.postscriptName } : {}) }
  } catch (error) {
    throw new StartError(`${path} cannot be read as a font of PDFs (TTF, OTF, TTC or WOFF).`, { cause: error })
  }
}

// What is written from the right would stand with its words in the wrong order (pdfkit lays them out from the left): a name that is none is
// better than another one.
const FROM_THE_RIGHT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u

const characters = new Intl.Segmenter('en', { granularity: 'grapheme' })

/** A text in parts, each with the first font that has all of its characters. Pure. */
export function runsOf(text: string, { standard, embedded }: Faces): readonly Run[] {
  const written = text
    .normalize('NFC')
    .replace(/\p{Cc}/gu, ' ')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
  if (STANDARD.test(written)) return [{ font: standard, text: written }]
  const runs: Run[] = []
  for (const { segment } of characters.segment(written)) {
    const codePoints = Array.from(segment, (character) => character.codePointAt(0)!)
    const face = FROM_THE_RIGHT.test(segment) ? undefined : embedded.find(({ has }) => codePoints.every(has))
    const run = { font: (face ?? embedded[0]!).name, text: face === undefined ? MISSING : segment }
    const last = runs.at(-1)
    if (last?.font === run.font) runs[runs.length - 1] = { font: run.font, text: last.text + run.text }
    else runs.push(run)
  }
  return runs
}

import { inflateSync } from 'node:zlib'

/** What one code of a font means, by its ToUnicode table; null for a font without one, whose bytes are WinAnsi. */
type Meanings = ReadonlyMap<string, string> | null

const winAnsi = new TextDecoder('windows-1252')

/** The words of a PDF of pdfkit's as a reader would copy them out, a piece of a line in each line. */
export function textOfPdf(pdf: Buffer): string {
  const objects = new Map(
    [...pdf.toString('latin1').matchAll(/^(\d+) 0 obj\n([^]*?)\nendobj/gm)].map(([, number, body]) => [number!, body!]),
  )
  const fonts = new Map<string, Meanings>()
  for (const body of objects.values()) {
    const resources = /\/Font <<([^>]*)>>/.exec(body)?.[1] ?? ''
    for (const [, name, number] of resources.matchAll(/\/(\w+) (\d+) 0 R/g)) {
      const table = /\/ToUnicode (\d+) 0 R/.exec(objects.get(number!)!)?.[1]
      fonts.set(name!, table === undefined ? null : meaningsOf(streamOf(objects.get(table)!)!))
    }
  }
  return [...objects.values()].flatMap((body) => wordsOf(streamOf(body) ?? '', fonts)).join('\n')
}

function streamOf(body: string): string | null {
  const stream = /stream\n([^]*)\nendstream/.exec(body)?.[1]
  if (stream === undefined) return null
  return body.includes('/FlateDecode') ? inflateSync(Buffer.from(stream, 'latin1')).toString('latin1') : stream
}

function meaningsOf(table: string): Map<string, string> {
  const meanings = new Map<string, string>()
  for (const [, first, list] of table.matchAll(/<([0-9a-f]{4})> <[0-9a-f]{4}> \[([^\]]*)\]/g)) {
    for (const [index, [, hex]] of [...list!.matchAll(/<([0-9a-f ]*)>/g)].entries()) {
      const code = (Number.parseInt(first!, 16) + index).toString(16).padStart(4, '0')
      meanings.set(code, Buffer.from(hex!.replaceAll(' ', ''), 'hex').swap16().toString('utf16le'))
    }
  }
  return meanings
}

function wordsOf(content: string, fonts: ReadonlyMap<string, Meanings>): string[] {
  let meanings: Meanings = null
  const words: string[] = []
  for (const [, font, shown] of content.matchAll(/\/(\w+) [\d.]+ Tf|\[(.*?)\] TJ/g)) {
    if (font !== undefined) meanings = fonts.get(font) ?? null
    if (shown === undefined) continue
    const hex = [...shown.matchAll(/<([0-9a-f]+)>/g)].map(([, piece]) => piece).join('')
    const known = meanings
    words.push(
      known === null
        ? winAnsi.decode(Buffer.from(hex, 'hex'))
        : (hex.match(/.{4}/g) ?? []).map((code) => known.get(code) ?? '\uFFFD').join(''),
    )
  }
  return words
}

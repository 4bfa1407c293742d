/**
 * A small `html` tagged template that escapes by default.
 *
 * Everything interpolated is escaped, in text and in quoted attributes, unless it is itself the result of `html`.
 * There is no way to insert a raw string, so no page can forget.
 */

const markup: unique symbol = Symbol('markup')

/** A piece of finished markup. Only `html` makes one. */
export interface Html {
  readonly [markup]: string
}

export type Interpolated = string | number | bigint | Html | null | undefined | false | readonly Interpolated[]

const replacements: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => replacements[character] ?? character)

const isHtml = (value: object): value is Html => markup in value

function render(value: Interpolated): string {
  if (value === null || value === undefined || value === false) return ''
  if (typeof value !== 'object') return escape(String(value))
  if (isHtml(value)) return value[markup]
  return value.map((part) => render(part)).join('')
}

/** Builds markup; null, undefined and false render as nothing, arrays are joined. */
export function html(strings: TemplateStringsArray, ...values: readonly Interpolated[]): Html {
  let text = strings[0] ?? ''
  for (const [index, value] of values.entries()) text += render(value) + (strings[index + 1] ?? '')
  return { [markup]: text }
}

/** The document's text, ready to send. */
export function toDocument(page: Html): string {
  return `<!doctype html>\n${page[markup]}`
}

/** An address that may stand in an `href`: http and https only, so that no stored value becomes a script. */
export function linkTarget(url: string): string | null {
  if (!URL.canParse(url)) return null
  const { protocol } = new URL(url)
  return protocol === 'http:' || protocol === 'https:' ? url : null
}

/** What a form body or a query string decodes to before the operation's schema gives the values their types. */
export type FormValue = string | FormObject
export interface FormObject {
  [key: string]: FormValue
}

/** Deeper nesting than this is an attack, not a request. */
const MAX_DEPTH = 20

/**
 * Decodes `application/x-www-form-urlencoded` text with every nesting style that Stripe's clients send: `a[b]=1`, `a[0][b]=1`, `a[]=1`,
 * `a[][b]=1&a[][c]=2` (a repeated key begins the next element), `a=1`. Lists become objects with the keys `0`, `1`, …: only
 * the schema knows whether `metadata[0]` is a list.
 */
export function decodeForm(text: string): FormObject {
  const result: FormObject = Object.create(null) as FormObject
  if (text === '') return result
  for (const pair of text.split('&')) {
    if (pair === '') continue
    const split = pair.indexOf('=')
    const name = decodePart(split < 0 ? pair : pair.slice(0, split))
    const value = split < 0 ? '' : decodePart(pair.slice(split + 1))
    if (!name.includes('[')) result[name] = value
    else assign(result, keysOf(name), value)
  }
  return result
}

function decodePart(text: string): string {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text
  if (!spaced.includes('%')) return spaced
  try {
    return decodeURIComponent(spaced)
  } catch {
    return spaced
  }
}

/** `a[b][]` → `['a', 'b', '']` */
function keysOf(name: string): string[] {
  const open = name.indexOf('[')
  const keys = [name.slice(0, open)]
  for (const match of name.slice(open).matchAll(/\[([^\]]*)\]/g)) keys.push(match[1] ?? '')
  return keys.slice(0, MAX_DEPTH)
}

function assign(root: FormObject, keys: string[], value: string): void {
  let target = root
  for (const [index, key] of keys.entries()) {
    const last = index === keys.length - 1
    const name = key === '' ? elementKey(target, last ? undefined : keys[index + 1]) : key
    if (last) {
      target[name] = value
      return
    }
    const existing = target[name]
    const child = typeof existing === 'object' ? existing : (Object.create(null) as FormObject)
    target[name] = child
    target = child
  }
}

/** The element that `[]` names: the last one while it lacks `nextKey`, else a new one. */
function elementKey(list: FormObject, nextKey: string | undefined): string {
  const count = Object.keys(list).length
  if (count === 0 || nextKey === undefined) return String(count)
  const last = list[String(count - 1)]
  const continues = typeof last === 'object' && (nextKey === '' || !(nextKey in last))
  return String(continues ? count - 1 : count)
}

/** Encodes parameters as Stripe's clients do: `a[b]=1`, `a[0][c]=2`. */
export function encodeForm(params: Record<string, unknown>): string {
  const pairs: string[] = []
  const add = (name: string, value: unknown) => {
    if (typeof value === 'object' && value !== null) {
      for (const [key, member] of Object.entries(value)) add(`${name}[${key}]`, member)
    } else if (value !== undefined) pairs.push(`${encodeURIComponent(name)}=${encodeURIComponent(textOf(value))}`)
  }
  for (const [name, value] of Object.entries(params)) add(name, value)
  return pairs.join('&')
}

function textOf(value: unknown): string {
  if (value === null) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}

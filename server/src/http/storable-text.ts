import { DomainError } from '../lib/errors.ts'
import { refuseTooDeep } from '../lib/json.ts'
import { isStorable } from '../lib/storable.ts'

/** How JSON writes a NUL, or half of a character: the only ways in which either comes in a body that is UTF-8. */
const ESCAPED = /\\u(?:0000|d[89a-f])/i

/**
 * Refuses text in an address that PostgreSQL cannot store: a NUL. Half a character is none in UTF-8, and reads as U+FFFD there.
 * @throws DomainError `invalid_request`, naming the field
 */
export function refuseUnstorable(address: { readonly path: string; readonly query: Record<string, string> }): void {
  if (address.path.includes('\0')) throw unstorable('path')
  for (const [name, value] of Object.entries(address.query)) if (value.includes('\0')) throw unstorable(name)
}

/** Refuses a JSON body, as it was parsed and as it was written, with a NUL or half of a character in a text. @throws as `refuseUnstorable` */
export function refuseUnstorableBody(body: unknown, text: string): void {
  if (!ESCAPED.test(text)) return
  const field = findUnstorable(body, [])
  if (field !== null) throw unstorable(field.join('.'))
}

function findUnstorable(value: unknown, path: readonly string[]): readonly string[] | null {
  if (typeof value === 'string') return isStorable(value) ? null : path
  if (value === null || typeof value !== 'object') return null
  refuseTooDeep(path.length)
  for (const [name, inner] of Object.entries(value)) {
    const found = isStorable(name) ? findUnstorable(inner, [...path, name]) : path
    if (found !== null) return found
  }
  return null
}

function unstorable(field: string): DomainError {
  return new DomainError('invalid_request', 'A NUL or half a character cannot be stored.', { field })
}

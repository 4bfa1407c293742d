import { DomainError } from './errors.ts'

const DEEPEST = 200

/**
 * Refuses a value within so many others that whoever walks through all of it would run out of stack; nothing that is taken in is nearly so deep.
 * @throws DomainError `invalid_request`
 */
export function refuseTooDeep(depth: number): void {
  if (depth > DEEPEST) throw new DomainError('invalid_request', `A body has at most ${DEEPEST} values within each other.`)
}

/** The value, or the text itself where it is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

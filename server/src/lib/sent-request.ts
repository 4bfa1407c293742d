import { isDeepStrictEqual } from 'node:util'
import { DomainError } from './errors.ts'

/** A request that changes something, as it was sent. */
export type SentRequest = {
  /** Which change: the route's own name. */
  readonly operation: string
  readonly body: Readonly<Record<string, unknown>>
}

/** The same under a key of the caller's (Idempotency-Key). */
export type KeyedRequest = SentRequest & { readonly key: string }

/**
 * Refuses a request under a key that was used before for another one.
 * @throws DomainError `idempotency_conflict`; it names the field
 */
export function refuseAnother(known: SentRequest, { key, operation, body }: KeyedRequest): void {
  const fields = new Set([...Object.keys(known.body), ...Object.keys(body)])
  const differing = [...fields].find((field) => !isDeepStrictEqual(known.body[field], body[field]))
  const field = known.operation === operation ? differing : 'path'
  if (field === undefined) return
  throw new DomainError('idempotency_conflict', `The key "${key}" was used before for another request: ${field} differs.`, {
    idempotency_key: key,
    field,
  })
}

import { isDeepStrictEqual } from 'node:util'
import { DomainError } from './errors.ts'

/** A request that changes something. */
export type SentRequest = {
  /** Which change: the route's own name. */
  readonly operation: string
  /** What it means, in one spelling: a quantity, a time or a set that can be written in several ways is written in one. */
  readonly body: Readonly<Record<string, unknown>>
}

/** The same under a key of the caller's (Idempotency-Key). */
export type KeyedRequest = SentRequest & { readonly key: string }

/** Keys are an organization's own: whether it is named besides changes nothing. */
const ORGANIZATION = 'organization_id'

/**
 * Refuses a request under a key that was used before for another one. What is null and what is left out mean the same.
 * @throws DomainError `idempotency_conflict`; it names the field
 */
export function refuseAnother(known: SentRequest, { key, operation, body }: KeyedRequest): void {
  const fields = new Set([...Object.keys(known.body), ...Object.keys(body)])
  const isSame = (field: string): boolean => isDeepStrictEqual(known.body[field] ?? null, body[field] ?? null)
  const differing = [...fields].find((field) => field !== ORGANIZATION && !isSame(field))
  const field = known.operation === operation ? differing : 'path'
  if (field === undefined) return
  throw new DomainError('idempotency_conflict', `The key "${key}" was used before for another request: ${field} differs.`, {
    idempotency_key: key,
    field,
  })
}

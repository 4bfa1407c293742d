import type { z } from '@hono/zod-openapi'
import { organizationFor, requireScope, type Principal } from '../../auth/principal.ts'
import { invalidRequest } from '../../http/app.ts'
import { internalProblem, problemOf } from '../../http/problems.ts'
import { DomainError, orDomainError } from '../../lib/errors.ts'
import { submitParsed, type UsageContext } from '../api.ts'
import type { UsageAnswer, UsageRequest } from '../usage.ts'
import { creditHeaders, retryAfterOf, type problemItemSchema } from './bodies.ts'
import { readPlainItem } from './fast-bodies.ts'
import { batchItemSchema, requestOfItem, type OrganizationOf } from './requests.ts'

// What the app's routes and the hot path share, so that both are one contract.

/** @throws DomainError `unauthenticated`, `forbidden` */
export function requireWriter({ writers }: Pick<UsageContext, 'writers'>, principal: Principal | null): Principal {
  const caller = requireScope(principal, 'write')
  if (writers !== 'operators' || caller.kind === 'operator') return caller
  throw new DomainError('forbidden', 'Here operators alone tell use, settle it and take it back (TOLLGATE_USAGE_WRITERS).')
}

/** Whoever may record may also ask. */
export function requireAsker(principal: Principal | null): Principal {
  const mayWrite = principal !== null && principal.kind !== 'operator' && principal.scopes.includes('write')
  return requireScope(principal, mayWrite ? 'write' : 'read')
}

export function organizationsOf(principal: Principal): OrganizationOf {
  return (named) => organizationFor(principal, named)
}

/** The headers of EM-5, and whether this is the first answer again. */
export function headersOf(answer: UsageAnswer): Record<string, string> {
  const headers = creditHeaders(answer.balance)
  if (answer.retryAfterMs !== null) headers['Retry-After'] = String(retryAfterOf(answer.retryAfterMs))
  if (answer.replayed) headers['Idempotent-Replayed'] = 'true'
  return headers
}

export type BatchCall = {
  /** In the place of one that is known to be wrong, the error that says so. */
  readonly items: readonly unknown[]
  readonly organizationOf: OrganizationOf
  readonly requestId: string
}

type ProblemItem = z.infer<typeof problemItemSchema>

/** Decides a batch: one result per item, in order; what is wrong with an item is its own result. */
export async function decideBatch(
  { metering }: UsageContext,
  { items, organizationOf, requestId }: BatchCall,
): Promise<(UsageAnswer | ProblemItem)[]> {
  const parsed = items.map((item) => parseItem(item, organizationOf))
  const outcomes = await submitParsed(metering, parsed)
  return outcomes.map((outcome) => (outcome.kind === 'answer' ? outcome.answer : problemItem(outcome.error, requestId)))
}

function parseItem(item: unknown, organizationOf: OrganizationOf): UsageRequest | DomainError {
  if (item instanceof DomainError) return item
  return orDomainError(() => {
    const plain = readPlainItem(item)
    if (plain) return requestOfItem(plain, organizationOf)
    const parsed = batchItemSchema.safeParse(item)
    return parsed.success ? requestOfItem(parsed.data, organizationOf) : invalidRequest(parsed.error.issues)
  })
}

function problemItem(error: Error, requestId: string): ProblemItem {
  const problem = error instanceof DomainError ? problemOf(error, requestId).body : internalProblem(requestId)
  return { allowed: false, error: problem as { code: string; detail: string } }
}

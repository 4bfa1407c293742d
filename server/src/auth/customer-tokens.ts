import type { Queryable } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { digestOf } from './api-keys.ts'
import { findCustomerToken } from './customer-token-store.ts'
import type { Principal } from './principal.ts'

export const CUSTOMER_TOKEN_PREFIX = 'tgc_'

/** What a page that shows a customer's bills reads. */
const READS = [
  /^\/api\/v1\/billing\/(config|plans|subscription|quota|usage|invoices|payment-methods|top-ups|add-ons|details)$/,
  /^\/api\/v1\/usage(\/(report|events|stream))?$/,
  /^\/api\/v1\/(balances|grants|entitlements(\/[^/]+)?)$/,
]

/** What a customer does on such a page. Everything else, and every route to come, stays closed. */
const ACTIONS = [
  /^\/api\/v1\/billing\/(checkout|portal|(subscribe|upgrade|change|cancel|pause|resume|downgrade|add-ons|seats|top-ups)(\/undo)?(\/preview)?)$/,
  /^\/api\/v1\/billing\/(invoices\/[^/]+\/pay|payment-methods(\/[^/]+)?|details)$/,
]

/** Whether a token for an embedded billing page opens a route; `path` is the one under `/api/v1`. Pure. */
export function opensToCustomers(method: string, path: string): boolean {
  const patterns = method === 'GET' || method === 'HEAD' ? READS : ACTIONS
  return patterns.some((pattern) => pattern.test(path))
}

export type CustomerTokenVerifierOptions = { readonly db: Queryable; readonly secret: string; readonly clock: Clock }

/** Who a customer token stands for; null for a wrong, expired or revoked one. Looked up on each call, so a revocation counts at once. */
export function createCustomerTokenVerifier({ db, secret, clock }: CustomerTokenVerifierOptions) {
  return async (token: string): Promise<Extract<Principal, { kind: 'customer_token' }> | null> => {
    const found = await findCustomerToken(db, digestOf(secret, token))
    if (found === null || found.revokedAt !== null || found.expiresAt <= clock.now()) return null
    // `admin` is what the routes of money ask for; which routes those are is decided by `opensToCustomers`.
    return { kind: 'customer_token', tokenId: found.id, organizationId: found.organizationId, scopes: ['read', 'admin'] }
  }
}

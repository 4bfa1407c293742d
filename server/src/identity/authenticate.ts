import { keyOfRequest, type KeyVerifier } from '../auth/api-keys.ts'
import { CUSTOMER_TOKEN_PREFIX, opensToCustomers } from '../auth/customer-tokens.ts'
import type { HostTokenVerifier } from '../auth/host-tokens.ts'
import type { Principal } from '../auth/principal.ts'
import { DomainError } from '../lib/errors.ts'
import { decode, principalOf, readSession, sessionCookieOf, type Session, type SessionsContext } from './sessions.ts'

/** What is read of a request to find out who calls. The hot path gives headers alone: it serves POSTs of use. */
export type AuthenticatedRequest = {
  readonly headers: { get(name: string): string | null }
  readonly method?: string
  readonly url?: string
}

export type AuthenticatorParts = {
  readonly keys: KeyVerifier
  readonly customerTokens: (token: string) => Promise<Principal | null>
  /** null unless a host's tokens are accepted. */
  readonly hostTokens: HostTokenVerifier | null
  readonly sessions: SessionsContext
  /** Origins of pages that may call with the cookie. */
  readonly trustedOrigins: readonly string[]
  /** The path under which a request is routed. */
  readonly pathOf: (url: string) => string
}

export const ORGANIZATION_HEADER = 'x-organization-id'

/** Finds out who calls. A key or token that is sent decides alone: the cookie counts only where there is none. */
export function createAuthenticator(parts: AuthenticatorParts): (request: AuthenticatedRequest) => Promise<Principal | null> {
  return async (request) => {
    const key = keyOfRequest(request.headers)
    if (key === null) return ofCookie(parts, request)
    // First, as it is the path of metering; what is no API key is refused there by its prefix.
    const principal = await parts.keys.verify(key)
    if (principal?.kind === 'operator') return actingAsNamed(principal, request)
    return principal ?? ofToken(parts, key, request)
  }
}

async function ofToken(parts: AuthenticatorParts, key: string, request: AuthenticatedRequest): Promise<Principal | null> {
  if (key.startsWith(CUSTOMER_TOKEN_PREFIX)) return ofCustomerToken(parts, key, request)
  if (!key.includes('.')) return null
  const session = await readSession(parts.sessions, decode(key))
  if (session !== null) return principalIn(session, request)
  return parts.hostTokens === null ? null : parts.hostTokens(key)
}

async function ofCustomerToken(parts: AuthenticatorParts, key: string, request: AuthenticatedRequest): Promise<Principal | null> {
  const principal = await parts.customerTokens(key)
  if (principal === null) return null
  const { method, url } = request
  if (method !== undefined && url !== undefined && opensToCustomers(method, parts.pathOf(url))) return principal
  throw new DomainError('forbidden', 'A customer token opens the billing pages of its organization only.')
}

async function ofCookie(parts: AuthenticatorParts, request: AuthenticatedRequest): Promise<Principal | null> {
  const signed = sessionCookieOf(request.headers.get('cookie'))
  if (signed === null) return null
  const session = await readSession(parts.sessions, signed)
  if (session === null) return null
  refuseForeignPages(parts, request)
  return principalIn(session, request)
}

/** What a browser that sends no origin says of a page that is not ours. */
const ELSEWHERE: ReadonlySet<string> = new Set(['cross-site', 'same-site'])

/**
 * A browser sends the cookie by itself, so a page elsewhere must not be able to change anything with it. SameSite=Lax keeps
 * it from other sites; the origin is looked at for those on the same one.
 * @throws DomainError `forbidden`
 */
export function refuseForeignPages(
  { trustedOrigins }: Pick<AuthenticatorParts, 'trustedOrigins'>,
  { headers, method = 'POST' }: AuthenticatedRequest,
): void {
  if (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') return
  const origin = headers.get('origin')
  const foreign = origin === null ? ELSEWHERE.has(headers.get('sec-fetch-site') ?? '') : !trustedOrigins.includes(origin)
  if (foreign) throw new DomainError('forbidden', 'This page may not act for who is signed in: its origin is not trusted.')
}

function principalIn(session: Session, request: AuthenticatedRequest): Principal {
  const principal = principalOf(session, organizationNamedBy(request))
  if (principal !== null) return principal
  throw new DomainError('not_found', 'There is no such organization.')
}

function actingAsNamed(operator: Extract<Principal, { kind: 'operator' }>, request: AuthenticatedRequest): Principal {
  const named = organizationNamedBy(request)
  return named === null ? operator : { ...operator, actingIn: named as NonNullable<typeof operator.actingIn> }
}

/** The header, else `?organization_id=`. */
function organizationNamedBy({ headers, url }: AuthenticatedRequest): string | null {
  const header = headers.get(ORGANIZATION_HEADER)
  if (header !== null && header !== '') return header
  const query = url === undefined ? -1 : url.indexOf('?')
  return query === -1 ? null : new URLSearchParams(url!.slice(query)).get('organization_id')
}

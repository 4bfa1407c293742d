import { createHmac, timingSafeEqual } from 'node:crypto'
import { SCOPES_OF_ROLE, type Membership, type Principal } from '../auth/principal.ts'
import { findSession, type SessionRow } from '../auth/session-store.ts'
import type { Queryable } from '../db/database.ts'
import type { OrganizationId } from '../lib/ids.ts'
import { ensureOrganizationOf } from '../organizations/members.ts'
import type { OrganizationsContext } from '../organizations/actions.ts'
import { SESSION_COOKIE } from './better-auth.ts'

/** A session as the identity routes see it: the person first, then what they belong to. */
export type Session = SessionRow & { readonly isOperator: boolean }

export type SessionsContext = {
  readonly db: Queryable
  /** The secret with which better-auth signs its cookies. */
  readonly secret: string
  /** Addresses whose owners are operators once they are verified. */
  readonly operatorEmails: ReadonlySet<string>
  readonly organizations: OrganizationsContext
}

/**
 * The session of a signed token, as it stands in the cookie or after `Bearer`; null for a wrong or ended one. Who is in no
 * organization gets one of their own here, so a crash between sign-up and this is mended by the next request.
 */
export async function readSession(context: SessionsContext, signed: string): Promise<Session | null> {
  const token = openToken(context.secret, signed)
  if (token === null) return null
  const found = await findSession(context.db, token)
  if (found === null) return null
  const memberships = found.memberships.length > 0 ? found.memberships : await ensureOrganizationOf(context.organizations, found)
  const isOperator = found.operator || (found.emailVerified && context.operatorEmails.has(found.email))
  return { ...found, memberships, isOperator }
}

/** The token within `token.signature`; null when the signature is not ours. The form is that of better-auth's signed cookies. */
function openToken(secret: string, signed: string): string | null {
  const dot = signed.lastIndexOf('.')
  if (dot < 1) return null
  const token = signed.slice(0, dot)
  const expected = createHmac('sha256', secret).update(token).digest()
  const given = Buffer.from(signed.slice(dot + 1), 'base64')
  return given.length === expected.length && timingSafeEqual(given, expected) ? token : null
}

/** The signed token of the cookie; null when there is none. */
export function sessionCookieOf(cookieHeader: string | null): string | null {
  for (const part of cookieHeader?.split(';') ?? []) {
    const equals = part.indexOf('=')
    if (part.slice(0, equals).trim() === SESSION_COOKIE) return decode(part.slice(equals + 1).trim())
  }
  return null
}

/** Percent signs are of the cookie's form; a token after `Bearer` may come with or without it. */
export function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

/**
 * Who a session stands for: an operator, or a user in the organization that the request names, else that of the session,
 * else the oldest. Null when the request names one of which the user is no member. Pure.
 */
export function principalOf(session: Session, named: string | null): Principal | null {
  if (session.isOperator) {
    const operator = { kind: 'operator', name: session.userId } as const
    return named === null ? operator : { ...operator, actingIn: named as OrganizationId }
  }
  const membership = membershipOf(session, named)
  if (membership === undefined) return null
  return {
    kind: 'user',
    userId: session.userId,
    sessionId: session.sessionId,
    organizationId: membership.organizationId,
    scopes: SCOPES_OF_ROLE[membership.role],
    memberships: session.memberships,
  }
}

/** The organization in which a session acts; see `principalOf`. */
export function membershipOf({ memberships, activeOrganizationId }: Session, named: string | null): Membership | undefined {
  const find = (id: string) => memberships.find(({ organizationId }) => organizationId === id)
  if (named !== null) return find(named)
  return (activeOrganizationId === null ? undefined : find(activeOrganizationId)) ?? memberships[0]
}

import type { Context } from 'hono'
import { keyOfRequest } from '../auth/api-keys.ts'
import { requireCaller } from '../auth/principal.ts'
import type { AppEnv } from '../http/app-env.ts'
import { DomainError } from '../lib/errors.ts'
import type { ForwardContext } from './forward-calls.ts'
import * as schemas from './schemas.ts'
import { decode, membershipOf, readSession, sessionCookieOf, type Session, type SessionsContext } from './sessions.ts'

export type IdentityContext = ForwardContext & {
  readonly sessions: SessionsContext
  readonly providers: readonly { readonly id: string }[]
}

/** The signed session token that a good answer of better-auth carries; null when it signed nobody in. */
export function accessTokenOf(answer: Response): string | null {
  const token = answer.headers.get('set-auth-token')
  return token === null ? null : decode(token)
}

export async function callerOf(context: IdentityContext, accessToken: string) {
  const session = await readSession(context.sessions, accessToken)
  return session === null ? null : schemas.showPerson(session, membershipOf(session, null)?.organizationId ?? null)
}

/** The session of the request; null when a key or a token of another kind is what calls. */
export async function sessionOf({ sessions }: IdentityContext, c: Context<AppEnv>): Promise<Session | null> {
  const headers = c.req.raw.headers
  const key = keyOfRequest(headers)
  const signed = key === null ? sessionCookieOf(headers.get('cookie')) : decode(key)
  return signed === null ? null : readSession(sessions, signed)
}

/** @throws DomainError `forbidden` when what calls is no person */
export async function requireSession(context: IdentityContext, c: Context<AppEnv>): Promise<Session> {
  requireCaller(c.get('principal'))
  const session = await sessionOf(context, c)
  if (session === null) throw new DomainError('forbidden', 'Only a person who is signed in may do this.')
  return session
}

import type { Queryable } from '../db/database.ts'
import type { OrganizationId, SessionId, UserId } from '../lib/ids.ts'
import type { Membership } from './principal.ts'

/** A live session with its user and all organizations of that user, oldest membership first. */
export type SessionRow = {
  readonly sessionId: SessionId
  readonly activeOrganizationId: OrganizationId | null
  readonly expiresAt: Date
  readonly userId: UserId
  readonly name: string
  readonly email: string
  readonly emailVerified: boolean
  readonly twoFactorEnabled: boolean
  readonly operator: boolean
  readonly memberships: readonly Membership[]
}

/** The session of this token; null when there is none, or no longer. */
export async function findSession(db: Queryable, token: string): Promise<SessionRow | null> {
  // Sessions end by the time of the database: better-auth gives them their end by the time of the machine, no organization's clock.
  const { rows } = await db.query<SessionRow>(
    `select s.id as "sessionId", s.active_organization_id as "activeOrganizationId", s.expires_at as "expiresAt",
       u.id as "userId", u.name, u.email, u.email_verified as "emailVerified",
       coalesce(u.two_factor_enabled, false) as "twoFactorEnabled", u.operator,
       coalesce((
         select json_agg(json_build_object('organizationId', m.organization_id, 'role', m.role) order by m.created_at, m.organization_id)
         from organization_members m where m.user_id = u.id
       ), '[]'::json) as memberships
     from user_sessions s join users u on u.id = s.user_id
     where s.token = $1 and s.expires_at > now()`,
    [token],
  )
  return rows[0] ?? null
}

export async function setActiveOrganization(
  db: Queryable,
  change: { readonly sessionId: SessionId; readonly organizationId: OrganizationId },
): Promise<void> {
  await db.query('update user_sessions set active_organization_id = $2 where id = $1', [change.sessionId, change.organizationId])
}

/** Ends the user's sessions that act in the organization, or may do so without having said it. */
export async function endSessionsIn(
  tx: Queryable,
  who: { readonly userId: UserId; readonly organizationId: OrganizationId },
): Promise<void> {
  await tx.query(
    'delete from user_sessions where user_id = $1 and (active_organization_id = $2 or active_organization_id is null)',
    [who.userId, who.organizationId],
  )
}

/** Those that ended a day ago, by the time of the database; see `findSession`. */
export async function deleteExpiredSessions(db: Queryable): Promise<void> {
  await db.query(`delete from user_sessions where expires_at < now() - interval '1 day'`)
}

/** Counters of attempts to sign in that rest since an hour; better-auth counts within seconds, and keeps a row per address and path. */
export async function deleteRestingRateLimits(db: Queryable): Promise<void> {
  await db.query(
    `delete from auth_rate_limits where last_request < (extract(epoch from now() - interval '1 hour') * 1000)::bigint`,
  )
}

/** What was made for one use (a reset, a confirmation) and was never used; it ended a day ago. */
export async function deleteExpiredVerifications(db: Queryable): Promise<void> {
  await db.query(`delete from user_verifications where expires_at < now() - interval '1 day'`)
}

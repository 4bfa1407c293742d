import type { Membership, Role } from '../auth/principal.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { InvitationId, OrganizationId, UserId } from '../lib/ids.ts'

export type Member = {
  readonly userId: UserId
  readonly name: string
  readonly email: string
  readonly role: Role
  readonly createdAt: Instant
}

export type Invitation = {
  readonly id: InvitationId
  readonly organizationId: OrganizationId
  readonly email: string
  readonly role: Role
  readonly invitedBy: string
  readonly createdAt: Instant
  readonly expiresAt: Instant
  readonly acceptedAt: Instant | null
  readonly revokedAt: Instant | null
  /** Whether who made it may still invite to its role. */
  readonly isVouched: boolean
}

/** Makes changes of one organization's members wait for each other; usage goes on, as it takes no lock of this strength. */
export async function lockMembers(tx: Queryable, organizationId: OrganizationId): Promise<void> {
  await tx.query('select 1 from organizations where id = $1 for no key update', [organizationId])
}

/** Makes what is made for a user once wait for each other. */
export async function lockUser(tx: Queryable, userId: UserId): Promise<void> {
  await tx.query('select 1 from users where id = $1 for no key update', [userId])
}

export async function listMembershipsOf(db: Queryable, userId: UserId): Promise<readonly Membership[]> {
  const { rows } = await db.query<Membership>(
    `select organization_id as "organizationId", role from organization_members
     where user_id = $1 order by created_at, organization_id`,
    [userId],
  )
  return rows
}

/** Answers false when the user is a member already. */
export async function insertMember(
  tx: Queryable,
  member: Membership & { readonly userId: UserId; readonly createdAt: Instant },
): Promise<boolean> {
  const inserted = await tx.query(
    `insert into organization_members (organization_id, user_id, role, created_at) values ($1, $2, $3, $4)
     on conflict do nothing`,
    [member.organizationId, member.userId, member.role, member.createdAt],
  )
  return inserted.rowCount === 1
}

export async function listMembers(db: Queryable, organizationId: OrganizationId): Promise<readonly Member[]> {
  const { rows } = await db.query<Member>(
    `select m.user_id as "userId", u.name, u.email, m.role, m.created_at as "createdAt"
     from organization_members m join users u on u.id = m.user_id
     where m.organization_id = $1 order by m.created_at, m.user_id`,
    [organizationId],
  )
  return rows
}

export async function updateRole(tx: Queryable, member: Membership & { readonly userId: UserId }): Promise<void> {
  await tx.query('update organization_members set role = $3 where organization_id = $1 and user_id = $2', [
    member.organizationId,
    member.userId,
    member.role,
  ])
}

export async function deleteMember(
  tx: Queryable,
  member: { readonly organizationId: OrganizationId; readonly userId: UserId },
): Promise<void> {
  await tx.query('delete from organization_members where organization_id = $1 and user_id = $2', [
    member.organizationId,
    member.userId,
  ])
}

/** A person invites for as long as they are a member whose role may: what they no longer may, their invitation may not either. */
const IS_VOUCHED = `(i.invited_by not like 'user:%' or exists (
    select from organization_members m
    where m.organization_id = i.organization_id and i.invited_by = 'user:' || m.user_id
      and (m.role = 'owner' or (m.role = 'admin' and i.role <> 'owner'))))`

const INVITATION = `i.id, i.organization_id as "organizationId", i.email, i.role, i.invited_by as "invitedBy",
  i.created_at as "createdAt", i.expires_at as "expiresAt", i.accepted_at as "acceptedAt", i.revoked_at as "revokedAt",
  ${IS_VOUCHED} as "isVouched"`

/** An invitation of the address that is still open is revoked: it has one at a time. */
export async function replaceInvitation(
  tx: Queryable,
  invitation: Omit<Invitation, 'acceptedAt' | 'revokedAt' | 'isVouched'> & { readonly digest: Buffer },
): Promise<void> {
  await tx.query(
    `update organization_invitations set revoked_at = $3
     where organization_id = $1 and email = $2 and accepted_at is null and revoked_at is null`,
    [invitation.organizationId, invitation.email, invitation.createdAt],
  )
  await tx.query(
    `insert into organization_invitations
       (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      invitation.organizationId,
      invitation.id,
      invitation.email,
      invitation.role,
      invitation.digest,
      invitation.invitedBy,
      invitation.createdAt,
      invitation.expiresAt,
    ],
  )
}

/** How many were made since a time, but by operators; whatever became of them. */
export async function countInvitations(
  tx: Queryable,
  { organizationId, since }: { readonly organizationId: OrganizationId; readonly since: Instant },
): Promise<number> {
  const { rows } = await tx.query<{ count: number }>(
    `select count(*)::int as count from organization_invitations
     where organization_id = $1 and created_at > $2 and invited_by not like 'operator:%'`,
    [organizationId, since],
  )
  return rows[0]!.count
}

/** Newest first. */
export async function listInvitations(db: Queryable, organizationId: OrganizationId): Promise<readonly Invitation[]> {
  const { rows } = await db.query<Invitation>(
    `select ${INVITATION} from organization_invitations i where organization_id = $1 order by created_at desc, id limit 500`,
    [organizationId],
  )
  return rows
}

/** The invitation of a token, whatever became of it. */
export async function findInvitation(db: Queryable, digest: Buffer): Promise<Invitation | null> {
  const { rows } = await db.query<Invitation>(`select ${INVITATION} from organization_invitations i where digest = $1`, [digest])
  return rows[0] ?? null
}

/** Answers false when it was accepted, revoked or expired before, or when who made it may no longer invite. */
export async function acceptOpenInvitation(
  tx: Queryable,
  accepted: {
    readonly organizationId: OrganizationId
    readonly id: InvitationId
    readonly userId: UserId
    readonly now: Instant
  },
): Promise<boolean> {
  const updated = await tx.query(
    `update organization_invitations i set accepted_at = $4, accepted_by = $3
     where organization_id = $1 and id = $2 and accepted_at is null and revoked_at is null and expires_at > $4
       and ${IS_VOUCHED}`,
    [accepted.organizationId, accepted.id, accepted.userId, accepted.now],
  )
  return updated.rowCount === 1
}

/** The one that was revoked; null when there was none open. */
export async function revokeOpenInvitation(
  tx: Queryable,
  revoked: { readonly organizationId: OrganizationId; readonly id: InvitationId; readonly now: Instant },
): Promise<Invitation | null> {
  const { rows } = await tx.query<Invitation>(
    `update organization_invitations i set revoked_at = $3
     where organization_id = $1 and id = $2 and accepted_at is null and revoked_at is null returning ${INVITATION}`,
    [revoked.organizationId, revoked.id, revoked.now],
  )
  return rows[0] ?? null
}

/** The token reached the address by mail: whoever has it reads the address's mail. */
export async function markEmailVerified(tx: Queryable, userId: UserId): Promise<void> {
  await tx.query('update users set email_verified = true where id = $1', [userId])
}

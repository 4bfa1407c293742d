import { insertAuditEntry } from '../audit/store.ts'
import type { Membership, Principal, Role } from '../auth/principal.ts'
import { endSessionsIn } from '../auth/session-store.ts'
import type { Transaction } from '../db/database.ts'
import { asSystem } from '../db/scope.ts'
import { DomainError } from '../lib/errors.ts'
import { newOrganizationId, type OrganizationId, type UserId } from '../lib/ids.ts'
import { insertWithAccount, readOrganization, type Asker, type OrganizationsContext } from './actions.ts'
import {
  deleteMember,
  insertMember,
  listMembers,
  listMembershipsOf,
  lockMembers,
  lockUser,
  updateRole,
  type Member,
} from './members-store.ts'

export type PersonalUser = { readonly userId: UserId; readonly name: string; readonly email: string }

/**
 * Gives a user who is in no organization one of their own, with its account on the default plan, in one transaction.
 * Asked for twice at once, it makes one.
 */
export async function ensureOrganizationOf(context: OrganizationsContext, user: PersonalUser): Promise<readonly Membership[]> {
  return context.db.transaction(async (tx) => {
    await lockUser(tx, user.userId)
    const found = await listMembershipsOf(tx, user.userId)
    if (found.length > 0) return found
    const organizationId = newOrganizationId(context.tenantPrefix)
    const asker: Asker = { actor: `user:${user.userId}`, requestId: null }
    await insertWithAccount(tx, context, { id: organizationId, name: user.name, email: user.email, testClock: false }, asker)
    const membership = { organizationId, role: 'owner' } as const
    await insertMember(tx, { ...membership, userId: user.userId, createdAt: context.clock.now() })
    return [membership]
  })
}

/** @throws DomainError `not_found` */
export async function readMembers(context: OrganizationsContext, organizationId: OrganizationId): Promise<readonly Member[]> {
  await readOrganization(context.db, organizationId)
  return listMembers(context.db, organizationId)
}

/** Whether the caller may make and unmake owners: an owner, or an operator. */
export function mayGrantOwner(principal: Principal, organizationId: OrganizationId): boolean {
  if (principal.kind === 'operator') return true
  if (principal.kind !== 'user') return false
  return principal.memberships.some((membership) => membership.organizationId === organizationId && membership.role === 'owner')
}

export type MemberChange = {
  readonly organizationId: OrganizationId
  readonly userId: UserId
  /** See `mayGrantOwner`. */
  readonly byOwner: boolean
}

/**
 * Gives a member another role.
 * @throws DomainError `not_found`; `forbidden` for an owner's role by who is none; `last_owner` when nobody would own it
 */
export async function changeRole(
  context: OrganizationsContext,
  change: MemberChange & { readonly role: Role },
  asker: Asker,
): Promise<Member> {
  const { organizationId, userId, role } = change
  return context.db.transaction(async (tx) => {
    const member = await lockMember(tx, { ...change, byOwner: change.byOwner })
    if (role === 'owner' && !change.byOwner) throw ownersOnly()
    if (member.role === role) return member
    if (member.role === 'owner') await requireAnotherOwner(tx, change)
    await updateRole(tx, { organizationId, userId, role })
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'member.role_changed',
      target: userId,
      before: { role: member.role },
      after: { role },
      at: context.clock.now(),
    })
    return { ...member, role }
  })
}

/**
 * Takes a member out of the organization. Their sessions there end with it: each request looks at the membership, and
 * what acted in the organization is signed out.
 * @throws DomainError `not_found`; `forbidden` for an owner by who is none; `last_owner`
 */
export async function removeMember(context: OrganizationsContext, change: MemberChange, asker: Asker): Promise<void> {
  const { organizationId, userId } = change
  // Sessions are a person's, and no organization sees them.
  await asSystem(() =>
    context.db.transaction(async (tx) => {
      const member = await lockMember(tx, change)
      if (member.role === 'owner') await requireAnotherOwner(tx, change)
      await deleteMember(tx, change)
      await endSessionsIn(tx, change)
      await insertAuditEntry(tx, {
        organizationId,
        ...asker,
        action: 'member.removed',
        target: userId,
        before: { role: member.role, email: member.email },
        after: null,
        at: context.clock.now(),
      })
    }),
  )
}

async function lockMember(tx: Transaction, { organizationId, userId, byOwner }: MemberChange): Promise<Member> {
  await lockMembers(tx, organizationId)
  const member = (await listMembers(tx, organizationId)).find((one) => one.userId === userId)
  if (!member) throw new DomainError('not_found', 'There is no such member.')
  if (member.role === 'owner' && !byOwner) throw ownersOnly()
  return member
}

async function requireAnotherOwner(tx: Transaction, { organizationId, userId }: MemberChange): Promise<void> {
  const owners = (await listMembers(tx, organizationId)).filter(({ role }) => role === 'owner')
  if (owners.some((owner) => owner.userId !== userId)) return
  throw new DomainError('last_owner', 'This is the last owner: make another member an owner first.')
}

export function ownersOnly(): DomainError {
  return new DomainError('forbidden', 'Only an owner may make or unmake owners.')
}

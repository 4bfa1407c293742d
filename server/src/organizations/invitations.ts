import { insertAuditEntry } from '../audit/store.ts'
import { digestOf } from '../auth/api-keys.ts'
import type { Membership, Role } from '../auth/principal.ts'
import type { Transaction } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, randomBase62, type InvitationId, type OrganizationId, type UserId } from '../lib/ids.ts'
import { DAY_MS, HOUR_MS, SECOND_MS } from '../lib/period.ts'
import { queueMails, type NewMail } from '../mail/actions.ts'
import { renderMail } from '../mail/layout.ts'
import { readOrganization, type Asker, type OrganizationsContext } from './actions.ts'
import {
  acceptOpenInvitation,
  countInvitations,
  findInvitation,
  insertMember,
  listInvitations,
  listMembers,
  lockMembers,
  markEmailVerified,
  replaceInvitation,
  revokeOpenInvitation,
  type Invitation,
} from './members-store.ts'

const INVITATION_DAYS = 7
const TOKEN_PREFIX = 'tgi_'
/** Anybody may sign up and invite, and each invitation is a mail to an address that never asked for it. */
const MOST_A_DAY = 100

export type InvitationInput = {
  readonly organizationId: OrganizationId
  readonly email: string
  readonly role: Role
}

/**
 * Invites an address by mail; the token is in that mail alone. Inviting an address again replaces the open invitation.
 * @throws DomainError `not_found`; `conflict` when the address belongs to a member; `too_many_attempts` when as many went out as may in a day
 */
export async function invite(context: OrganizationsContext, input: InvitationInput, asker: Asker): Promise<Invitation> {
  const organization = await readOrganization(context.db, input.organizationId)
  const email = input.email.toLowerCase()
  const now = context.clock.now()
  const token = `${TOKEN_PREFIX}${randomBase62(43)}`
  const invitation: Invitation = {
    ...input,
    email,
    id: newId<InvitationId>('invitation'),
    invitedBy: asker.actor,
    createdAt: now,
    expiresAt: new Date(now.getTime() + INVITATION_DAYS * DAY_MS),
    acceptedAt: null,
    revokedAt: null,
    isVouched: true,
  }
  const mail = await mailOf(context, { invitation, token, name: organization.name })
  await context.db.transaction(async (tx) => {
    await lockMembers(tx, input.organizationId)
    const members = await listMembers(tx, input.organizationId)
    if (members.some((member) => member.email === email)) {
      throw new DomainError('conflict', 'This address belongs to a member already.', { field: 'email' })
    }
    await requireRoom(tx, invitation)
    await replaceInvitation(tx, { ...invitation, digest: digestOf(context.keySecret, token) })
    await insertAuditEntry(tx, {
      organizationId: input.organizationId,
      ...asker,
      action: 'invitation.created',
      target: invitation.id,
      before: null,
      after: { email, role: input.role },
      at: now,
    })
    await queueMails(tx, [mail], now)
  })
  return invitation
}

/** Operators invite as many as they like. */
async function requireRoom(tx: Transaction, { organizationId, invitedBy, createdAt }: Invitation): Promise<void> {
  if (invitedBy.startsWith('operator:')) return
  const since = new Date(createdAt.getTime() - DAY_MS)
  if ((await countInvitations(tx, { organizationId, since })) < MOST_A_DAY) return
  throw new DomainError('too_many_attempts', `An organization sends ${MOST_A_DAY} invitations a day at most; try again later.`, {
    retry_after_seconds: HOUR_MS / SECOND_MS,
  })
}

async function mailOf(
  { publicUrl }: OrganizationsContext,
  { invitation, token, name }: { invitation: Invitation; token: string; name: string },
): Promise<NewMail> {
  const subject = `You are invited to ${name}`
  const rendered = await renderMail({
    subject,
    preview: `The invitation is good for ${INVITATION_DAYS} days.`,
    paragraphs: [`${subject}. The invitation is good for ${INVITATION_DAYS} days.`],
    // After #, so that the token is in no server's log.
    action: { label: 'Accept the invitation', url: `${publicUrl}/account/invitation#token=${token}` },
    footer: ['If you do not know what this is about, do nothing.'],
  })
  const { id, organizationId, email: to } = invitation
  return { ...rendered, key: `invitation:${id}`, organizationId, kind: 'invitation', to, secret: true }
}

/**
 * What a token invites to, while it is open.
 * @throws DomainError `not_found` when it was never given, `invitation_closed` when it was accepted, revoked, or has expired, or when
 *   who made it may no longer invite to its role
 */
export async function readInvitation(context: OrganizationsContext, token: string): Promise<Invitation> {
  const invitation = await findInvitation(context.db, digestOf(context.keySecret, token))
  if (invitation === null) throw new DomainError('not_found', 'There is no such invitation.')
  if (stateOf(invitation, context.clock.now()) !== 'open') throw closed()
  return invitation
}

/**
 * Makes the user a member. As the token came by mail, the address counts as verified.
 * @throws DomainError as `readInvitation`; `forbidden` when it is for another address
 */
export async function acceptInvitation(
  context: OrganizationsContext,
  { token, user }: { readonly token: string; readonly user: { readonly userId: UserId; readonly email: string } },
  asker: Asker,
): Promise<Membership> {
  const invitation = await readInvitation(context, token)
  if (invitation.email !== user.email.toLowerCase()) {
    throw new DomainError('forbidden', 'This invitation is for another address.')
  }
  const { organizationId, id, role } = invitation
  const now = context.clock.now()
  await context.db.transaction(async (tx) => {
    // Who invites the address once more at this moment finds a member, or has replaced this one.
    await lockMembers(tx, organizationId)
    if (!(await acceptOpenInvitation(tx, { organizationId, id, userId: user.userId, now }))) throw closed()
    await insertMember(tx, { organizationId, role, userId: user.userId, createdAt: now })
    await markEmailVerified(tx, user.userId)
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'member.joined',
      target: user.userId,
      before: null,
      after: { role, email: user.email, invitation: id },
      at: now,
    })
  })
  return { organizationId, role }
}

/** @throws DomainError `not_found` */
export async function readInvitations(
  context: OrganizationsContext,
  organizationId: OrganizationId,
): Promise<readonly Invitation[]> {
  await readOrganization(context.db, organizationId)
  return listInvitations(context.db, organizationId)
}

/** @throws DomainError `not_found` when there is none open */
export async function revokeInvitation(
  context: OrganizationsContext,
  invitation: { readonly organizationId: OrganizationId; readonly id: InvitationId },
  asker: Asker,
): Promise<void> {
  const now = context.clock.now()
  await context.db.transaction(async (tx) => {
    const revoked = await revokeOpenInvitation(tx, { ...invitation, now })
    if (revoked === null) throw new DomainError('not_found', 'There is no such open invitation.')
    await insertAuditEntry(tx, {
      organizationId: invitation.organizationId,
      ...asker,
      action: 'invitation.revoked',
      target: invitation.id,
      before: { email: revoked.email, role: revoked.role },
      after: null,
      at: now,
    })
  })
}

export type InvitationState = 'open' | 'accepted' | 'revoked' | 'expired'

export function stateOf(invitation: Invitation, now: Instant): InvitationState {
  if (invitation.acceptedAt !== null) return 'accepted'
  if (invitation.revokedAt !== null || !invitation.isVouched) return 'revoked'
  return invitation.expiresAt <= now ? 'expired' : 'open'
}

function closed(): DomainError {
  return new DomainError('invitation_closed', 'This invitation was accepted or revoked, or has expired. Ask for another one.')
}

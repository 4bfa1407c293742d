import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import type { InvitationId, UserId } from '../lib/ids.ts'
import { asker } from './asker-routes.ts'
import type { OrganizationsContext } from './actions.ts'
import { invite, readInvitations, revokeInvitation, stateOf } from './invitations.ts'
import { changeRole, mayGrantOwner, ownersOnly, readMembers, removeMember } from './members.ts'
import type { Invitation, Member } from './members-store.ts'

const role = z.enum(['owner', 'admin', 'member'])

const memberSchema = z
  .object({
    user_id: z.string(),
    name: z.string(),
    email: z.string(),
    role: role.meta({ description: 'owner and admin have all scopes, member has read and write.' }),
    created_at: z.iso.datetime(),
  })
  .openapi('Member')

const invitationSchema = z
  .object({
    id: z.string(),
    email: z.string(),
    role,
    state: z.enum(['open', 'accepted', 'revoked', 'expired']),
    invited_by: z.string(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
  })
  .openapi('Invitation')

const params = z.object({ id: z.string().meta({ description: 'The organization.' }) })
const memberParams = params.extend({ user_id: z.string() })

const listMembersRoute = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{id}/members',
  tags: ['Members'],
  summary: 'List the members of an organization',
  description: 'The scope `read`. All of them, who joined first before the others.',
  request: { params },
  responses: { 200: json('The members.', z.object({ members: z.array(memberSchema) })) },
})

const changeRoleRoute = createRoute({
  method: 'patch',
  path: '/api/v1/organizations/{id}/members/{user_id}',
  tags: ['Members'],
  summary: 'Give a member another role',
  description: 'Owners are made and unmade by owners; the last one stays.',
  request: { params: memberParams, body: body(z.object({ role })) },
  responses: { 200: json('The member.', memberSchema) },
})

const removeMemberRoute = createRoute({
  method: 'delete',
  path: '/api/v1/organizations/{id}/members/{user_id}',
  tags: ['Members'],
  summary: 'Take a member out of the organization',
  description: 'Their sessions there end at once. The last owner stays.',
  request: { params: memberParams },
  responses: { 204: { description: 'They are a member no longer.' } },
})

const inviteRoute = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{id}/invitations',
  tags: ['Members'],
  summary: 'Invite an address by mail',
  description:
    'The token is in the mail alone. Inviting an address again replaces its open invitation. An organization sends 100 a day at most, then it is 429; those of operators do not count.',
  request: { params, body: body(z.object({ email: z.email().max(320), role: role.default('member') })) },
  responses: { 201: json('The invitation.', invitationSchema) },
})

const listInvitationsRoute = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{id}/invitations',
  tags: ['Members'],
  summary: 'List invitations, newest first',
  description:
    'The scope `admin`. The last 500. One whose inviter was removed, or may no longer invite to its role, is `revoked`.',
  request: { params },
  responses: { 200: json('The invitations.', z.object({ invitations: z.array(invitationSchema) })) },
})

const revokeInvitationRoute = createRoute({
  method: 'delete',
  path: '/api/v1/organizations/{id}/invitations/{invitation_id}',
  tags: ['Members'],
  summary: 'Revoke an open invitation',
  description: 'The scope `admin`. One that was accepted or revoked before is 404.',
  request: { params: params.extend({ invitation_id: z.string() }) },
  responses: { 204: { description: 'Its token is worth nothing any more.' } },
})

export function registerMemberRoutes(app: App, context: OrganizationsContext): void {
  app.openapi(listMembersRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'read')
    const members = await readMembers(context, organizationFor(principal, c.req.valid('param').id))
    return c.json({ members: members.map(showMember) }, 200)
  })

  app.openapi(changeRoleRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, user_id: userId } = c.req.valid('param')
    const organizationId = organizationFor(principal, id)
    const change = { organizationId, userId: userId as UserId, byOwner: mayGrantOwner(principal, organizationId) }
    const member = await changeRole(context, { ...change, role: c.req.valid('json').role }, asker(c, principal))
    return c.json(showMember(member), 200)
  })

  app.openapi(removeMemberRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, user_id: userId } = c.req.valid('param')
    const organizationId = organizationFor(principal, id)
    const change = { organizationId, userId: userId as UserId, byOwner: mayGrantOwner(principal, organizationId) }
    await removeMember(context, change, asker(c, principal))
    return c.body(null, 204)
  })

  app.openapi(inviteRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const organizationId = organizationFor(principal, c.req.valid('param').id)
    const { email, role: asRole } = c.req.valid('json')
    if (asRole === 'owner' && !mayGrantOwner(principal, organizationId)) throw ownersOnly()
    const invitation = await invite(context, { organizationId, email, role: asRole }, asker(c, principal))
    return c.json(showInvitation(invitation, context), 201)
  })

  app.openapi(listInvitationsRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const invitations = await readInvitations(context, organizationFor(principal, c.req.valid('param').id))
    return c.json({ invitations: invitations.map((invitation) => showInvitation(invitation, context)) }, 200)
  })

  app.openapi(revokeInvitationRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, invitation_id: invitationId } = c.req.valid('param')
    const invitation = { organizationId: organizationFor(principal, id), id: invitationId as InvitationId }
    await revokeInvitation(context, invitation, asker(c, principal))
    return c.body(null, 204)
  })
}

function showMember(member: Member) {
  return {
    user_id: member.userId,
    name: member.name,
    email: member.email,
    role: member.role,
    created_at: member.createdAt.toISOString(),
  }
}

function showInvitation(invitation: Invitation, { clock }: OrganizationsContext) {
  return {
    id: invitation.id,
    email: invitation.email,
    role: invitation.role,
    state: stateOf(invitation, clock.now()),
    invited_by: invitation.invitedBy,
    created_at: invitation.createdAt.toISOString(),
    expires_at: invitation.expiresAt.toISOString(),
  }
}

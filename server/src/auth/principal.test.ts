import { describe, expect, it } from 'vitest'
import type { OrganizationId, SessionId, UserId } from '../lib/ids.ts'
import { actorOf, organizationFor, requireScope, type Principal } from './principal.ts'

const home = 'home' as OrganizationId
const club = 'club' as OrganizationId

/** Owns `home`, is a member of `club`, and acts in the first. */
const user: Principal = {
  kind: 'user',
  userId: 'user_1' as UserId,
  sessionId: 'session_1' as SessionId,
  organizationId: home,
  scopes: ['read', 'write', 'admin'],
  memberships: [
    { organizationId: home, role: 'owner' },
    { organizationId: club, role: 'member' },
  ],
}

describe('a user of several organizations', () => {
  it('acts in the one of the request unless the body names another', () => {
    expect(organizationFor(requireScope(user, 'admin'), undefined)).toBe(home)
    expect(organizationFor(requireScope(user, 'write'), 'club')).toBe(club)
    expect(() => organizationFor(requireScope(user, 'read'), 'foreign')).toThrow('There is no such organization.')
  })

  it('does not carry a scope from one organization into another', () => {
    expect(() => organizationFor(requireScope(user, 'admin'), 'club')).toThrow('This needs the scope "admin".')
    // A route that asks for no scope first is measured by the highest.
    expect(() => organizationFor(user, 'club')).toThrow('This needs the scope "admin".')
  })
})

it('an operator names an organization, in the call or for the whole request', () => {
  const operator: Principal = { kind: 'operator', name: 'bootstrap' }
  expect(organizationFor(operator, 'home')).toBe(home)
  expect(organizationFor({ ...operator, actingIn: club }, undefined)).toBe(club)
  expect(organizationFor({ ...operator, actingIn: club }, 'home')).toBe(home)
  expect(() => organizationFor(operator, undefined)).toThrow('organization_id is missing')
})

it('names every kind of caller for the audit log', () => {
  expect(actorOf(user)).toBe('user:user_1')
  expect(actorOf({ kind: 'host_token', subject: 'u7', organizationId: home, scopes: ['read'] })).toBe('host_user:u7')
})

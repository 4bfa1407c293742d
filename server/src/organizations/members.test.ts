import { describe, expect, it, vi } from 'vitest'
import { OPERATOR_KEY, PASSWORD, testIdentity, type Answer } from '../../test/identity.ts'
import type { Transaction } from '../db/database.ts'
import { ManualClock, type Clock } from '../lib/clock.ts'
import type { InvitationId, OrganizationId, UserId } from '../lib/ids.ts'
import { DAY_MS } from '../lib/period.ts'
import { deleteMember, lockMembers, revokeOpenInvitation } from './members-store.ts'

const clock = new ManualClock(new Date('2026-03-01T00:00:00Z'))
/** No two things happen at one time, so that what is listed by time has an order. */
const ticking: Clock = {
  now() {
    clock.advance(1)
    return clock.now()
  },
}
const identity = testIdentity({ clock: ticking })

const membersOf = (id: string): string => `/api/v1/organizations/${id}/members`
const invitationsOf = (id: string): string => `/api/v1/organizations/${id}/invitations`

async function tokenTo(email: string): Promise<string> {
  return /#token=(\S+)/.exec(await identity.mailTo(email, 'invitation'))![1]!
}

/** An organization with an owner, and a member of a role who joined by an invitation. */
async function team(name: string, role: 'owner' | 'admin' | 'member') {
  const owner = await identity.signUp(`owner-${name}@example.com`)
  const email = `joined-${name}@example.com`
  await owner.browser.call('POST', invitationsOf(owner.organizationId), { email, role })
  const joined = await identity.signUp(email, { invitation_token: await tokenTo(email) })
  return { owner, joined, id: owner.organizationId }
}

/** What is answered to a request that comes while such a change of the members is not committed, and waits for it. */
async function whileChanging(id: string, change: (tx: Transaction) => Promise<unknown>, ask: () => Promise<Answer>) {
  const { db } = identity.database
  const { asked } = await db.transaction(async (tx) => {
    await lockMembers(tx, id as OrganizationId)
    await change(tx)
    const waiting = ask()
    // A sign-up hashes a password first, which may take seconds on a machine that is at work.
    await vi.waitFor(
      async () => {
        const held = await db.query(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        )
        expect(held.rowCount).toBe(1)
      },
      { timeout: 20_000 },
    )
    return { asked: waiting }
  })
  return asked
}

describe('an invitation', () => {
  it('makes a member of who signs up with it, without an organization of their own', async () => {
    const { owner, joined, id } = await team('new', 'member')
    expect(joined.organizationId).toBe(id)
    const me = await joined.browser.call('GET', '/api/v1/auth/me')
    expect(me.body).toMatchObject({
      scopes: ['read', 'write'],
      organizations: [{ organization_id: id, role: 'member' }],
      user: { email_verified: true },
    })
    expect((await owner.browser.call('GET', invitationsOf(id))).body).toMatchObject({ invitations: [{ state: 'accepted' }] })
    expect((await owner.browser.call('GET', membersOf(id))).body).toMatchObject({
      members: [{ role: 'owner' }, { role: 'member' }],
    })
  })

  it('is accepted by who is signed in under its address, and by nobody else', async () => {
    const owner = await identity.signUp('inviting@example.com')
    const guest = await identity.signUp('guest@example.com')
    const thief = await identity.signUp('thief@example.com')
    await owner.browser.call('POST', invitationsOf(owner.organizationId), { email: 'Guest@example.com', role: 'admin' })
    const token = await tokenTo('guest@example.com')
    expect((await thief.browser.call('POST', '/api/v1/auth/invitations/accept', { token })).status).toBe(403)
    expect((await guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token })).body).toMatchObject({
      organization_id: owner.organizationId,
      organizations: [{ organization_id: guest.organizationId }, { organization_id: owner.organizationId, role: 'admin' }],
    })
    const again = await guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token })
    expect([again.status, again.body['code']]).toEqual([409, 'invitation_closed'])
    expect((await guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token: 'tgi_none' })).status).toBe(404)
  })

  it('of one address, sent several times at once, is made each time, and the last one is open', async () => {
    const owner = await identity.signUp('impatient@example.com')
    const path = invitationsOf(owner.organizationId)
    for (let round = 0; round < 5; round += 1) {
      const email = `twice-${round}@example.com`
      const answers = await Promise.all([1, 2, 3].map(() => owner.browser.call('POST', path, { email })))
      expect(answers.map(({ status, body }) => [status, body['code']])).toEqual([1, 2, 3].map(() => [201, undefined]))
      const { invitations } = (await owner.browser.call('GET', path)).body as { invitations: { email: string; state: string }[] }
      const states = invitations.filter((one) => one.email === email).map(({ state }) => state)
      expect(states.toSorted()).toEqual(['open', 'revoked', 'revoked'])
    }
  })

  it('is either accepted or replaced by one that is made at the same moment, and no member has one open', async () => {
    const owner = await identity.signUp('hasty@example.com')
    const path = invitationsOf(owner.organizationId)
    for (let round = 0; round < 5; round += 1) {
      const email = `hasty-${round}@example.com`
      const guest = await identity.signUp(email)
      await owner.browser.call('POST', path, { email })
      const token = await tokenTo(email)
      const [accepted, again] = await Promise.all([
        guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token }),
        owner.browser.call('POST', path, { email, role: 'admin' }),
      ])
      const told = [accepted.status, accepted.body['code'], again.status, again.body['code']]
      expect([
        [200, undefined, 409, 'conflict'],
        [409, 'invitation_closed', 201, undefined],
      ]).toContainEqual(told)
    }
  })

  it('ends when it is revoked, replaced or seven days old', async () => {
    const owner = await identity.signUp('ending@example.com')
    const path = invitationsOf(owner.organizationId)
    const email = 'late@example.com'
    const late = await identity.signUp(email)
    const accept = async (token: string) => (await late.browser.call('POST', '/api/v1/auth/invitations/accept', { token })).status
    await owner.browser.call('POST', path, { email })
    const replaced = await tokenTo(email)
    const second = await owner.browser.call('POST', path, { email })
    const revoked = await tokenTo(email)
    expect(await accept(replaced)).toBe(409)
    expect((await owner.browser.call('DELETE', `${path}/${String(second.body['id'])}`)).status).toBe(204)
    expect((await owner.browser.call('DELETE', `${path}/${String(second.body['id'])}`)).status).toBe(404)
    expect(await accept(revoked)).toBe(409)
    await owner.browser.call('POST', path, { email })
    const expired = await tokenTo(email)
    clock.advance(7 * DAY_MS)
    expect(await accept(expired)).toBe(409)
    expect((await owner.browser.call('GET', path)).body).toMatchObject({
      invitations: [{ state: 'expired' }, { state: 'revoked' }, { state: 'revoked' }],
    })
  })

  it.each([
    ['an admin who was removed', 'admin', 'member', null],
    ['an admin who is a member by now', 'admin', 'admin', 'member'],
    ['an owner who is an admin by now, to be an owner,', 'owner', 'owner', 'admin'],
  ] as const)('of %s is worth nothing any more', async (name, from, invitesAs, to) => {
    const { owner, joined, id } = await team(name.replaceAll(/\W+/g, '-'), from)
    const email = `guest-of-${joined.userId.toLowerCase()}@example.com`
    const guest = await identity.signUp(email)
    await joined.browser.call('POST', invitationsOf(id), { email, role: invitesAs })
    const token = await tokenTo(email)
    const member = `${membersOf(id)}/${joined.userId}`
    const changed = await owner.browser.call(to === null ? 'DELETE' : 'PATCH', member, to === null ? undefined : { role: to })
    expect(changed.status).toBe(to === null ? 204 : 200)
    const shown = (await owner.browser.call('GET', invitationsOf(id))).body as { invitations: object[] }
    expect(shown.invitations[0]).toMatchObject({ email, state: 'revoked' })
    const accepted = await guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token })
    expect([accepted.status, accepted.body['code']]).toEqual([409, 'invitation_closed'])
    const person = { email: `new-${email}`, password: PASSWORD, name: 'New', invitation_token: token }
    expect((await identity.open().call('POST', '/api/v1/auth/sign-up', person)).status).toBe(409)
    expect((await owner.browser.call('POST', invitationsOf(id), { email })).status).toBe(201)
    expect((await guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token: await tokenTo(email) })).status).toBe(
      200,
    )
  })

  it('are a hundred a day, to one address or many, and as many as they like of operators', async () => {
    const { browser, organizationId: id } = await identity.signUp('sender@example.com')
    await identity.database.db.query(
      `insert into organization_invitations (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
       select $1, 'sent_' || number, number || '@example.com', 'member', sha256(number::text::bytea), by, $2, $2
       from generate_series(1, 149) as number, lateral (select case when number < 100 then 'user:u' else 'operator:o' end) as asker (by)`,
      [id, clock.now()],
    )
    const invite = async (number: number) =>
      (await browser.call('POST', invitationsOf(id), { email: `more-${number}@example.com` })).status
    expect([await invite(1), await invite(2)]).toEqual([201, 429])
    const byOperator = await identity.as(OPERATOR_KEY, 'POST', invitationsOf(id), { email: 'more-2@example.com' })
    expect(byOperator.status).toBe(201)
    clock.advance(DAY_MS)
    expect(await invite(3)).toBe(201)
  })

  it('of an owner who is an admin by now, and of the operator, goes on', async () => {
    const { owner, joined, id } = await team('going-on', 'owner')
    const [own, operators] = ['own-guest@example.com', 'operators-guest@example.com']
    await joined.browser.call('POST', invitationsOf(id), { email: own, role: 'admin' })
    await identity.as(OPERATOR_KEY, 'POST', invitationsOf(id), { email: operators, role: 'owner' })
    await owner.browser.call('PATCH', `${membersOf(id)}/${joined.userId}`, { role: 'admin' })
    for (const email of [own, operators]) {
      const guest = await identity.signUp(email, { invitation_token: await tokenTo(email) })
      expect(guest.organizationId).toBe(id)
    }
  })

  it('is not accepted where its inviter was removed a moment before', async () => {
    const { joined, id } = await team('race', 'admin')
    const email = 'racing@example.com'
    const guest = await identity.signUp(email)
    await joined.browser.call('POST', invitationsOf(id), { email })
    const token = await tokenTo(email)
    const removal = (tx: Transaction) =>
      deleteMember(tx, { organizationId: id as OrganizationId, userId: joined.userId as UserId })
    const accept = () => guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token })
    const { status, body } = await whileChanging(id, removal, accept)
    expect([status, body['code']]).toEqual([409, 'invitation_closed'])
  })

  it('that is revoked while somebody signs up by it makes nobody: they sign up alone, or by the next one', async () => {
    const owner = await identity.signUp('revoking@example.com')
    const path = invitationsOf(owner.organizationId)
    const email = 'revoked-meanwhile@example.com'
    const { body: made } = await owner.browser.call('POST', path, { email })
    const invitation = {
      organizationId: owner.organizationId as OrganizationId,
      id: made['id'] as InvitationId,
      now: clock.now(),
    }
    const revoking = (tx: Transaction) => revokeOpenInvitation(tx, invitation)
    const browser = identity.open()
    const signUp = (more: object) =>
      browser.call('POST', '/api/v1/auth/sign-up', { email, password: PASSWORD, name: 'Guest', ...more })
    const token = await tokenTo(email)
    const { status, body } = await whileChanging(owner.organizationId, revoking, () => signUp({ invitation_token: token }))
    expect([status, body['code']]).toEqual([409, 'invitation_closed'])
    expect((await browser.call('GET', '/api/v1/auth/me')).status).toBe(401)
    await owner.browser.call('POST', path, { email })
    expect(await signUp({ invitation_token: await tokenTo(email) })).toMatchObject({
      status: 201,
      body: { caller: { organization_id: owner.organizationId } },
    })
  })

  it('is accepted once, and told once, however often at once', async () => {
    const owner = await identity.signUp('once@example.com')
    const email = 'eager@example.com'
    const guest = await identity.signUp(email)
    await owner.browser.call('POST', invitationsOf(owner.organizationId), { email })
    const token = await tokenTo(email)
    const accept = () => guest.browser.call('POST', '/api/v1/auth/invitations/accept', { token })
    const answers = await Promise.all([accept(), accept(), accept()])
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409, 409])
    const { rows } = await identity.database.db.query(
      `select from audit_log where action = 'member.joined' and organization_id = $1`,
      [owner.organizationId],
    )
    expect(rows).toHaveLength(1)
  })

  it('keeps its token out of every answer and table', async () => {
    const owner = await identity.signUp('secretive@example.com')
    const made = await owner.browser.call('POST', invitationsOf(owner.organizationId), { email: 'quiet@example.com' })
    const token = await tokenTo('quiet@example.com')
    expect(JSON.stringify(made.body)).not.toContain('tgi_')
    const { rows } = await identity.database.db.query('select * from organization_invitations')
    expect(JSON.stringify(rows)).not.toContain(token)
  })
})

describe('members', () => {
  it('that are removed are signed out of the organization at once', async () => {
    const { owner, joined, id } = await team('removed', 'admin')
    expect((await joined.browser.call('GET', membersOf(id))).status).toBe(200)
    expect((await owner.browser.call('DELETE', `${membersOf(id)}/${joined.userId}`)).status).toBe(204)
    expect((await joined.browser.call('GET', membersOf(id))).status).toBe(401)
    const back = await identity.open().call('POST', '/api/v1/auth/sign-in', {
      email: 'joined-removed@example.com',
      password: PASSWORD,
    })
    expect(back.body).toMatchObject({ caller: { organizations: [{ role: 'owner' }] } })
    expect(JSON.stringify(back.body)).not.toContain(id)
  })

  it('that are removed keep the sessions that act elsewhere, without a way back', async () => {
    const { owner, joined, id } = await team('elsewhere', 'admin')
    const other = await identity.signUp('other-owner@example.com')
    await other.browser.call('POST', invitationsOf(other.organizationId), { email: 'joined-elsewhere@example.com' })
    const token = await tokenTo('joined-elsewhere@example.com')
    await joined.browser.call('POST', '/api/v1/auth/invitations/accept', { token })
    await owner.browser.call('DELETE', `${membersOf(id)}/${joined.userId}`)
    expect((await joined.browser.call('GET', membersOf(other.organizationId))).status).toBe(200)
    expect((await joined.browser.call('GET', membersOf(id))).status).toBe(404)
  })

  it('keep an owner: the last one neither leaves nor steps down, also when two try at once', async () => {
    const { owner, joined, id } = await team('last', 'owner')
    const stepDown = (who: typeof owner) => who.browser.call('PATCH', `${membersOf(id)}/${who.userId}`, { role: 'member' })
    let left = owner
    // Several rounds, as two that come at once need not meet.
    for (let round = 0; round < 10; round += 1) {
      await identity.database.db.query(`update organization_members set role = 'owner' where organization_id = $1`, [id])
      const answers = await Promise.all([stepDown(owner), stepDown(joined)])
      const statuses = answers.map(({ status }) => status)
      expect(statuses.filter((status) => status === 200)).toHaveLength(1)
      left = statuses[0] === 200 ? joined : owner
    }
    const leaving = await left.browser.call('DELETE', `${membersOf(id)}/${left.userId}`)
    expect([leaving.status, leaving.body['code']]).toEqual([409, 'last_owner'])
  })

  it.each([
    ['both leave', ['DELETE', 'own'], ['DELETE', 'own']],
    ['one leaves and the other steps down', ['DELETE', 'own'], ['PATCH', 'own']],
    ['each removes the other', ['DELETE', 'other'], ['DELETE', 'other']],
    ['each demotes the other', ['PATCH', 'other'], ['PATCH', 'other']],
  ] as const)('keep one owner of two where %s at once', async (name, first, second) => {
    const { owner, joined, id } = await team(name.replaceAll(' ', '-'), 'owner')
    const act = ([method, whom]: typeof first | typeof second, by: typeof owner, other: typeof owner) =>
      by.browser.call(
        method,
        `${membersOf(id)}/${(whom === 'own' ? by : other).userId}`,
        method === 'PATCH' ? { role: 'member' } : undefined,
      )
    await Promise.all([act(first, owner, joined), act(second, joined, owner)])
    const { rows } = await identity.database.db.query(
      `select from organization_members where organization_id = $1 and role = 'owner'`,
      [id],
    )
    expect(rows).toHaveLength(1)
  })

  it('of the role admin manage members, but neither make nor unmake owners', async () => {
    const { owner, joined, id } = await team('admin', 'admin')
    const byAdmin = (userId: string, role: string) => joined.browser.call('PATCH', `${membersOf(id)}/${userId}`, { role })
    expect((await byAdmin(owner.userId, 'member')).status).toBe(403)
    expect((await byAdmin(joined.userId, 'owner')).status).toBe(403)
    expect((await joined.browser.call('POST', invitationsOf(id), { email: 'x@example.com', role: 'owner' })).status).toBe(403)
    expect((await joined.browser.call('DELETE', `${membersOf(id)}/${owner.userId}`)).status).toBe(403)
    expect((await byAdmin(joined.userId, 'member')).status).toBe(200)
    expect((await byAdmin(joined.userId, 'admin')).status).toBe(403)
  })

  it('act in the organization that a request names, with the scopes that they have there', async () => {
    const { joined, id } = await team('several', 'member')
    await identity.database.db.query('update user_sessions set active_organization_id = null where user_id = $1', [joined.userId])
    const own = (await identity.as(OPERATOR_KEY, 'POST', '/api/v1/organizations', { name: 'Own', email: 'own@example.com' })).body
    const ownId = String(own['id'])
    await identity.database.db.query(`insert into organization_members values ($1, $2, 'owner', now())`, [ownId, joined.userId])
    const { browser } = joined
    const inOwn = { 'x-organization-id': ownId }
    expect((await browser.call('GET', '/api/v1/auth/me', undefined, inOwn)).body).toMatchObject({ organization_id: ownId })
    expect((await browser.call('GET', '/api/v1/usage', undefined, inOwn)).body).toMatchObject({ customer_id: ownId })
    expect((await browser.call('GET', `/api/v1/usage?organization_id=${ownId}`)).body).toMatchObject({ customer_id: ownId })
    expect((await browser.call('GET', '/api/v1/usage')).body).toMatchObject({ customer_id: id })
    // An owner here does not invite there.
    expect((await browser.call('POST', invitationsOf(id), { email: 'x@example.com' }, inOwn)).status).toBe(403)
    expect((await browser.call('GET', '/api/v1/usage', undefined, { 'x-organization-id': 'foreign' })).status).toBe(404)
    await browser.call('POST', '/api/v1/auth/active-organization', { organization_id: ownId })
    expect((await browser.call('GET', '/api/v1/usage')).body).toMatchObject({ customer_id: ownId })
    expect((await browser.call('POST', '/api/v1/auth/active-organization', { organization_id: 'foreign' })).status).toBe(404)
  })

  it('are written into the audit log with who changed them', async () => {
    const { owner, joined, id } = await team('audited', 'member')
    await owner.browser.call('PATCH', `${membersOf(id)}/${joined.userId}`, { role: 'admin' })
    await owner.browser.call('DELETE', `${membersOf(id)}/${joined.userId}`)
    const log = await identity.as(OPERATOR_KEY, 'GET', `/api/v1/audit-log?organization_id=${id}`)
    expect(log.body).toMatchObject({
      entries: [
        { action: 'member.removed', actor: `user:${owner.userId}`, target: joined.userId },
        { action: 'member.role_changed', before: { role: 'member' }, after: { role: 'admin' } },
        { action: 'member.joined', actor: `user:${joined.userId}` },
        { action: 'invitation.created' },
        { action: 'organization.created', actor: `user:${owner.userId}` },
      ],
    })
  })
})

describe('workspaces', () => {
  it('are made, renamed and archived by admins, and read by members', async () => {
    const { owner, joined, id } = await team('workspaces', 'member')
    const path = `/api/v1/organizations/${id}/workspaces`
    const made = await owner.browser.call('POST', path, { name: 'Research' })
    expect(made.status).toBe(201)
    expect((await joined.browser.call('POST', path, { name: 'Mine' })).status).toBe(403)
    expect((await owner.browser.call('POST', path, { name: 'RESEARCH' })).status).toBe(409)
    const one = `${path}/${String(made.body['id'])}`
    expect((await owner.browser.call('PATCH', one, { archived: true })).body['archived_at']).not.toBeNull()
    const second = await owner.browser.call('POST', path, { name: 'Research' })
    expect(second.status).toBe(201)
    expect((await owner.browser.call('PATCH', one, { archived: false })).status).toBe(409)
    expect((await owner.browser.call('PATCH', one, { archived: false, name: 'Old research' })).status).toBe(200)
    expect((await joined.browser.call('GET', path)).body).toMatchObject({
      workspaces: [{ name: 'Old research', archived_at: null }, { name: 'Research' }],
    })
  })
})

import { getMigrations } from 'better-auth/db/migration'
import { describe, expect, it } from 'vitest'
import { OPERATOR_KEY, PASSWORD, testIdentity } from '../../test/identity.ts'
import { insertCustomerToken } from '../auth/customer-token-store.ts'
import { openPool } from '../db/database.ts'
import { systemClock } from '../lib/clock.ts'
import type { CustomerTokenId, OrganizationId } from '../lib/ids.ts'
import { HOUR_MS } from '../lib/period.ts'
import { betterAuthOptions } from './better-auth.ts'
import { identityJobs } from './jobs.ts'

const identity = testIdentity({ identity: { operatorEmails: ['Chief@example.com'] } })

describe('CB-10 sign-up', () => {
  it('signs in, and gives who comes alone an organization of their own on the default plan', async () => {
    const browser = identity.open()
    const person = { email: 'Ada@example.com', password: PASSWORD, name: 'Ada' }
    const answer = await browser.call('POST', '/api/v1/auth/sign-up', person)
    expect(answer).toMatchObject({
      status: 201,
      body: { confirmation_required: false, caller: { kind: 'user', is_operator: false, scopes: ['read', 'write', 'admin'] } },
    })
    expect((await browser.call('GET', '/api/v1/usage')).body).toMatchObject({ subscription_tier: 'free' })
    const { organization_id: id } = (answer.body as { caller: { organization_id: string } }).caller
    expect((await browser.call('GET', `/api/v1/organizations/${id}`)).body).toMatchObject({
      name: 'Ada',
      email: 'ada@example.com',
    })
    expect((await browser.call('GET', `/api/v1/organizations/${id}/members`)).body).toMatchObject({
      members: [{ email: 'ada@example.com', role: 'owner' }],
    })
  })

  it('makes one organization, however many requests come at once', async () => {
    const { userId, token } = await identity.signUp('twin@example.com')
    await identity.database.db.query('delete from organization_members where user_id = $1', [userId])
    await Promise.all(Array.from({ length: 6 }, () => identity.as(token, 'GET', '/api/v1/auth/me')))
    const { rows } = await identity.database.db.query('select * from organization_members where user_id = $1', [userId])
    expect(rows).toHaveLength(1)
  })

  it('refuses an address that is taken, and a password that is short', async () => {
    await identity.signUp('taken@example.com')
    const again = { email: 'TAKEN@example.com', password: PASSWORD, name: 'Other' }
    expect(await identity.open().call('POST', '/api/v1/auth/sign-up', again)).toMatchObject({
      status: 409,
      body: { field: 'email' },
    })
    const atOnce = { email: 'race@example.com', password: PASSWORD, name: 'Race' }
    const raced = await Promise.all(Array.from({ length: 4 }, () => identity.open().call('POST', '/api/v1/auth/sign-up', atOnce)))
    const taken = raced.map(({ status }) => status).filter((status) => status !== 409)
    expect(taken, JSON.stringify(raced.map(({ body }) => body))).toHaveLength(1)
    const short = { email: 'short@example.com', password: '1234567', name: 'Short' }
    expect((await identity.open().call('POST', '/api/v1/auth/sign-up', short)).status).toBe(400)
  })
})

describe('CB-10 sign-in', () => {
  it('sets the cookie session_token, out of reach of scripts and other sites, and ends with sign-out', async () => {
    await identity.signUp('grace@example.com')
    const browser = identity.open()
    const answer = await browser.call('POST', '/api/auth/sign-in', { email: 'grace@example.com', password: PASSWORD })
    const cookie = answer.headers.getSetCookie().find((line) => line.startsWith('session_token='))!
    expect(cookie).toMatch(/; HttpOnly/)
    expect(cookie).toMatch(/; SameSite=Lax/)
    expect(cookie).not.toMatch(/; Secure/)
    const before = await browser.call('GET', '/api/v1/auth/me')
    expect(before.body).toMatchObject({ user: { email: 'grace@example.com', email_verified: false } })
    const kept = [...browser.cookies]
    expect((await browser.call('POST', '/api/v1/auth/sign-out')).body).toEqual({ success: true })
    expect(browser.cookies.has('session_token')).toBe(false)
    for (const [name, value] of kept) browser.cookies.set(name, value)
    expect((await browser.call('GET', '/api/v1/auth/me')).status).toBe(401)
  })

  it('answers an access token that does what the cookie does, and neither unsigned nor under a wrong signature', async () => {
    const { token, organizationId } = await identity.signUp('bearer@example.com')
    const path = `/api/v1/organizations/${organizationId}`
    expect((await identity.as(token, 'GET', path)).status).toBe(200)
    expect((await identity.as(encodeURIComponent(token), 'GET', path)).status).toBe(200)
    const [raw = '', signature = ''] = token.split('.')
    expect((await identity.as(raw, 'GET', path)).status).toBe(401)
    expect(
      (await identity.as(`${raw}.${signature.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))}`, 'GET', path)).status,
    ).toBe(401)
  })

  it('is open to programs that are no browsers: fetch of Node tells of a mode, and of no origin', async () => {
    await identity.signUp('program@example.com')
    const signIn = { email: 'program@example.com', password: PASSWORD }
    const answer = await identity.as(null, 'POST', '/api/v1/auth/sign-in', signIn, { 'sec-fetch-mode': 'cors' })
    expect(answer.status).toBe(200)
    const page = { 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'document' }
    expect((await identity.as(null, 'POST', '/api/v1/auth/sign-in', signIn, page)).status).toBe(403)
  })

  it('says the same of a wrong password and of an unknown address', async () => {
    await identity.signUp('known@example.com')
    const wrong = await identity
      .open()
      .call('POST', '/api/v1/auth/sign-in', { email: 'known@example.com', password: 'wrong password' })
    const unknown = await identity
      .open()
      .call('POST', '/api/v1/auth/sign-in', { email: 'nobody@example.com', password: PASSWORD })
    expect(wrong).toMatchObject({ status: 401, body: { code: 'wrong_credentials' } })
    expect([unknown.status, unknown.body['detail']]).toEqual([401, wrong.body['detail']])
  })

  it('is slowed down: an address that guesses is told to wait', async () => {
    const guesser = identity.open()
    const guess = { email: 'known@example.com', password: 'wrong password' }
    const answers = []
    for (let i = 0; i < 5; i += 1) answers.push(await guesser.call('POST', '/api/v1/auth/sign-in', guess))
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 429, 429])
    expect(answers[4]!.headers.get('retry-after')).toMatch(/^\d+$/)
    // Claiming to come from elsewhere does not help.
    const claim = { 'x-forwarded-for': '198.51.100.1', 'x-tollgate-client-address': '198.51.100.1' }
    expect((await guesser.call('POST', '/api/v1/auth/sign-in', guess, claim)).status).toBe(429)
  })
})

describe('OC-10 a cookie', () => {
  it('is not needed to be told that nobody is signed in', async () => {
    expect((await identity.as(null, 'GET', '/api/v1/auth/me')).status).toBe(401)
    expect((await identity.as(null, 'GET', '/api/v1/usage')).status).toBe(401)
    const browser = identity.open()
    browser.cookies.set('session_token', 'made-up.c2lnbmF0dXJl')
    expect((await browser.call('GET', '/api/v1/usage')).status).toBe(401)
  })

  it('changes nothing for a page elsewhere', async () => {
    const { browser, organizationId } = await identity.signUp('victim@example.com')
    const path = `/api/v1/organizations/${organizationId}/workspaces`
    const evil = identity.open('https://evil.example')
    for (const [name, value] of browser.cookies) evil.cookies.set(name, value)
    expect(await evil.call('POST', path, { name: 'Theirs' })).toMatchObject({ status: 403, body: { code: 'forbidden' } })
    expect((await evil.call('POST', '/api/v1/auth/sign-out')).status).toBe(403)
    expect((await evil.call('POST', '/api/v1/auth/two-factor', { password: PASSWORD })).status).toBe(403)
    const navigation = {
      cookie: [...browser.cookies].map(([name, value]) => `${name}=${value}`).join('; '),
      'sec-fetch-site': 'cross-site',
    }
    expect((await identity.as(null, 'POST', path, { name: 'Theirs' }, navigation)).status).toBe(403)
    expect((await browser.call('POST', path, { name: 'Mine' })).status).toBe(201)
  })
})

describe('a password', () => {
  it('is set anew with the token of a mail, once, and ends every session', async () => {
    const { browser } = await identity.signUp('forgetful@example.com')
    const asked = await identity.open().call('POST', '/api/v1/auth/password-reset', { email: 'forgetful@example.com' })
    const nobody = await identity.open().call('POST', '/api/v1/auth/password-reset', { email: 'nobody@example.com' })
    expect([asked.status, asked.body]).toEqual([nobody.status, nobody.body])
    const token = /#token=(\S+)/.exec(await identity.mailTo('forgetful@example.com', 'password_reset'))![1]!
    const change = { token, password: 'another good password' }
    expect((await identity.open().call('POST', '/api/v1/auth/password-reset/confirm', change)).status).toBe(200)
    expect((await identity.open().call('POST', '/api/v1/auth/password-reset/confirm', change)).status).toBe(400)
    expect((await browser.call('GET', '/api/v1/auth/me')).status).toBe(401)
    const signIn = (password: string) =>
      identity.open().call('POST', '/api/v1/auth/sign-in', { email: 'forgetful@example.com', password })
    expect((await signIn(PASSWORD)).status).toBe(401)
    expect((await signIn('another good password')).status).toBe(200)
  })

  it('is changed by who knows the present one', async () => {
    const { browser, token } = await identity.signUp('changer@example.com')
    const change = { current_password: 'wrong password', new_password: 'another good password' }
    expect((await browser.call('POST', '/api/v1/auth/password', change)).status).toBe(400)
    expect((await browser.call('POST', '/api/v1/auth/password', { ...change, current_password: PASSWORD })).status).toBe(200)
    expect((await browser.call('GET', '/api/v1/auth/me')).status).toBe(200)
    expect((await identity.as(token, 'GET', '/api/v1/auth/me')).status).toBe(401)
  })
})

describe('an address', () => {
  it('is confirmed by the link of a mail, and makes an operator of who is named as one', async () => {
    const { browser } = await identity.signUp('chief@example.com')
    expect((await browser.call('GET', '/api/v1/organizations')).status).toBe(403)
    const link = await identity.confirmationOf('chief@example.com')
    const confirmed = await browser.call('GET', `${link.pathname}${link.search}`)
    expect([confirmed.status, confirmed.headers.get('location')]).toEqual([302, '/account/confirmed'])
    expect((await browser.call('GET', '/api/v1/auth/me')).body).toMatchObject({
      kind: 'operator',
      is_operator: true,
      user: { email_verified: true },
    })
    expect((await browser.call('GET', '/api/v1/organizations')).status).toBe(200)
  })
})

describe('an operator', () => {
  it('makes another user one, until it is taken back; both are audited', async () => {
    const { browser, userId } = await identity.signUp('deputy@example.com')
    const path = `/api/v1/users/${userId}`
    expect((await browser.call('PATCH', path, { operator: true })).status).toBe(403)
    expect((await browser.call('GET', '/api/v1/users')).status).toBe(403)
    const found = await identity.as(OPERATOR_KEY, 'GET', '/api/v1/users?email=Deputy@example.com')
    expect(found.body).toMatchObject({ users: [{ id: userId, operator: false }], has_more: false })
    expect((await identity.as(OPERATOR_KEY, 'PATCH', path, { operator: true })).body).toMatchObject({ operator: true })
    expect((await browser.call('GET', '/api/v1/users?limit=1')).body).toMatchObject({ has_more: true })
    const after = await browser.call('GET', `/api/v1/users?starting_after=${userId}`)
    expect(JSON.stringify(after.body['users'])).not.toContain(userId)
    expect((await browser.call('GET', '/api/v1/users?starting_after=unknown')).status).toBe(400)
    const inTheirName = await browser.call('GET', '/api/v1/usage', undefined, { 'x-organization-id': 'nobody-knows' })
    expect(inTheirName.status).toBe(404)
    expect((await browser.call('PATCH', path, { operator: false })).body).toMatchObject({ operator: false })
    expect((await browser.call('GET', '/api/v1/users')).status).toBe(403)
    const log = await identity.as(OPERATOR_KEY, 'GET', '/api/v1/audit-log?limit=200')
    expect(log.body['entries']).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ action: 'operator.unmade', actor: `operator:${userId}`, target: userId }),
        expect.objectContaining({ action: 'operator.made', actor: 'operator:bootstrap', target: userId }),
      ]),
    )
    expect((await identity.as(OPERATOR_KEY, 'PATCH', '/api/v1/users/unknown', { operator: true })).status).toBe(404)
  })
})

describe('OC-11 users', () => {
  it('see their own billing only, and operators that of all', async () => {
    const [one, other] = [await identity.signUp('one@example.com'), await identity.signUp('other@example.com')]
    const path = (id: string) => `/api/v1/billing/subscription?organization_id=${id}`
    expect((await one.browser.call('GET', path(one.organizationId))).body).toMatchObject({ tier: 'free' })
    for (const where of ['billing/subscription', 'billing/invoices', 'usage', 'balances']) {
      const foreign = await one.browser.call('GET', `/api/v1/${where}?organization_id=${other.organizationId}`)
      const unknown = await one.browser.call('GET', `/api/v1/${where}?organization_id=of_nobody`)
      expect([foreign.status, foreign.body['detail']]).toEqual([404, unknown.body['detail']])
    }
    const inBody = { organization_id: other.organizationId, meter: 'search', idempotency_key: 'x' }
    expect((await one.browser.call('POST', '/api/v1/usage/consume', inBody)).status).toBe(404)
    expect((await identity.as(OPERATOR_KEY, 'GET', path(other.organizationId))).status).toBe(200)
  })
})

it('forgets sessions and customer tokens a day after their end', async () => {
  const { userId, organizationId } = await identity.signUp('old@example.com')
  const { db } = identity.database
  await db.query(`update user_sessions set expires_at = now() - interval '25 hours' where user_id = $1`, [userId])
  const end = new Date(systemClock.now().getTime() - 25 * HOUR_MS)
  await insertCustomerToken(db, {
    id: 'ctok_old' as CustomerTokenId,
    organizationId: organizationId as OrganizationId,
    digest: Buffer.from('old'),
    createdBy: 'test',
    createdAt: end,
    expiresAt: end,
  })
  const { token } = await identity.signUp('young@example.com')
  for (const job of identityJobs({ db, clock: systemClock })) await job.run()
  expect((await db.query('select 1 from user_sessions where user_id = $1', [userId])).rowCount).toBe(0)
  expect((await db.query(`select 1 from customer_tokens where id = 'ctok_old'`)).rowCount).toBe(0)
  expect((await identity.as(token, 'GET', '/api/v1/auth/me')).status).toBe(200)
})

it('API keys know who they are, and cannot act as a person', async () => {
  expect((await identity.as(OPERATOR_KEY, 'GET', '/api/v1/auth/me')).body).toMatchObject({ kind: 'operator', user: null })
  expect((await identity.as(OPERATOR_KEY, 'POST', '/api/v1/auth/two-factor', { password: 'x' })).status).toBe(403)
  // Not even beside somebody's cookie: what is sent as a key decides alone.
  const { browser, organizationId } = await identity.signUp('beside@example.com')
  const key = { 'x-api-key': OPERATOR_KEY }
  expect((await browser.call('GET', '/api/v1/auth/me', undefined, key)).body).toMatchObject({ kind: 'operator', user: null })
  const choice = { organization_id: organizationId }
  expect((await browser.call('POST', '/api/v1/auth/active-organization', choice, key)).status).toBe(403)
})

it('says what a path or a method under /auth is not, and answers every request with its id', async () => {
  const asked = { 'x-request-id': 'of-this-call' }
  const ask = async (method: string, path: string) => {
    const { status, headers, body } = await identity.as(null, method, path, undefined, asked)
    expect([path, headers.get('x-request-id')]).toEqual([path, 'of-this-call'])
    return { status, allow: headers.get('allow'), code: (body as { code?: string } | null)?.code }
  }
  const missing = { status: 404, allow: null, code: 'not_found' }
  expect(await ask('GET', '/api/v1/auth/nothing')).toEqual(missing)
  expect(await ask('PUT', '/api/auth/nothing')).toEqual(missing)
  expect(await ask('GET', '/api/v1/auth/sign-in')).toEqual({ status: 405, allow: 'POST', code: 'method_not_allowed' })
  expect(await ask('GET', '/api/v1/auth/ok')).toMatchObject({ status: 200 })
})

it('writes no token, password or secret into the log', async () => {
  const { token } = await identity.signUp('logged@example.com')
  await identity.as(`${token}x`, 'GET', `/api/v1/auth/me?token=${token}`)
  expect(identity.logged.join('')).not.toContain(token.split('.')[0])
  expect(identity.logged.join('')).not.toContain(PASSWORD)
})

it('finds better-auth content with our tables', async () => {
  const pool = openPool({ connectionString: identity.database.url, poolSize: 1 })
  try {
    const options = betterAuthOptions({
      pool,
      secret: 'a secret of thirty-two characters',
      publicUrl: 'http://localhost:3000',
      trustedOrigins: [],
      providers: [],
      requireVerifiedEmail: false,
      mails: { resetPassword: async () => undefined, verifyEmail: async () => undefined },
      log: { warn: () => undefined, error: () => undefined },
    })
    const { toBeCreated, toBeAdded, toBeAddedIndexes, unsafeChanges, schemaProblems } = await getMigrations(options)
    expect({ toBeCreated, toBeAdded, toBeAddedIndexes, unsafeChanges, schemaProblems }).toEqual({
      toBeCreated: [],
      toBeAdded: [],
      toBeAddedIndexes: [],
      unsafeChanges: [],
      schemaProblems: [],
    })
  } finally {
    await pool.end()
  }
})

import { describe, expect, it } from 'vitest'
import { OPERATOR_KEY, PASSWORD, testIdentity } from '../../test/identity.ts'
import { CLIENT, testIssuer } from '../../test/issuer.ts'
import { ManualClock } from '../lib/clock.ts'
import { HOUR_MS } from '../lib/period.ts'

const issuer = testIssuer()
const clock = new ManualClock(new Date('2026-03-01T00:00:00Z'))
const AUDIENCE = 'https://billing.example.com'
const identity = testIdentity(() => ({
  clock,
  identity: {
    providers: [
      { kind: 'oidc', id: 'oidc', discoveryUrl: `${issuer.url}/.well-known/openid-configuration`, credentials: CLIENT },
      { kind: 'social', id: 'github', credentials: CLIENT },
    ],
    hostTokens: {
      jwksUrl: `${issuer.url}/jwks`,
      issuer: issuer.url,
      audience: AUDIENCE,
      organizationClaim: 'tenant',
      scopeClaim: 'scope',
    },
  },
}))

describe('sign-in at an OpenID Connect provider', () => {
  const lin = { sub: 'lin-1', email: 'lin@example.com', email_verified: true, name: 'Lin' }

  /** What the browser is sent away with, and what it brings back. */
  async function signIn(person: typeof lin, nonceOf = (sent: string | null): string | null => sent) {
    const browser = identity.open()
    const begun = await browser.call('POST', '/api/v1/auth/sign-in/social', { provider: 'oidc', callbackURL: '/home' })
    const sent = new URL(String(begun.body['url']))
    const code = issuer.authorize(person, nonceOf(sent.searchParams.get('nonce')))
    const back = new URLSearchParams({ code, state: sent.searchParams.get('state') ?? '' })
    const returned = await browser.call('GET', `/api/v1/auth/callback/oidc?${back.toString()}`)
    return { browser, sent, returned }
  }

  it('is listed with what else is switched on', async () => {
    expect((await identity.as(null, 'GET', '/api/v1/auth/providers')).body).toEqual({ providers: ['oidc', 'github'] })
  })

  it('signs up with an organization, and signs the same person in again', async () => {
    const first = await signIn(lin)
    expect(first.sent.origin).toBe(issuer.url)
    expect(first.sent.searchParams.get('code_challenge_method')).toBe('S256')
    expect([first.returned.status, first.returned.headers.get('location')]).toEqual([302, '/home'])
    const me = await first.browser.call('GET', '/api/v1/auth/me')
    expect(me.body).toMatchObject({
      user: { email: 'lin@example.com', email_verified: true },
      organizations: [{ role: 'owner' }],
    })
    const again = await signIn(lin)
    expect((await again.browser.call('GET', '/api/v1/auth/me')).body['user']).toEqual(me.body['user'])
  })

  it('refuses a state that is not the browser’s, and a token that was made for another sign-in', async () => {
    const code = issuer.authorize(lin, null)
    const forged = await identity
      .open()
      .call('GET', `/api/v1/auth/callback/oidc?${new URLSearchParams({ code, state: 'made-up' }).toString()}`)
    expect(forged.headers.getSetCookie().some((cookie) => cookie.startsWith('session_token='))).toBe(false)
    const replayed = await signIn(lin, () => 'of another sign-in')
    expect(replayed.browser.cookies.has('session_token')).toBe(false)
  })

  it('does not take over an account whose address the provider does not vouch for', async () => {
    const { userId } = await identity.signUp('mine@example.com')
    const thief = await signIn({ sub: 'thief', email: 'mine@example.com', email_verified: false, name: 'Thief' })
    expect(thief.browser.cookies.has('session_token')).toBe(false)
    const own = await identity.open().call('POST', '/api/v1/auth/sign-in', { email: 'mine@example.com', password: PASSWORD })
    expect(own.body).toMatchObject({ caller: { user: { id: userId } } })
  })

  it('brings what the provider calls somebody into the form of a name', async () => {
    const { browser } = await signIn({ ...lin, sub: 'lin-2', email: 'lin2@example.com', name: `Lin\n\u202e${'x'.repeat(300)}` })
    const { user } = (await browser.call('GET', '/api/v1/auth/me')).body as { user: { name: string } }
    expect(user.name).toMatch(/^Lin {2}x{10,195}$/)
    const nameless = await signIn({ ...lin, sub: 'lin-3', email: 'lin3@example.com', name: '\n' })
    expect((await nameless.browser.call('GET', '/api/v1/auth/me')).body).toMatchObject({ user: { name: 'lin3@example.com' } })
  })

  it('keeps what the provider gave encrypted', async () => {
    await signIn(lin)
    const { rows } = await identity.database.db.query(`select * from user_credentials where provider_id = 'oidc'`)
    expect(rows.length).toBeGreaterThan(0)
    expect(JSON.stringify(rows)).not.toContain('an access token')
  })
})

describe('a host application’s token', () => {
  const claims = (more: Record<string, unknown> = {}) => {
    const now = Math.floor(clock.now().getTime() / 1_000)
    return { iss: issuer.url, aud: AUDIENCE, sub: 'u7', tenant: 'acme', scope: 'read write', iat: now, exp: now + 600, ...more }
  }
  const status = async (token: string, path = '/api/v1/usage') => (await identity.as(token, 'GET', path)).status

  it('acts in the organization that it names, with the scopes that it names', async () => {
    await identity.as(OPERATOR_KEY, 'POST', '/api/v1/organizations', { id: 'acme', name: 'Acme', email: 'a@example.com' })
    const token = await issuer.sign(claims())
    expect((await identity.as(token, 'GET', '/api/v1/usage')).body).toMatchObject({ customer_id: 'acme' })
    expect((await identity.as(token, 'GET', '/api/v1/auth/me')).body).toMatchObject({
      kind: 'host_token',
      scopes: ['read', 'write'],
    })
    expect(await status(token, '/api/v1/organizations/acme/api-keys')).toBe(403)
    expect(await status(token, '/api/v1/usage?organization_id=other')).toBe(404)
    const admin = await issuer.sign(claims({ scope: ['admin', 'of something else'] }))
    expect(await status(admin, '/api/v1/organizations/acme/api-keys')).toBe(200)
    const plain = await issuer.sign(claims({ scope: undefined }))
    expect((await identity.as(plain, 'GET', '/api/v1/auth/me')).body).toMatchObject({ scopes: ['read'] })
  })

  it('counts from nbf to exp, by our clock', async () => {
    const token = await issuer.sign(claims())
    const seconds = Math.floor(clock.now().getTime() / 1_000)
    expect(await status(await issuer.sign(claims({ nbf: seconds + 60 })))).toBe(401)
    clock.advance(HOUR_MS)
    expect(await status(token)).toBe(401)
    expect(await status(await issuer.sign(claims({ exp: undefined })))).toBe(401)
  })

  it('is refused from another issuer, for another audience, without a tenant, or under another signature', async () => {
    expect(await status(await issuer.sign(claims()))).toBe(200)
    for (const more of [
      { iss: 'https://evil.example' },
      { aud: 'another' },
      { tenant: undefined },
      { tenant: 7 },
      { sub: undefined },
    ]) {
      expect(await status(await issuer.sign(claims(more))), JSON.stringify(more)).toBe(401)
    }
    expect(await status(await issuer.sign(claims(), { key: issuer.strangersKey }))).toBe(401)
    const shared = new TextEncoder().encode('a shared secret that anybody could use to sign')
    expect(await status(await issuer.sign(claims(), { key: shared, algorithm: 'HS256' }))).toBe(401)
    const [, payload = ''] = (await issuer.sign(claims())).split('.')
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`
    expect(await status(none)).toBe(401)
  })
})

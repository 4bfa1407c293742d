import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { OPERATOR_KEY, PASSWORD, testIdentity } from '../../test/identity.ts'

const identity = testIdentity({ identity: { requireVerifiedEmail: true } })
const person = { email: 'careful@example.com', password: PASSWORD, name: 'Careful' }

it('where addresses have to be confirmed, nobody signs in before, and sign-up does not tell who is known', async () => {
  const signUp = () => identity.open().call('POST', '/api/v1/auth/sign-up', person)
  const first = await signUp()
  expect(first).toMatchObject({ status: 201, body: { access_token: null, confirmation_required: true, caller: null } })
  expect(first.headers.getSetCookie()).toEqual([])
  const again = await signUp()
  expect([again.status, again.body]).toEqual([first.status, first.body])

  const browser = identity.open()
  const signIn = () => browser.call('POST', '/api/v1/auth/sign-in', { email: person.email, password: PASSWORD })
  expect(await signIn()).toMatchObject({ status: 403, body: { code: 'email_not_verified' } })
  const link = new URL(/http\S+/.exec(await identity.mailTo(person.email, 'email_verification'))![0])
  expect((await browser.call('GET', `${link.pathname}${link.search}`)).headers.get('location')).toBe('/account/confirmed')
  expect(await signIn()).toMatchObject({ status: 200, body: { caller: { organizations: [{ role: 'owner' }] } } })
})

it('a link that confirms an address is worth nothing when it was changed', async () => {
  await identity.open().call('POST', '/api/v1/auth/sign-up', { ...person, email: 'forged@example.com' })
  const link = new URL(/http\S+/.exec(await identity.mailTo('forged@example.com', 'email_verification'))![0])
  const token = link.searchParams.get('token')!
  const [head, , signature] = token.split('.')
  const payload = Buffer.from(JSON.stringify({ email: 'victim@example.com', exp: 4_000_000_000 })).toString('base64url')
  link.searchParams.set('token', [head, payload, signature].join('.'))
  const answer = await identity.open().call('GET', `${link.pathname}${link.search}`)
  expect(answer.headers.get('location')).toMatch(/error=/)
  const signIn = { email: 'forged@example.com', password: PASSWORD }
  expect((await identity.open().call('POST', '/api/v1/auth/sign-in', signIn)).status).toBe(403)
})

describe('an invitation, where addresses have to be confirmed,', () => {
  /** Invites an address to a new organization; the token is that of the mail. */
  async function invited(id: string, email: string): Promise<string> {
    await identity.as(OPERATOR_KEY, 'POST', '/api/v1/organizations', { id, name: id, email: 'a@example.com' })
    await identity.as(OPERATOR_KEY, 'POST', `/api/v1/organizations/${id}/invitations`, { email, role: 'member' })
    return /token=(\S+)/.exec(await identity.mailTo(email, 'invitation'))![1]!
  }
  const signUp = (email: string, token: string, browser = identity.open()) =>
    browser.call('POST', '/api/v1/auth/sign-up', { ...person, email, invitation_token: token })

  it('makes a member of who signs up with it, and signs them in: its mail has confirmed the address', async () => {
    const browser = identity.open()
    const answer = await signUp('zoe@example.com', await invited('club', 'zoe@example.com'), browser)
    expect(answer).toMatchObject({
      status: 201,
      body: {
        access_token: expect.any(String) as string,
        confirmation_required: false,
        caller: { organization_id: 'club', organizations: [{ organization_id: 'club', role: 'member' }] },
      },
    })
    expect((await browser.call('GET', '/api/v1/auth/me')).body).toMatchObject({
      organizations: [{ organization_id: 'club' }],
      user: { email_verified: true },
    })
  })

  it('confirms nothing of who took the address before', async () => {
    const email = 'squatted@example.com'
    await identity.open().call('POST', '/api/v1/auth/sign-up', { ...person, email, password: 'the password of a stranger' })
    const token = await invited('other-club', email)
    expect((await signUp(email, token)).body).toEqual({ access_token: null, confirmation_required: true, caller: null })
    const stranger = { email, password: 'the password of a stranger' }
    expect((await identity.open().call('POST', '/api/v1/auth/sign-in', stranger)).status).toBe(403)
    const open = await identity.as(OPERATOR_KEY, 'GET', '/api/v1/organizations/other-club/invitations')
    expect(open.body).toMatchObject({ invitations: [{ state: 'open' }] })
  })

  it('is not said to be accepted by its page before the address is confirmed', async () => {
    const browser = identity.open()
    const script = String((await browser.call('GET', '/account/assets/account.js')).body['text'])
    const says = { textContent: '' }
    let submit: ((event: object) => Promise<void>) | null = null
    const form = {
      addEventListener: (_: string, listener: typeof submit) => (submit = listener),
      querySelectorAll: () => [],
      remove: () => undefined,
    }
    const document = { querySelector: (selector: string) => (selector === 'form' ? form : says) }
    const answer = { ok: true, json: async () => ({ access_token: null, confirmation_required: true, caller: null }) }
    runInNewContext(script, {
      document,
      location: { hash: '#token=tgi_x', pathname: '/account/invitation' },
      history: { replaceState: () => undefined },
      fetch: async () => answer,
      URLSearchParams,
      FormData: class {
        readonly [Symbol.iterator] = () => new Map().entries()
      },
    })
    await submit!({ preventDefault: () => undefined, submitter: { name: 'sign-up' } })
    expect(says.textContent).toMatch(/^Open the link/)
  })
})

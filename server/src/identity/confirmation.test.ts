import { runInNewContext } from 'node:vm'
import { describe, expect, it, vi } from 'vitest'
import { OPERATOR_KEY, PASSWORD, testIdentity } from '../../test/identity.ts'

const identity = testIdentity({ identity: { requireVerifiedEmail: true } })
const unconfirmed = testIdentity()
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
  const link = await identity.confirmationOf(person.email)
  expect((await browser.call('GET', `${link.pathname}${link.search}`)).headers.get('location')).toBe('/account/confirmed')
  expect(await signIn()).toMatchObject({ status: 200, body: { caller: { organizations: [{ role: 'owner' }] } } })
})

it('a link that confirms an address is worth nothing when it was changed', async () => {
  await identity.open().call('POST', '/api/v1/auth/sign-up', { ...person, email: 'forged@example.com' })
  const link = await identity.confirmationOf('forged@example.com')
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
    const answer = { access_token: null, confirmation_required: true, caller: null }
    const { says } = await pressed({ name: 'sign-up', path: '/account/invitation', hash: '#token=tgi_x', answer })
    expect(says()).toMatch(/^Open the link/)
  })
})

it('the link of the mail that confirms an address confirms nothing by being looked up: its page asks first', async () => {
  const { token } = await unconfirmed.signUp('looked-up@example.com')
  const link = new URL(/http\S+/.exec(await unconfirmed.mailTo('looked-up@example.com', 'email_verification'))![0])
  const isConfirmed = async () =>
    ((await unconfirmed.as(token, 'GET', '/api/v1/auth/me')).body as { user: { email_verified: boolean } }).user.email_verified
  const page = await unconfirmed.as(null, 'GET', `${link.pathname}${link.search}`)
  expect([page.status, String(page.body['text']).includes('only if it was you')]).toEqual([200, true])
  expect(await isConfirmed()).toBe(false)
  const { way } = await pressed({ name: 'confirm', path: link.pathname, hash: link.hash, answer: {} })
  const confirmed = await unconfirmed.as(null, 'GET', way())
  expect([confirmed.status, confirmed.headers.get('location')]).toEqual([302, '/account/confirmed'])
  expect(await isConfirmed()).toBe(true)
})

type Pressed = { readonly name: string; readonly path: string; readonly hash: string; readonly answer: object }

/** Presses a button of an account page; tells what the page says then, and where it leads. */
async function pressed({ name, path, hash, answer }: Pressed): Promise<{ says: () => string; way: () => string }> {
  const script = String((await identity.open().call('GET', '/account/assets/account.js')).body['text'])
  const says = { textContent: '' }
  let way = ''
  let submit: ((event: object) => Promise<void>) | null = null
  const form = {
    addEventListener: (_: string, listener: typeof submit) => (submit = listener),
    querySelectorAll: () => [],
    remove: () => undefined,
  }
  runInNewContext(script, {
    document: { querySelector: (selector: string) => (selector === 'form' ? form : says) },
    location: { hash, pathname: path, assign: (to: string) => (way = to) },
    history: { replaceState: () => undefined },
    fetch: async () => ({ ok: true, json: async () => answer }),
    URLSearchParams,
    FormData: class {
      readonly [Symbol.iterator] = () => new Map().entries()
    },
  })
  void submit!({ preventDefault: () => undefined, submitter: { name } })
  await vi.waitFor(() => expect(says.textContent + way).not.toBe(''))
  return { says: () => says.textContent, way: () => way }
}

import { expect, it } from 'vitest'
import { PASSWORD, testIdentity } from '../../test/identity.ts'

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

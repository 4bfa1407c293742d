import { describe, expect, it } from 'vitest'
import { PASSWORD, PUBLIC_URL, testIdentity } from '../../test/identity.ts'

// What is better-auth's own under /api/v1/auth keeps to what holds on our routes.

const identity = testIdentity()

describe('a profile on better-auth’s own routes', () => {
  it.each([
    ['a name of two lines', { name: 'two\nlines' }],
    ['a name that turns the direction of writing', { name: 'back\u202ewards' }],
    ['no name', { name: '  ' }],
    ['a name as long as a letter', { name: 'x'.repeat(201) }],
    ['a picture in place of its address', { name: 'Eve', image: 'x'.repeat(2_001) }],
  ])('is refused with %s', async (_what, profile) => {
    const person = { email: 'eve@example.com', password: PASSWORD, ...profile }
    const signUp = await identity.open().call('POST', '/api/v1/auth/sign-up/email', person)
    expect(signUp).toMatchObject({ status: 400, body: { message: expect.stringMatching(/^(name|image): /) as string } })
    await expect(identity.mailTo('eve@example.com', 'email_verification')).rejects.toThrow('no mail')
  })

  it('changes as it is allowed to, and not otherwise', async () => {
    const { browser } = await identity.signUp('grace@example.com')
    const change = async (name: string) => (await browser.call('POST', '/api/v1/auth/update-user', { name })).status
    expect([await change('Grace H.'), await change('Grace\u0007')]).toEqual([200, 400])
    expect((await browser.call('GET', '/api/v1/auth/me')).body).toMatchObject({ user: { name: 'Grace H.' } })
  })

  it('does not tell by its refusal who is known', async () => {
    await identity.signUp('known@example.com')
    const ask = async (email: string) => {
      const { status, body } = await identity
        .open()
        .call('POST', '/api/v1/auth/sign-up/email', { email, password: PASSWORD, name: '' })
      return { status, body }
    }
    expect(await ask('known@example.com')).toEqual(await ask('unknown@example.com'))
  })
})

it.each(['/..//evil.example/', '/a/../..//evil.example', '//evil.example', '/\\evil.example', 'https://evil.example'])(
  'a link of better-auth’s leads nobody to %s',
  async (callbackURL) => {
    const query = new URLSearchParams({ token: 'none', callbackURL }).toString()
    for (const path of ['verify-email', 'reset-password/none']) {
      const answer = await identity.open().call('GET', `/api/v1/auth/${path}?${query}`)
      expect(new URL(answer.headers.get('location') ?? '/', PUBLIC_URL).origin).toBe(PUBLIC_URL)
    }
  },
)

it('what anybody sends to better-auth’s own routes fills no log', async () => {
  const callbackURL = `https://evil.example/${'x'.repeat(100_000)}`
  const person = { email: 'nobody@example.com', password: PASSWORD, callbackURL }
  expect((await identity.open().call('POST', '/api/v1/auth/sign-in/email', person)).status).toBe(403)
  const line = identity.logged.find((logged) => logged.includes('evil.example'))!
  expect(line.length).toBeLessThan(500)
})

it('a password that is asked for again is not guessed by who has the session', async () => {
  const { browser } = await identity.signUp('guessed@example.com')
  const guess = async () => (await browser.call('POST', '/api/v1/auth/verify-password', { password: 'a guess' })).status
  expect([await guess(), await guess(), await guess(), await guess()]).toEqual([400, 400, 400, 429])
})

import { expect, test } from 'vitest'
import { PUBLIC_URL, testIdentity } from '../../test/identity.ts'

// What a browser is sent away with. Nobody is called: the code is only exchanged when it comes back.

const credentials = (name: string) => ({ clientId: `client-of-${name}`, clientSecret: `secret-of-${name}` })
const identity = testIdentity({
  identity: {
    providers: (['google', 'github', 'microsoft'] as const).map((id) => ({ kind: 'social', id, credentials: credentials(id) })),
  },
})

async function begin(provider: string): Promise<{ url: URL; text: string }> {
  const { status, body } = await identity
    .open()
    .call('POST', '/api/v1/auth/sign-in/social', { provider, callbackURL: '/home', disableRedirect: true })
  expect(status, JSON.stringify(body)).toBe(200)
  return { url: new URL(String(body['url'])), text: JSON.stringify(body) }
}

test.each([
  ['google', 'https://accounts.google.com/o/oauth2/v2/auth', ['openid', 'email', 'profile']],
  ['github', 'https://github.com/login/oauth/authorize', ['user:email']],
  ['microsoft', 'https://login.microsoftonline.com/common/oauth2/v2.0/authorize', ['openid', 'email', 'profile']],
] as const)('sign-in at %s asks for the right person, and only for who they are', async (name, address, scopes) => {
  const { url, text } = await begin(name)
  expect(url.origin + url.pathname).toBe(address)
  const query = url.searchParams
  expect(query.get('client_id')).toBe(`client-of-${name}`)
  expect(query.get('redirect_uri')).toBe(`${PUBLIC_URL}/api/v1/auth/callback/${name}`)
  expect(query.get('response_type')).toBe('code')
  expect((query.get('scope') ?? '').split(' ')).toEqual(expect.arrayContaining([...scopes]))
  expect(query.get('code_challenge_method')).toBe('S256')
  expect((query.get('code_challenge') ?? '').length).toBeGreaterThanOrEqual(43)
  expect((query.get('state') ?? '').length).toBeGreaterThanOrEqual(20)
  expect(text).not.toContain(`secret-of-${name}`)
  // Each begins anew: neither state nor challenge serves twice.
  const again = (await begin(name)).url.searchParams
  expect(again.get('state')).not.toBe(query.get('state'))
  expect(again.get('code_challenge')).not.toBe(query.get('code_challenge'))
})

test('a provider that is not switched on, and a way back to elsewhere, are refused', async () => {
  const ask = async (body: object) => (await identity.open().call('POST', '/api/v1/auth/sign-in/social', body)).status
  expect(await ask({ provider: 'gitlab', callbackURL: '/home' })).toBeGreaterThanOrEqual(400)
  expect(await ask({ provider: 'google', callbackURL: 'https://evil.example/' })).toBe(403)
})

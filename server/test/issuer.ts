import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWTPayload } from 'jose'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll } from 'vitest'

export const CLIENT = { clientId: 'tollgate', clientSecret: 'the secret of the client' }

export type Issuer = {
  readonly url: string
  /** Signs a token with the key that the issuer publishes, or another one. */
  sign(payload: JWTPayload, options?: { readonly key?: CryptoKey | Uint8Array; readonly algorithm?: string }): Promise<string>
  /** Lets somebody sign in there: what the browser would bring back as `code`. */
  authorize(person: { sub: string; email: string; email_verified: boolean; name: string }, nonce: string | null): string
  readonly strangersKey: CryptoKey
}

/** An OpenID Connect provider on loopback, whose keys also sign a host application's tokens. Call it once at the top. */
export function testIssuer(): Issuer {
  const codes = new Map<string, JWTPayload>()
  let keys: Awaited<ReturnType<typeof generateKeyPair>>
  let stranger: Awaited<ReturnType<typeof generateKeyPair>>
  let server: ReturnType<typeof serve>
  let url = ''

  const sign: Issuer['sign'] = (payload, { key = keys.privateKey, algorithm = 'ES256' } = {}) =>
    new SignJWT(payload).setProtectedHeader({ alg: algorithm, kid: 'one' }).sign(key)

  const app = new Hono()
  app.get('/.well-known/openid-configuration', (c) =>
    c.json({
      issuer: url,
      authorization_endpoint: `${url}/authorize`,
      token_endpoint: `${url}/token`,
      userinfo_endpoint: `${url}/userinfo`,
      jwks_uri: `${url}/jwks`,
      id_token_signing_alg_values_supported: ['ES256'],
      response_types_supported: ['code'],
      subject_types_supported: ['public'],
    }),
  )
  app.get('/jwks', async (c) =>
    c.json({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'one', alg: 'ES256', use: 'sig' }] }),
  )
  app.post('/token', async (c) => {
    const body = await c.req.parseBody()
    const code = typeof body['code'] === 'string' ? body['code'] : ''
    const claims = codes.get(code)
    codes.delete(code)
    if (claims === undefined) return c.json({ error: 'invalid_grant' }, 400)
    const now = Math.floor(performance.timeOrigin / 1_000 + performance.now() / 1_000)
    const idToken = await sign({ ...claims, iss: url, aud: CLIENT.clientId, iat: now, exp: now + 300 })
    return c.json({ access_token: 'an access token', token_type: 'Bearer', expires_in: 300, id_token: idToken })
  })

  beforeAll(async () => {
    keys = await generateKeyPair('ES256', { extractable: true })
    stranger = await generateKeyPair('ES256')
    server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 })
    await once(server, 'listening')
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(
    () =>
      new Promise((resolve) => {
        server.close(resolve)
      }),
  )

  return {
    get url() {
      return url
    },
    get strangersKey() {
      return stranger.privateKey
    },
    sign,
    authorize(person, nonce) {
      const code = `code ${codes.size + 1} of ${person.sub}`
      codes.set(code, { ...person, ...(nonce === null ? {} : { nonce }) })
      return code
    },
  }
}

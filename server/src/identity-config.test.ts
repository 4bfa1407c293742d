import { describe, expect, it } from 'vitest'
import { readConfig } from './config.ts'
import { identityOfConfig } from './identity-config.ts'

describe('variables of identity', () => {
  it('leave everything closed that is not switched on', () => {
    expect(identityOfConfig(readConfig({}))).toEqual({
      operatorEmails: [],
      requireVerifiedEmail: false,
      trustedOrigins: [],
      trustedProxies: [],
      providers: [],
      hostTokens: undefined,
    })
  })

  it('switch sign-in elsewhere and a host’s tokens on', () => {
    const options = identityOfConfig(
      readConfig({
        OPERATOR_EMAILS: 'a@example.com, b@example.com',
        TOLLGATE_REQUIRE_VERIFIED_EMAIL: 'true',
        TOLLGATE_TRUSTED_PROXIES: '10.0.0.0/8',
        GITHUB_CLIENT_ID: 'id',
        GITHUB_CLIENT_SECRET: 'secret',
        OIDC_DISCOVERY_URL: 'https://login.example.com/.well-known/openid-configuration',
        OIDC_CLIENT_ID: 'id',
        OIDC_CLIENT_SECRET: 'secret',
        HOST_JWKS_URL: 'https://app.example.com/jwks',
        HOST_JWT_ISSUER: 'https://app.example.com',
        HOST_JWT_AUDIENCE: 'billing',
      }),
    )
    expect(options).toMatchObject({
      operatorEmails: ['a@example.com', 'b@example.com'],
      requireVerifiedEmail: true,
      trustedProxies: ['10.0.0.0/8'],
      providers: [{ id: 'github' }, { id: 'oidc' }],
      hostTokens: { issuer: 'https://app.example.com', organizationClaim: 'organization_id', scopeClaim: 'scope' },
    })
  })

  it('that belong together are refused apart: a host’s tokens without issuer and audience would be anybody’s', () => {
    expect(() => readConfig({ HOST_JWKS_URL: 'https://app.example.com/jwks' })).toThrow(
      'HOST_JWT_ISSUER and HOST_JWT_AUDIENCE are missing: HOST_JWKS_URL, HOST_JWT_ISSUER, HOST_JWT_AUDIENCE belong together.',
    )
    expect(() => readConfig({ GOOGLE_CLIENT_ID: 'id' })).toThrow('GOOGLE_CLIENT_SECRET is missing')
    expect(() => readConfig({ TOLLGATE_TRUSTED_PROXIES: '10.0.0.0/8,proxy' })).toThrow('TOLLGATE_TRUSTED_PROXIES is wrong')
    expect(() => readConfig({ TOLLGATE_TRUSTED_ORIGINS: 'https://app.example.com/' })).toThrow(
      'TOLLGATE_TRUSTED_ORIGINS is wrong',
    )
  })
})

import { z } from 'zod'
import type { HostTokenOptions } from './auth/host-tokens.ts'
import { isProxy } from './http/client-address.ts'

/** A place elsewhere at which people may sign in; each is switched on by its variables. */
export type SignInProvider = {
  /** As in `/api/v1/auth/callback/<id>`. */
  readonly id: string
  readonly credentials: { readonly clientId: string; readonly clientSecret: string }
} & ({ readonly kind: 'social' } | { readonly kind: 'oidc'; readonly discoveryUrl: string })

/** Whom the server lets in beside the holders of API keys; everything has a default. */
export type IdentityOptions = {
  /** Whoever has confirmed one of these addresses is an operator. */
  readonly operatorEmails?: readonly string[]
  /** Whether an address has to be confirmed before its user may sign in; default false. */
  readonly requireVerifiedEmail?: boolean
  /** Origins of pages, beside the server's own, that may call with the session's cookie. */
  readonly trustedOrigins?: readonly string[]
  /** Addresses or ranges of proxies in front of the server, whose X-Forwarded-For is believed. */
  readonly trustedProxies?: readonly string[]
  /** Where else one may sign in. */
  readonly providers?: readonly SignInProvider[]
  /** A host application whose tokens are accepted. */
  readonly hostTokens?: HostTokenOptions | undefined
}

const url = z.url({ protocol: /^https?$/, error: 'an http or https address is expected' }).optional()
const text = z.string().optional()
const list = z.string().default('')
/** A list of what `isOne` accepts. */
const listOnly = (isOne: (item: string) => boolean, error: string) => list.refine((value) => listOf(value).every(isOne), error)

function isOrigin(item: string): boolean {
  return URL.canParse(item) && new URL(item).origin === item
}

/** The variables of identity; `config.ts` has all. */
export const identityVariables = {
  OPERATOR_EMAILS: list.meta({
    description: 'Addresses, separated by commas, whose users are operators once they confirmed them.',
  }),
  TOLLGATE_REQUIRE_VERIFIED_EMAIL: z
    .stringbool('true or false is expected')
    .default(false)
    .meta({ description: 'Whether an address has to be confirmed before its user may sign in.' }),
  TOLLGATE_TRUSTED_ORIGINS: listOnly(isOrigin, 'origins such as https://app.example.com are expected').meta({
    description:
      'Origins of other pages, separated by commas, that may call from a browser (CORS), also with the cookie of a session.',
  }),
  TOLLGATE_TRUSTED_PROXIES: listOnly(isProxy, 'addresses or ranges such as 10.0.0.0/8 are expected').meta({
    description: 'Addresses or ranges of proxies in front of the server, separated by commas: their X-Forwarded-For is believed.',
  }),
  GOOGLE_CLIENT_ID: text.meta({ description: 'Sign-in with Google; the callback is /api/v1/auth/callback/google.' }),
  GOOGLE_CLIENT_SECRET: text.meta({ description: 'Its secret.' }),
  GITHUB_CLIENT_ID: text.meta({ description: 'Sign-in with GitHub; the callback is /api/v1/auth/callback/github.' }),
  GITHUB_CLIENT_SECRET: text.meta({ description: 'Its secret.' }),
  MICROSOFT_CLIENT_ID: text.meta({ description: 'Sign-in with Microsoft; the callback is /api/v1/auth/callback/microsoft.' }),
  MICROSOFT_CLIENT_SECRET: text.meta({ description: 'Its secret.' }),
  OIDC_DISCOVERY_URL: url.meta({
    description:
      'Sign-in at an OpenID Connect provider: its /.well-known/openid-configuration. The callback is /api/v1/auth/callback/oidc. Read at the start.',
  }),
  OIDC_CLIENT_ID: text.meta({ description: 'The client at that provider.' }),
  OIDC_CLIENT_SECRET: text.meta({ description: 'Its secret.' }),
  HOST_JWKS_URL: url.meta({ description: 'Public keys (JWKS) of a host application whose tokens are accepted as Bearer.' }),
  HOST_JWT_ISSUER: text.meta({ description: 'The issuer that such a token must name; needed with HOST_JWKS_URL.' }),
  HOST_JWT_AUDIENCE: text.meta({ description: 'The audience that such a token must name; needed with HOST_JWKS_URL.' }),
  HOST_JWT_ORGANIZATION_CLAIM: z
    .string()
    .default('organization_id')
    .meta({ description: 'The claim that names the organization.' }),
  HOST_JWT_SCOPE_CLAIM: z
    .string()
    .default('scope')
    .meta({ description: 'The claim with read, write, admin; a token without one of them may read.' }),
}

type Variables = z.infer<z.ZodObject<typeof identityVariables>>

/** Variables of which all are set, or none. */
export const IDENTITY_TOGETHER = [
  ['GOOGLE_CLIENT_ID', 'GOOGLE_CLIENT_SECRET'],
  ['GITHUB_CLIENT_ID', 'GITHUB_CLIENT_SECRET'],
  ['MICROSOFT_CLIENT_ID', 'MICROSOFT_CLIENT_SECRET'],
  ['OIDC_DISCOVERY_URL', 'OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET'],
  ['HOST_JWKS_URL', 'HOST_JWT_ISSUER', 'HOST_JWT_AUDIENCE'],
] as const satisfies readonly (readonly (keyof Variables)[])[]

/** The options that the variables decide. */
export function identityOfConfig(config: Variables): IdentityOptions {
  return {
    operatorEmails: listOf(config.OPERATOR_EMAILS),
    requireVerifiedEmail: config.TOLLGATE_REQUIRE_VERIFIED_EMAIL,
    trustedOrigins: listOf(config.TOLLGATE_TRUSTED_ORIGINS),
    trustedProxies: listOf(config.TOLLGATE_TRUSTED_PROXIES),
    providers: providersOf(config),
    hostTokens: hostTokensOf(config),
  }
}

/** What stands between commas. */
export function listOf(value: string): string[] {
  return value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function providersOf(config: Variables): SignInProvider[] {
  const social = [
    ['google', config.GOOGLE_CLIENT_ID, config.GOOGLE_CLIENT_SECRET],
    ['github', config.GITHUB_CLIENT_ID, config.GITHUB_CLIENT_SECRET],
    ['microsoft', config.MICROSOFT_CLIENT_ID, config.MICROSOFT_CLIENT_SECRET],
  ] as const
  const providers: SignInProvider[] = social.flatMap(([id, clientId, clientSecret]) =>
    clientId === undefined || clientSecret === undefined ? [] : [{ kind: 'social', id, credentials: { clientId, clientSecret } }],
  )
  const { OIDC_DISCOVERY_URL: discoveryUrl, OIDC_CLIENT_ID: clientId, OIDC_CLIENT_SECRET: clientSecret } = config
  if (discoveryUrl === undefined || clientId === undefined || clientSecret === undefined) return providers
  return [...providers, { kind: 'oidc', id: 'oidc', discoveryUrl, credentials: { clientId, clientSecret } }]
}

function hostTokensOf(config: Variables): HostTokenOptions | undefined {
  const { HOST_JWKS_URL: jwksUrl, HOST_JWT_ISSUER: issuer, HOST_JWT_AUDIENCE: audience } = config
  if (jwksUrl === undefined || issuer === undefined || audience === undefined) return undefined
  const { HOST_JWT_ORGANIZATION_CLAIM: organizationClaim, HOST_JWT_SCOPE_CLAIM: scopeClaim } = config
  return { jwksUrl, issuer, audience, organizationClaim, scopeClaim }
}

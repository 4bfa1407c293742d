import { betterAuth, type BetterAuthOptions } from 'better-auth'
import { isAPIError } from 'better-auth/api'
import { hashPassword, verifyPassword } from 'better-auth/crypto'
import { bearer, genericOAuth, twoFactor } from 'better-auth/plugins'
import type { Pool } from 'pg'
import { hashing } from '../auth/hashing.ts'
import type { SignInProvider } from '../identity-config.ts'
import { newId } from '../lib/ids.ts'
import { noteFailure, noteIfDatabase } from './failures.ts'
import type { MailTexts } from './mails.ts'
import { profileRules } from './profiles.ts'

/** The cookie that the five systems name. */
export const SESSION_COOKIE = 'session_token'
/** Where better-auth's own routes are; ours stand before them (routes.ts). */
export const AUTH_PATH = '/api/v1/auth'
/** Set by routes.ts to the address of who calls; whatever a caller wrote into it is replaced. */
export const CLIENT_ADDRESS_HEADER = 'x-tollgate-client-address'

export type BetterAuthParts = {
  readonly pool: Pool
  /** Signs cookies and encrypts second factors; at least 32 characters. */
  readonly secret: string
  readonly publicUrl: string
  /** Origins of pages that may call with the cookie, the server's own among them. */
  readonly trustedOrigins: readonly string[]
  readonly providers: readonly SignInProvider[]
  readonly requireVerifiedEmail: boolean
  readonly mails: MailTexts
  readonly log: { warn(fields: object, message: string): void; error(fields: object, message: string): void }
}

export type BetterAuth = ReturnType<typeof createBetterAuth>

/**
 * better-auth on our PostgreSQL: users, passwords, sessions, second factors, sign-in elsewhere. Its tables are ours
 * (migration 0040); the test beside asks better-auth itself whether anything is missing.
 */
export function createBetterAuth(parts: BetterAuthParts) {
  return betterAuth(betterAuthOptions(parts))
}

/** Tables and columns under our names: snake_case, plural. */
const timestamps = { createdAt: 'created_at', updatedAt: 'updated_at' }

const NAMES = {
  user: { modelName: 'users', fields: { emailVerified: 'email_verified', ...timestamps } },
  session: {
    modelName: 'user_sessions',
    fields: { expiresAt: 'expires_at', ipAddress: 'ip_address', userAgent: 'user_agent', userId: 'user_id', ...timestamps },
  },
  account: {
    modelName: 'user_credentials',
    fields: {
      accountId: 'account_id',
      providerId: 'provider_id',
      userId: 'user_id',
      accessToken: 'access_token',
      refreshToken: 'refresh_token',
      idToken: 'id_token',
      accessTokenExpiresAt: 'access_token_expires_at',
      refreshTokenExpiresAt: 'refresh_token_expires_at',
      ...timestamps,
    },
  },
  verification: { modelName: 'user_verifications', fields: { expiresAt: 'expires_at', ...timestamps } },
  rateLimit: { modelName: 'auth_rate_limits', fields: { lastRequest: 'last_request' } },
} as const

const TWO_FACTOR_NAMES = {
  user: { fields: { twoFactorEnabled: 'two_factor_enabled' } },
  twoFactor: {
    modelName: 'user_second_factors',
    fields: {
      backupCodes: 'backup_codes',
      userId: 'user_id',
      failedVerificationCount: 'failed_verification_count',
      lockedUntil: 'locked_until',
    },
  },
} as const

const LONGEST_SENTENCE = 300

/** What an id of each model begins with. */
const PREFIXES: Readonly<Record<string, string>> = { user: 'user', session: 'session', account: 'credential' }

export function betterAuthOptions(parts: BetterAuthParts) {
  const { publicUrl, mails } = parts
  const social = Object.fromEntries(
    parts.providers.flatMap((provider) => (provider.kind === 'social' ? [[provider.id, provider.credentials]] : [])),
  )
  return {
    appName: 'Tollgate',
    baseURL: publicUrl,
    basePath: AUTH_PATH,
    // As a list, so that no variable of better-auth's own can replace it.
    secrets: [{ version: 1, value: parts.secret }],
    database: parts.pool,
    trustedOrigins: [...parts.trustedOrigins],
    emailAndPassword: {
      enabled: true,
      requireEmailVerification: parts.requireVerifiedEmail,
      revokeSessionsOnPasswordReset: true,
      password: {
        hash: (password) => inTurn(() => hashPassword(password)),
        verify: (given) => inTurn(() => verifyPassword(given)),
      },
      sendResetPassword: ({ user, token }) => storing(mails.resetPassword(user, token)),
    },
    emailVerification: {
      sendOnSignUp: true,
      sendVerificationEmail: ({ user, url, token }) => storing(mails.verifyEmail(user, { url, token })),
    },
    user: NAMES.user,
    session: NAMES.session,
    account: { ...NAMES.account, encryptOAuthTokens: true },
    // Hashed: who reads the table cannot reset a password with it.
    verification: { ...NAMES.verification, storeIdentifier: 'hashed' },
    rateLimit: {
      enabled: true,
      // In the database: a limit that holds for all servers together.
      storage: 'database',
      // As those of the routes that ask for a password too; by itself it has no such limit.
      customRules: { '/verify-password': { window: 10, max: 3 } },
      ...NAMES.rateLimit,
    },
    ...profileRules,
    socialProviders: social,
    plugins: [bearer({ requireSignature: true }), twoFactor({ issuer: 'Tollgate', schema: TWO_FACTOR_NAMES }), ...oidcOf(parts)],
    advanced: {
      // The name must be exact: better-auth would put __Secure- before it. The attribute is set below instead.
      useSecureCookies: false,
      cookiePrefix: 'tollgate',
      cookies: { session_token: { name: SESSION_COOKIE } },
      defaultCookieAttributes: { httpOnly: true, sameSite: 'lax', path: '/', secure: publicUrl.startsWith('https://') },
      // Said in full: left out, better-auth switches both off under a test runner.
      disableCSRFCheck: false,
      disableOriginCheck: false,
      ipAddress: { ipAddressHeaders: [CLIENT_ADDRESS_HEADER] },
      database: {
        // The migrations are applied before anything is served, and a test compares them with this.
        validateSchema: false,
        generateId: ({ model }) => newId(PREFIXES[model] ?? 'auth'),
      },
    },
    telemetry: { enabled: false },
    onAPIError: {
      // A refusal is the caller's affair; what is left is ours.
      onError: (error) => {
        noteIfDatabase(error)
        if (!isAPIError(error) || error.statusCode >= 500) parts.log.error({ err: error }, 'better-auth failed')
      },
    },
    logger: {
      level: 'warn',
      // The sentence alone, and its beginning: what follows may be what a caller sent, of any length.
      log: (level, message, ...told: unknown[]) => {
        told.forEach(noteIfDatabase)
        const sentence = message.slice(0, LONGEST_SENTENCE)
        if (level === 'error') parts.log.error({}, sentence)
        else parts.log.warn({}, sentence)
      },
    },
  } satisfies BetterAuthOptions
}

/** Passwords are one asker among the organizations whose keys are hashed; see `hashing`. */
function inTurn<Result>(hash: () => Promise<Result>): Promise<Result> {
  return hashing.take('passwords', hash).catch((error: unknown) => {
    noteFailure(error)
    throw error
  })
}

/** A mail that is being stored; better-auth would say that it goes out all the same. */
async function storing(mail: Promise<void>): Promise<void> {
  await mail.catch((error: unknown) => {
    noteFailure(error)
    throw error
  })
}

function oidcOf({ providers }: BetterAuthParts) {
  const config = providers.flatMap((provider) =>
    provider.kind === 'oidc'
      ? [
          {
            providerId: provider.id,
            discoveryUrl: provider.discoveryUrl,
            ...provider.credentials,
            pkce: true,
            requireIdTokenVerification: true,
            scopes: ['openid', 'profile', 'email'],
          },
        ]
      : [],
  )
  return config.length === 0 ? [] : [genericOAuth({ config })]
}

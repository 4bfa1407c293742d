import { hkdfSync } from 'node:crypto'
import type { Logger } from 'pino'
import type { KeyVerifier } from './auth/api-keys.ts'
import { createCustomerTokenVerifier } from './auth/customer-tokens.ts'
import { createHostTokenVerifier } from './auth/host-tokens.ts'
import { openPool, SERVER_SILENT_MS } from './db/database.ts'
import { clientAddress, readTrustedProxies, type Connection } from './http/client-address.ts'
import { routedPathOf } from './http/legacy-path.ts'
import { createAuthenticator } from './identity/authenticate.ts'
import { createBetterAuth } from './identity/better-auth.ts'
import { createMailTexts } from './identity/mails.ts'
import type { IdentityContext } from './identity/session-calls.ts'
import type { IdentityOptions } from './identity-config.ts'
import type { OrganizationsContext } from './organizations/actions.ts'

export type IdentityParts = {
  readonly connectionString: string
  /** The role of better-auth's connections; default: the login itself. */
  readonly role?: string
  readonly keys: KeyVerifier
  readonly organizations: OrganizationsContext
  readonly log: Logger
}

export type Identity = {
  readonly authenticate: ReturnType<typeof createAuthenticator>
  readonly context: IdentityContext
  close(): Promise<void>
}

const CONNECTIONS = 5

/** Puts together who is calling. better-auth has connections of its own. */
export function openIdentity(options: IdentityOptions, parts: IdentityParts): Identity {
  const { connectionString, keys, organizations, log } = parts
  const onError = (error: Error): void => log.warn({ err: error }, 'a database connection was lost')
  const pool = openPool({
    connectionString,
    poolSize: CONNECTIONS,
    silentMs: SERVER_SILENT_MS,
    onError,
    ...(parts.role === undefined ? {} : { role: parts.role }),
  })
  const { db, clock, publicUrl, keySecret } = organizations
  const secret = deriveSecret(keySecret)
  const trustedOrigins = [...originsOf(publicUrl), ...(options.trustedOrigins ?? [])]
  const trustedProxies = readTrustedProxies(options.trustedProxies ?? [])
  const providers = options.providers ?? []
  const operatorEmails = new Set((options.operatorEmails ?? []).map((email) => email.toLowerCase()))
  const sessions = { db, secret, operatorEmails, organizations }
  const betterAuth = createBetterAuth({
    pool,
    secret,
    publicUrl,
    trustedOrigins,
    providers,
    requireVerifiedEmail: options.requireVerifiedEmail ?? false,
    mails: createMailTexts({ db, clock, publicUrl }),
    log,
  })
  return {
    close: () => pool.end(),
    authenticate: createAuthenticator({
      keys,
      customerTokens: createCustomerTokenVerifier({ db, secret: keySecret, clock }),
      hostTokens: options.hostTokens === undefined ? null : createHostTokenVerifier(options.hostTokens, clock),
      sessions,
      trustedOrigins,
      pathOf: routedPathOf,
    }),
    context: {
      betterAuth,
      publicUrl,
      trustedOrigins,
      sessions,
      providers,
      clientAddressOf: (c) => clientAddress(connectionOf(c.env), c.req.header('x-forwarded-for') ?? null, trustedProxies),
    },
  }
}

/** What the listener says of the connection; nothing in a host that does not hand it on. */
function connectionOf(env: unknown): Connection {
  return env ?? {}
}

/** A secret for sessions out of the one for keys, from which neither can be had back. */
function deriveSecret(secret: string): string {
  return Buffer.from(hkdfSync('sha256', secret, '', 'tollgate sessions', 32)).toString('base64url')
}

/** On a developer's machine a page is reached by either name. */
function originsOf(publicUrl: string): string[] {
  const { origin, protocol, hostname, port } = new URL(publicUrl)
  if (hostname !== 'localhost' && hostname !== '127.0.0.1') return [origin]
  const suffix = port === '' ? '' : `:${port}`
  return ['localhost', '127.0.0.1'].map((name) => `${protocol}//${name}${suffix}`)
}

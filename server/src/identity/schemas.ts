import { z } from '@hono/zod-openapi'
import { type Principal, SCOPES, SCOPES_OF_ROLE } from '../auth/principal.ts'
import type { OrganizationId } from '../lib/ids.ts'
import { personName } from './profiles.ts'
import type { Session } from './sessions.ts'

/** Where the link of the mail that confirms an address ends. */
export const CONFIRMED_PAGE = '/account/confirmed'

const email = z.email().max(320)
const password = z.string().min(8).max(128)
const rememberMe = z.boolean().default(true).meta({ description: 'false ends the session with the browser.' })
const code = z.string().min(1).max(64)

export const signUp = z.object({
  email,
  password,
  name: personName,
  remember_me: rememberMe,
  invitation_token: z.string().optional(),
})
export const signIn = z.object({ email, password: z.string().max(128), remember_me: rememberMe })
export const address = z.object({ email })
export const newPassword = z.object({ token: z.string(), password })
export const changedPassword = z.object({ current_password: z.string().max(128), new_password: password })
export const invitationToken = z.object({ token: z.string() })
export const activeOrganization = z.object({ organization_id: z.string() })
export const ownPassword = z.object({ password: z.string().max(128) })
export const secondFactor = z
  .object({ code: code.optional(), backup_code: code.optional(), trust_device: z.boolean().default(false) })
  .refine((given) => (given.code === undefined) !== (given.backup_code === undefined), {
    path: ['code'],
    message: 'either code or backup_code is expected',
  })

export const success = z.object({ success: z.literal(true) })
export const providers = z.object({ providers: z.array(z.string()) })
export const backupCodes = z.object({ backup_codes: z.array(z.string()) })
export const authenticator = backupCodes.extend({
  totp_uri: z.string().meta({ description: 'For the authenticator app, as a QR code.' }),
})

const scopes = z.array(z.enum(SCOPES))

export const caller = z
  .object({
    kind: z.enum(['user', 'operator', 'api_key', 'host_token', 'customer_token']),
    user: z
      .object({
        id: z.string(),
        name: z.string(),
        email: z.string(),
        email_verified: z.boolean(),
        two_factor_enabled: z.boolean(),
      })
      .nullable(),
    is_operator: z.boolean(),
    organization_id: z.string().nullable().meta({ description: 'The organization in which this call acts.' }),
    scopes,
    organizations: z.array(z.object({ organization_id: z.string(), role: z.enum(['owner', 'admin', 'member']) })),
    session_expires_at: z.iso.datetime().nullable(),
  })
  .openapi('Caller')

export const signedUp = z.object({
  access_token: z.string().nullable().meta({ description: 'For Authorization: Bearer; the same as the cookie.' }),
  confirmation_required: z.boolean().meta({ description: 'Whether the address has to be confirmed before signing in.' }),
  caller: caller.nullable(),
})
export const signedIn = z.object({
  two_factor_required: z.boolean(),
  access_token: z.string().nullable(),
  caller: caller.nullable(),
})

type Shown = z.infer<typeof caller>

export function showPerson(session: Session, organizationId: OrganizationId | null): Shown {
  const role = session.memberships.find((membership) => membership.organizationId === organizationId)?.role
  return {
    kind: session.isOperator ? 'operator' : 'user',
    user: {
      id: session.userId,
      name: session.name,
      email: session.email,
      email_verified: session.emailVerified,
      two_factor_enabled: session.twoFactorEnabled,
    },
    is_operator: session.isOperator,
    organization_id: organizationId,
    scopes:
      session.isOperator || (role !== undefined && role !== 'member') ? [...SCOPES_OF_ROLE.admin] : [...SCOPES_OF_ROLE.member],
    organizations: session.memberships.map((membership) => ({
      organization_id: membership.organizationId,
      role: membership.role,
    })),
    session_expires_at: session.expiresAt.toISOString(),
  }
}

export function showKey(principal: Principal): Shown {
  const isOperator = principal.kind === 'operator'
  return {
    kind: principal.kind,
    user: null,
    is_operator: isOperator,
    organization_id: principal.kind === 'operator' ? (principal.actingIn ?? null) : principal.organizationId,
    scopes: principal.kind === 'operator' ? [...SCOPES] : [...principal.scopes],
    organizations: [],
    session_expires_at: null,
  }
}

import { createRoute } from '@hono/zod-openapi'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import { AUTH_PATH } from './better-auth.ts'
import { bodyOf, forward, passCookies } from './forward-calls.ts'
import * as schemas from './schemas.ts'
import { accessTokenOf, callerOf, requireSession, sessionOf, type IdentityContext } from './session-calls.ts'
import type { Session } from './sessions.ts'

const tags = ['Identity']

const enableRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/two-factor`,
  summary: 'Set up a second factor',
  description:
    'For who has confirmed their address. It is asked for from the first code on that /auth/two-factor/verify accepts. The backup codes are shown here alone.',
  request: { body: body(schemas.ownPassword) },
  responses: { 200: json('For the authenticator app.', schemas.authenticator) },
})

const verifyRoute = createRoute({
  tags,
  security: [],
  method: 'post',
  path: `${AUTH_PATH}/two-factor/verify`,
  summary: 'Give a code of the second factor',
  description: 'Ends a sign-in that asked for it, or the set-up. Each backup code is good for once.',
  request: { body: body(schemas.secondFactor) },
  responses: { 200: json('Signed in.', schemas.signedIn) },
})

const removeRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/two-factor/remove`,
  summary: 'Take the second factor away',
  description:
    'For who is signed in, with their password. From then on the password alone signs in, and the backup codes are worth nothing.',
  request: { body: body(schemas.ownPassword) },
  responses: { 200: json('The password alone is asked for.', schemas.success) },
})

const backupCodesRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/two-factor/backup-codes`,
  summary: 'Make new backup codes',
  description: 'The ones before are worth nothing any more.',
  request: { body: body(schemas.ownPassword) },
  responses: { 200: json('The codes, shown here alone.', schemas.backupCodes) },
})

export function registerSecondFactorRoutes(app: App, context: IdentityContext): void {
  // better-auth's own route for it, to which it is forwarded as it came.
  app.use(`${AUTH_PATH}/two-factor/enable`, async (c, next) => {
    requireConfirmed(await sessionOf(context, c))
    await next()
  })

  app.openapi(enableRoute, async (c) => {
    requireConfirmed(await requireSession(context, c))
    const { password } = c.req.valid('json')
    const answer = await forward(context, c, { method: 'POST', path: '/two-factor/enable', body: { password } })
    const { totpURI, backupCodes } = await bodyOf<{ totpURI: string; backupCodes: string[] }>(answer)
    return c.json({ totp_uri: totpURI, backup_codes: backupCodes }, 200)
  })

  app.openapi(verifyRoute, async (c) => {
    const { code, backup_code: backupCode, trust_device: trustDevice } = c.req.valid('json')
    const path = code === undefined ? '/two-factor/verify-backup-code' : '/two-factor/verify-totp'
    const answer = await forward(context, c, { method: 'POST', path, body: { code: code ?? backupCode, trustDevice } })
    await bodyOf(answer)
    passCookies(answer, c)
    const accessToken = accessTokenOf(answer)
    const caller = accessToken === null ? null : await callerOf(context, accessToken)
    return c.json({ two_factor_required: false, access_token: accessToken, caller }, 200)
  })

  app.openapi(removeRoute, async (c) => {
    await requireSession(context, c)
    const { password } = c.req.valid('json')
    const answer = await forward(context, c, { method: 'POST', path: '/two-factor/disable', body: { password } })
    await bodyOf(answer)
    passCookies(answer, c)
    return c.json({ success: true }, 200)
  })

  app.openapi(backupCodesRoute, async (c) => {
    await requireSession(context, c)
    const { password } = c.req.valid('json')
    const answer = await forward(context, c, { method: 'POST', path: '/two-factor/generate-backup-codes', body: { password } })
    const { backupCodes } = await bodyOf<{ backupCodes: string[] }>(answer)
    return c.json({ backup_codes: backupCodes }, 200)
  })
}

/**
 * Whoever signed up with an address may not be who reads its mail. Who does gets in by a new password, and must not be asked for a
 * factor that the other one has.
 * @throws DomainError `email_not_verified`
 */
function requireConfirmed(session: Session | null): void {
  // Nobody signed in is refused by the route.
  if (session === null || session.emailVerified) return
  throw new DomainError('email_not_verified', 'Confirm the address first: a second factor is of who reads its mail.')
}

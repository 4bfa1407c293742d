import { createRoute } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { requireCaller } from '../auth/principal.ts'
import { setActiveOrganization } from '../auth/session-store.ts'
import { asSystem } from '../db/scope.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import type { OrganizationId, UserId } from '../lib/ids.ts'
import { acceptInvitation, readInvitation } from '../organizations/invitations.ts'
import { ORGANIZATION_HEADER } from './authenticate.ts'
import { AUTH_PATH } from './better-auth.ts'
import { ask, bodyOf, forward, forwardAsIs, passCookies } from './forward-calls.ts'
import * as schemas from './schemas.ts'
import { registerSecondFactorRoutes } from './second-factor-routes.ts'
import { accessTokenOf, callerOf, requireSession, sessionOf, type IdentityContext } from './session-calls.ts'
import { membershipOf, type Session } from './sessions.ts'
import { deleteUnlessMember, findUser } from './users-store.ts'

const tags = ['Identity']
/** Routes that whoever has no session may call. */
const open = { tags, security: [] }

const signUpRoute = createRoute({
  ...open,
  method: 'post',
  path: `${AUTH_PATH}/sign-up`,
  summary: 'Sign up with an address and a password',
  description:
    'Signs in as well, unless the address has to be confirmed first; the mail of an invitation has confirmed it. Who signs up alone gets an organization of their own on the default plan; with the token of an invitation they join that organization instead.',
  request: { body: body(schemas.signUp) },
  responses: { 201: json('Signed up.', schemas.signedUp) },
})

const signInRoute = createRoute({
  ...open,
  method: 'post',
  path: `${AUTH_PATH}/sign-in`,
  summary: 'Sign in with an address and a password',
  description: 'Sets the cookie session_token. With a second factor it is set by /auth/two-factor/verify.',
  request: { body: body(schemas.signIn) },
  responses: { 200: json('Signed in, or the second factor is due.', schemas.signedIn) },
})

const signOutRoute = createRoute({
  ...open,
  method: 'post',
  path: `${AUTH_PATH}/sign-out`,
  summary: 'Sign out',
  description:
    'Ends the session that the cookie or the access token stands for, and takes the cookies back. Other sessions of the person go on.',
  responses: { 200: json('Nobody is signed in any more.', schemas.success) },
})

const meRoute = createRoute({
  tags,
  method: 'get',
  path: `${AUTH_PATH}/me`,
  summary: 'Who is calling',
  description: 'The signed-in person with their organizations, or what the key or token stands for. Keeps the session alive.',
  responses: { 200: json('The caller.', schemas.caller) },
})

const activeRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/active-organization`,
  summary: 'Choose the organization in which the session acts',
  description: `A request may name another one by X-Organization-Id or organization_id.`,
  request: { body: body(schemas.activeOrganization) },
  responses: { 200: json('The caller.', schemas.caller) },
})

const acceptRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/invitations/accept`,
  summary: 'Accept an invitation',
  description: 'As the token came by mail, the address counts as confirmed.',
  request: { body: body(schemas.invitationToken) },
  responses: { 200: json('The caller.', schemas.caller) },
})

const requestResetRoute = createRoute({
  ...open,
  method: 'post',
  path: `${AUTH_PATH}/password-reset`,
  summary: 'Ask for a new password by mail',
  description: 'The answer is the same whether there is such a user or not.',
  request: { body: body(schemas.address) },
  responses: { 202: json('A mail goes out if there is such a user.', schemas.success) },
})

const resetRoute = createRoute({
  ...open,
  method: 'post',
  path: `${AUTH_PATH}/password-reset/confirm`,
  summary: 'Set a new password with the token of the mail',
  description: 'Every session of the user ends.',
  request: { body: body(schemas.newPassword) },
  responses: { 200: json('The password is set.', schemas.success) },
})

const changePasswordRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/password`,
  summary: 'Change the password',
  description: 'Every other session of the user ends.',
  request: { body: body(schemas.changedPassword) },
  responses: { 200: json('The password is changed.', schemas.success) },
})

const confirmationRoute = createRoute({
  tags,
  method: 'post',
  path: `${AUTH_PATH}/email-verification`,
  summary: 'Send the mail that confirms the address again',
  description: 'For who is signed in. The mail goes to the address of the account; the answer does not wait for it.',
  responses: { 202: json('A mail goes out.', schemas.success) },
})

const providersRoute = createRoute({
  ...open,
  method: 'get',
  path: `${AUTH_PATH}/providers`,
  summary: 'Where else one may sign in',
  description: 'Begin with POST /api/v1/auth/sign-in/social {"provider": "…", "callbackURL": "…"}.',
  responses: { 200: json('Their ids.', schemas.providers) },
})

/** Routes of CB-10. What they do not serve under /api/v1/auth is better-auth's own. */
export function registerIdentityRoutes(app: App, context: IdentityContext): void {
  // People and their sessions are of no organization, and who signs in belongs to none yet.
  app.use(`${AUTH_PATH}/*`, (_c, next) => asSystem(next))
  registerSigningRoutes(app, context)
  registerPasswordRoutes(app, context)
  registerSecondFactorRoutes(app, context)
  app.openapi(meRoute, async (c) => {
    const principal = requireCaller(c.get('principal'))
    const session = await sessionOf(context, c)
    if (session === null) return c.json(schemas.showKey(principal), 200)
    // better-auth moves the session's end on, and tells the browser.
    passCookies(await forward(context, c, { method: 'GET', path: '/get-session' }), c)
    return c.json(showSession(session, c), 200)
  })

  app.openapi(activeRoute, async (c) => {
    const session = await requireSession(context, c)
    const organizationId = c.req.valid('json').organization_id as OrganizationId
    if (!session.memberships.some((membership) => membership.organizationId === organizationId)) {
      throw new DomainError('not_found', 'There is no such organization.')
    }
    await setActiveOrganization(context.sessions.db, { sessionId: session.sessionId, organizationId })
    return c.json(schemas.showPerson({ ...session, activeOrganizationId: organizationId }, organizationId), 200)
  })

  app.openapi(acceptRoute, async (c) => {
    const session = await requireSession(context, c)
    const { token } = c.req.valid('json')
    const asker = { actor: `user:${session.userId}`, requestId: c.get('requestId') }
    const { organizationId } = await acceptInvitation(context.sessions.organizations, { token, user: session }, asker)
    await setActiveOrganization(context.sessions.db, { sessionId: session.sessionId, organizationId })
    return c.json(schemas.showPerson((await sessionOf(context, c))!, organizationId), 200)
  })

  app.openapi(providersRoute, (c) => c.json({ providers: context.providers.map(({ id }) => id) }, 200))

  app.all(`${AUTH_PATH}/*`, async (c) => {
    const answer = await forwardAsIs(context, c)
    // What better-auth has no route for, it answers without a word.
    if (answer.status === 404 && answer.body === null) return c.notFound()
    const headers = new Headers(answer.headers)
    headers.set('X-Request-Id', c.get('requestId'))
    return new Response(answer.body, { status: answer.status, headers })
  })
}

function registerSigningRoutes(app: App, context: IdentityContext): void {
  const { organizations } = context.sessions
  app.openapi(signUpRoute, async (c) => {
    const { invitation_token: token, remember_me: rememberMe, ...person } = c.req.valid('json')
    if (token !== undefined) {
      const { email } = await readInvitation(organizations, token)
      if (email !== person.email.toLowerCase()) throw new DomainError('forbidden', 'This invitation is for another address.')
    }
    const { answer, failure } = await ask(context, c, {
      method: 'POST',
      path: '/sign-up/email',
      body: { ...person, rememberMe, callbackURL: schemas.CONFIRMED_PAGE },
    })
    if (failure !== null && !answer.ok) throw failure
    const { user } = await bodyOf<{ user: { id: string } }>(answer)
    const userId = user.id as UserId
    try {
      // Whom no mail tells how to confirm the address is not made either.
      if (failure !== null) throw failure
      const joined = token !== undefined && (await acceptAs(context, { c, userId, token }))
      // Where addresses have to be confirmed, sign-up signs nobody in; the mail of the invitation has confirmed this one.
      const signedIn = joined && accessTokenOf(answer) === null ? await signIn(context, c, { ...person, rememberMe }) : answer
      const accessToken = accessTokenOf(signedIn)
      const caller = accessToken === null ? null : await callerOf(context, accessToken)
      passCookies(answer, c)
      return c.json({ access_token: accessToken, confirmation_required: accessToken === null, caller }, 201)
    } catch (error) {
      // The address would be taken when they try again.
      await deleteUnlessMember(organizations.db, userId)
      throw error
    }
  })

  app.openapi(signInRoute, async (c) => {
    const { email, password, remember_me: rememberMe } = c.req.valid('json')
    const answer = await signIn(context, c, { email, password, rememberMe })
    const { twoFactorRedirect = false } = await bodyOf<{ twoFactorRedirect?: boolean }>(answer)
    const accessToken = twoFactorRedirect ? null : accessTokenOf(answer)
    const caller = accessToken === null ? null : await callerOf(context, accessToken)
    return c.json({ two_factor_required: twoFactorRedirect, access_token: accessToken, caller }, 200)
  })

  app.openapi(signOutRoute, async (c) => {
    const answer = await forward(context, c, { method: 'POST', path: '/sign-out', body: {} })
    await bodyOf(answer)
    passCookies(answer, c)
    return c.json({ success: true }, 200)
  })
}

function registerPasswordRoutes(app: App, context: IdentityContext): void {
  app.openapi(requestResetRoute, async (c) => {
    const { email } = c.req.valid('json')
    await bodyOf(await forward(context, c, { method: 'POST', path: '/request-password-reset', body: { email } }))
    return c.json({ success: true }, 202)
  })

  app.openapi(resetRoute, async (c) => {
    const { token, password } = c.req.valid('json')
    const call = { method: 'POST', path: '/reset-password', body: { token, newPassword: password } } as const
    await bodyOf(await forward(context, c, call))
    return c.json({ success: true }, 200)
  })

  app.openapi(changePasswordRoute, async (c) => {
    await requireSession(context, c)
    const { current_password: currentPassword, new_password: newPassword } = c.req.valid('json')
    const change = { currentPassword, newPassword, revokeOtherSessions: true }
    const answer = await forward(context, c, { method: 'POST', path: '/change-password', body: change })
    await bodyOf(answer)
    passCookies(answer, c)
    return c.json({ success: true }, 200)
  })

  app.openapi(confirmationRoute, async (c) => {
    const { email } = await requireSession(context, c)
    const call = { email, callbackURL: schemas.CONFIRMED_PAGE }
    await bodyOf(await forward(context, c, { method: 'POST', path: '/send-verification-email', body: call }))
    return c.json({ success: true }, 202)
  })
}

/** @throws DomainError `wrong_credentials`, `email_not_verified`, `too_many_attempts` */
async function signIn(
  context: IdentityContext,
  c: Context<AppEnv>,
  { email, password, rememberMe }: { readonly email: string; readonly password: string; readonly rememberMe: boolean },
): Promise<Response> {
  const answer = await forward(context, c, { method: 'POST', path: '/sign-in/email', body: { email, password, rememberMe } })
  if (!answer.ok) await bodyOf(answer)
  passCookies(answer, c)
  return answer
}

/**
 * Makes who signed up a member. Answers false where nobody did: to an address that is taken better-auth answers with a user
 * whom there is not, so as not to tell, and who took it may be somebody else.
 */
async function acceptAs(
  context: IdentityContext,
  { c, userId, token }: { c: Context<AppEnv>; userId: UserId; token: string },
): Promise<boolean> {
  const user = await findUser(context.sessions.db, userId)
  if (user === null) return false
  const asker = { actor: `user:${userId}`, requestId: c.get('requestId') }
  await acceptInvitation(context.sessions.organizations, { token, user: { userId, email: user.email } }, asker)
  return true
}

function showSession(session: Session, c: Context<AppEnv>) {
  const named = c.req.header(ORGANIZATION_HEADER) ?? c.req.query('organization_id') ?? null
  return schemas.showPerson(session, membershipOf(session, named)?.organizationId ?? null)
}

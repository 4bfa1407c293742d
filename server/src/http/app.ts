import { OpenAPIHono, type z } from '@hono/zod-openapi'
import { cors } from 'hono/cors'
import { routePath } from 'hono/route'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { Logger } from 'pino'
import { dataScopeOf, nobody, type Principal } from '../auth/principal.ts'
import { databaseUnavailable, isCollision, isConnectionError, tookTooMuch } from '../db/database.ts'
import { runInScope } from '../db/scope.ts'
import { maskCardNumbers } from '../lib/card-data.ts'
import { DomainError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import type { AppEnv } from './app-env.ts'
import { limitBody } from './body-limit.ts'
import { refuseCards } from './card-data.ts'
import { keepToDeclared, readDeclared, type DeclaredRoutes } from './declared.ts'
import { inflateBody } from './inflate.ts'
import { describeIssues } from './issues.ts'
import { askedPathOf, routedPath } from './legacy-path.ts'
import { internalProblem, problemOf } from './problems.ts'

export type App = OpenAPIHono<AppEnv>

export type AppOptions = {
  /** Who is calling; null when nobody is authenticated. Throws DomainError only when it cannot be found out. */
  readonly authenticate: (request: Request) => Promise<Principal | null>
  readonly log: Logger
  /** Told of every answered request. */
  readonly onAnswered?: (answered: { method: string; route: string; status: number; seconds: number }) => void
  /** The domains' routes, in order. */
  readonly register: readonly ((app: App) => void)[]
  /** Under it, what is no route of ours is answered by somebody who finds out who calls (better-auth). */
  readonly openPrefix?: string
  /** Origins whose pages may call from a browser, beside the server's own. */
  readonly origins?: readonly string[]
}

/** The largest body of a request, in bytes: a batch of 1,000 items with properties fits well. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024

const REQUEST_ID = /^[\w.-]{1,64}$/

/** Puts the app together. Routes validate with zod; what they throw becomes a problem document. */
export function createApp(options: AppOptions): App {
  const app: App = new OpenAPIHono<AppEnv>({
    getPath: routedPath,
    defaultHook: (result) => {
      if (!result.success) throw invalidRequest(result.error.issues)
    },
  })
  const { onAnswered } = options
  const openPaths = new Set<string>()
  const closedPaths = new Set<string>()
  const declared: DeclaredRoutes = new Map()
  /** Who is calling. Under /api that has to be somebody, before anything is said about the request itself. */
  async function admit(request: Request, path: string): Promise<Principal | null> {
    // Health, metrics and pages answer whoever asks, also while keys cannot be looked up.
    if (!path.startsWith('/api/') || openPaths.has(path)) return null
    const { openPrefix } = options
    if (openPrefix !== undefined && path.startsWith(openPrefix) && !closedPaths.has(path)) return null
    const principal = await options.authenticate(request)
    if (principal === null) throw nobody(request.headers)
    return principal
  }
  if (options.origins !== undefined && options.origins.length > 0) app.use('/api/*', letCall(options.origins))
  if (onAnswered) {
    app.use(async (context, next) => {
      const began = performance.now()
      await next()
      const seconds = (performance.now() - began) / 1_000
      onAnswered({ method: context.req.method, route: routePath(context, -1), status: context.res.status, seconds })
    })
  }
  app.use(async (context, next) => {
    const requestId = requestIdOf(context.req.header('x-request-id'))
    context.set('requestId', requestId)
    context.header('X-Request-Id', requestId)
    const principal = await admit(context.req.raw, context.req.path)
    context.set('principal', principal)
    // From here on the request sees what its caller may see. A route that asks nobody who they are names its scope itself.
    await runInScope(dataScopeOf(principal), next)
  })
  app.use(limitBody(MAX_BODY_BYTES))
  app.use('/api/*', inflateBody(MAX_BODY_BYTES), refuseCards())
  app.use(keepToDeclared(declared))
  app.onError((error, context) => {
    const requestId = context.get('requestId')
    const known = asDomainError(error)
    if (known) {
      const problem = problemOf(known, requestId)
      if (problem.status >= 500) options.log.warn({ err: error, requestId, path: context.req.path }, 'request refused')
      return context.json(problem.body, problem.status as ContentfulStatusCode, problem.headers)
    }
    options.log.error({ err: error, requestId, path: context.req.path }, 'request failed')
    return context.json(internalProblem(requestId), 500, { 'content-type': 'application/problem+json' })
  })
  app.notFound((context) => {
    const { method, path } = context.req
    const asked = askedPathOf(context.req.url)
    const methods = methodsOf(app, path)
    // A route of this method may itself have found nothing.
    const allow = methods.includes(method) ? '' : methods.join(', ')
    const error =
      allow === ''
        ? new DomainError('not_found', `There is nothing at ${asked}.`)
        : new DomainError('method_not_allowed', `${asked} does not take ${method}, but ${allow}.`)
    const { status, body, headers } = problemOf(error, context.get('requestId'))
    return context.json(body, status as ContentfulStatusCode, { ...headers, ...(allow === '' ? {} : { allow }) })
  })
  for (const register of options.register) register(app)
  readDeclared(app, declared)
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== 'route') continue
    // Routes that say that they need nobody: webhooks, which are signed, and signing in.
    const paths = definition.route.security?.length === 0 ? openPaths : closedPaths
    paths.add(definition.route.path)
  }
  return app
}

/** Lets pages of these origins call: a browser asks for that before it sends JSON or a key, and shows them no other headers. */
function letCall(origins: readonly string[]) {
  return cors({
    origin: [...origins],
    credentials: true,
    allowMethods: METHODS,
    allowHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'X-API-Key', 'X-Organization-Id', 'X-Request-Id'],
    exposeHeaders: [
      'Idempotent-Replayed',
      'Retry-After',
      'X-Credits-Remaining',
      'X-Credits-Total',
      'X-Credits-Used',
      'X-Quota-Warning',
      'X-Request-Id',
    ],
    maxAge: 600,
  })
}

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']

/** The methods that a path takes; none for a path that nothing is at. */
function methodsOf(app: App, path: string): readonly string[] {
  const taken = METHODS.filter((method) => app.router.match(method, path)[0].some(([[, route]]) => route.method === method))
  return taken.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
}

/** The caller's request id where it is one, else a new one. */
export function requestIdOf(given: string | readonly string[] | null | undefined): string {
  const isOne = typeof given === 'string' && REQUEST_ID.test(given) && maskCardNumbers(given) === given
  return isOne ? given : newId('req')
}

/** What the caller can act on; Hono's own complaint about a body that is not JSON is the caller's mistake too. */
export function asDomainError(error: unknown): DomainError | null {
  if (error instanceof DomainError) return error
  if (isConnectionError(error)) return databaseUnavailable(error)
  if (isCollision(error)) {
    return new DomainError('overloaded', 'Others change the same at this moment; try again shortly.', {}, { cause: error })
  }
  if (tookTooMuch(error)) {
    return new DomainError(
      'overloaded',
      'This took too long or too much; ask for less, or try again shortly.',
      {},
      { cause: error },
    )
  }
  const status = error !== null && typeof error === 'object' && 'status' in error ? error.status : undefined
  if (status === 415)
    return new DomainError('unsupported_media_type', 'Send the body as application/json, with that content-type.')
  return status === 400 && error instanceof Error ? new DomainError('invalid_request', error.message) : null
}

/** One problem document for everything that a schema found, each with its field. */
export function invalidRequest(issues: readonly z.core.$ZodIssue[]): DomainError {
  const errors = describeIssues(issues)
  const [first] = errors
  const detail =
    first === undefined ? 'The request is not valid.' : `${first.field === '' ? 'The body' : first.field}: ${first.message}`
  return new DomainError('invalid_request', detail, { errors })
}

import { z, type OpenAPIHono } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { matchedRoutes } from 'hono/route'
import { organizationFor } from '../auth/principal.ts'
import { DomainError } from '../lib/errors.ts'
import type { AppEnv } from './app-env.ts'
import { isJson, readText } from './body-text.ts'

/** What a route says about its requests. */
type Declared = {
  /** The names of its query parameters, as they are declared. */
  readonly parameters: readonly string[]
  readonly takesOrganization: boolean
  readonly takesJson: boolean
  /** The fields of its JSON body, where its schema would pass over others; null where the schema itself says what is none. */
  readonly fields: readonly string[] | null
}

/** By `METHOD /path`, the path as the router has it. */
export type DeclaredRoutes = Map<string, Declared>

/**
 * A route may be told by it in which organization the caller acts (`identity/authenticate.ts`). Those of operators are of all
 * organizations, and take it where they declare it in query or body: figures of all would else pass for one's.
 */
const ORGANIZATION = 'organization_id'
const FOR_OPERATORS = /\/admin\//

/** What clients name as the type of no body at all: curl -d '', fetch with '', and those that always name JSON. */
const NOTHING_SAID = /^$|^(application\/(json|x-www-form-urlencoded)|text\/plain)\b/i

/**
 * Notes what the routes for callers declare. Left out are those that need nobody: signed webhooks and links in mails, whose
 * addresses others write, and signing in, which better-auth reads itself.
 */
export function readDeclared(app: OpenAPIHono<AppEnv>, declared: DeclaredRoutes): void {
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== 'route' || definition.route.security?.length === 0) continue
    const { method, path, request } = definition.route
    const json = request?.body?.content?.['application/json']
    const body = json !== undefined && 'schema' in json && json.schema instanceof z.ZodObject ? json.schema : null
    const parameters = request?.query instanceof z.ZodObject ? Object.keys(request.query.shape) : []
    const isOfOne = parameters.includes(ORGANIZATION) || (body !== null && ORGANIZATION in body.shape)
    declared.set(`${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`, {
      parameters,
      takesOrganization: !FOR_OPERATORS.test(path) || isOfOne,
      takesJson: json !== undefined,
      fields: body !== null && body.def.catchall === undefined ? Object.keys(body.shape) : null,
    })
  }
}

/**
 * Holds requests to what their route declares. A query parameter that it does not know is refused, since a filter that is
 * mistyped would otherwise answer everything; so is a field of the body, where one that is mistyped would buy something else.
 * An empty body is an empty object, whatever type it is said to have, so that its schema says what is missing and fills in
 * what has a default.
 */
export function keepToDeclared(declared: DeclaredRoutes): MiddlewareHandler<AppEnv> {
  const routeOf = (c: Context<AppEnv>): Declared | undefined => {
    const route = matchedRoutes(c).find(({ method }) => method !== 'ALL')
    return route && declared.get(`${route.method} ${route.path}`)
  }
  return async (c, next) => {
    if (c.req.url.includes('?')) refuseUnknownParameters(c, routeOf(c))
    if (c.req.method !== 'GET' && (await isEmpty(c)) && routeOf(c)?.takesJson === true) {
      const { url, method, headers: given, signal } = c.req.raw
      const headers = new Headers(given)
      headers.set('content-type', 'application/json')
      headers.delete('content-length')
      c.req.bodyCache = {}
      c.req.raw = new Request(url, { method, headers, signal, body: '{}' })
    } else if (c.req.method !== 'GET') {
      await refuseUnknownFields(c, routeOf(c)?.fields ?? null)
    }
    await next()
  }
}

function refuseUnknownParameters(c: Context<AppEnv>, route: Declared | undefined): void {
  if (route === undefined) return
  const { parameters, takesOrganization } = route
  const given = c.req.query()
  const known = [...new Set([...parameters, ...(takesOrganization ? [ORGANIZATION] : [])])]
  const unknown = Object.keys(given).filter((name) => !known.includes(name))
  const [first] = unknown
  if (first !== undefined) {
    const detail = `"${first}" is no parameter of this path: it takes ${listed(known)}.`
    const errors = unknown.map((field) => ({ field, message: 'there is no such parameter' }))
    throw new DomainError('invalid_request', detail, { errors, known_parameters: known })
  }
  const named = given[ORGANIZATION]
  const principal = c.get('principal')
  // A route that declares it looks at it itself; where none does, another's is as unknown as ever.
  if (named !== undefined && named !== '' && principal !== null && !parameters.includes(ORGANIZATION)) {
    organizationFor(principal, named)
  }
}

/** Of bodies that are read as JSON; what is no JSON is refused by its schema. */
async function refuseUnknownFields(c: Context<AppEnv>, fields: readonly string[] | null): Promise<void> {
  if (fields === null || !isJson(c.req.header('content-type') ?? '')) return
  const body: unknown = await c.req.json().catch(() => null)
  if (body === null || typeof body !== 'object' || Array.isArray(body)) return
  const unknown = Object.keys(body).filter((name) => !fields.includes(name))
  const [first] = unknown
  if (first === undefined) return
  const errors = unknown.map((field) => ({ field, message: 'there is no such field' }))
  throw new DomainError('invalid_request', `"${first}" is no field of this body: it takes ${listed(fields)}.`, {
    errors,
    known_fields: fields,
  })
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ')
}

async function isEmpty(c: Context<AppEnv>): Promise<boolean> {
  const { raw } = c.req
  const type = raw.headers.get('content-type') ?? ''
  if (!NOTHING_SAID.test(type)) return false
  const length = raw.headers.get('content-length')
  // Looked at only where no length is said: asking a request for its body makes a stream of it.
  if (length === '0' || (length === null && raw.body === null)) return true
  // A JSON body has been read by now (card-data.ts).
  return isJson(type) && (await readText(c)).trim() === ''
}

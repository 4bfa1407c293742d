import type { Context } from 'hono'
import type { AppEnv } from '../http/app-env.ts'
import { DomainError } from '../lib/errors.ts'
import { AUTH_PATH, CLIENT_ADDRESS_HEADER, type BetterAuth } from './better-auth.ts'
import { hearFailures, type Asked } from './failures.ts'

export type ForwardContext = {
  readonly betterAuth: BetterAuth
  readonly publicUrl: string
  /** Origins to which a browser may be sent back, the server's own among them. */
  readonly trustedOrigins: readonly string[]
  /** The address of who calls; null when it cannot be known. */
  readonly clientAddressOf: (c: Context<AppEnv>) => string | null
}

/** Of what arrives, these are about its own body and connection. */
const NOT_FORWARDED = ['content-length', 'transfer-encoding', 'connection', 'host', CLIENT_ADDRESS_HEADER]

export type ForwardedCall = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body?: Record<string, unknown>
}

/**
 * Asks better-auth as the caller would, by a request: so its limits of attempts, its checks of origins and its cookies apply
 * to our routes as to its own. A call of its API in the process would leave them out.
 * @throws what failed beneath it, `database_unavailable` for one
 */
export async function forward(context: ForwardContext, c: Context<AppEnv>, call: ForwardedCall): Promise<Response> {
  return unlessFailed(await ask(context, c, call))
}

/** The same with what failed beneath it, for a caller who has something to undo then. */
export function ask(context: ForwardContext, c: Context<AppEnv>, call: ForwardedCall): Promise<Asked<Response>> {
  const headers = forwardedHeaders(context, c)
  if (call.body !== undefined) headers.set('content-type', 'application/json')
  const init = { method: call.method, headers, body: call.body === undefined ? null : JSON.stringify(call.body) }
  const request = new Request(`${context.publicUrl}${AUTH_PATH}${call.path}`, init)
  return hearFailures(() => context.betterAuth.handler(request))
}

function unlessFailed({ answer, failure }: Asked<Response>): Response {
  if (failure !== null) throw failure
  return answer
}

/** A request to one of better-auth's own routes, as it came. @throws as `forward`; `forbidden` */
export async function forwardAsIs(context: ForwardContext, c: Context<AppEnv>): Promise<Response> {
  const { raw } = c.req
  const query = raw.url.indexOf('?')
  const body = raw.method === 'GET' || raw.method === 'HEAD' ? null : await raw.arrayBuffer()
  const url = `${context.publicUrl}${c.req.path}${query === -1 ? '' : raw.url.slice(query)}`
  const request = new Request(url, { method: raw.method, headers: forwardedHeaders(context, c), body })
  const answer = unlessFailed(await hearFailures(() => context.betterAuth.handler(request)))
  refuseForeignWay(context, answer)
  return answer
}

/**
 * better-auth looks at `callbackURL` as it was written, and writes it anew where it adds an error: `/..//evil.example` becomes
 * `//evil.example`, which is another site. So it is where the browser is sent that counts.
 */
function refuseForeignWay({ publicUrl, trustedOrigins }: ForwardContext, { status, headers }: Response): void {
  const way = headers.get('location')
  if (status < 300 || status >= 400 || way === null) return
  if (URL.canParse(way, publicUrl) && trustedOrigins.includes(new URL(way, publicUrl).origin)) return
  throw new DomainError('forbidden', 'callbackURL leads to a place to which this server sends nobody.', { field: 'callbackURL' })
}

function forwardedHeaders({ clientAddressOf }: ForwardContext, c: Context<AppEnv>): Headers {
  const headers = new Headers(c.req.raw.headers)
  for (const name of NOT_FORWARDED) headers.delete(name)
  // fetch of Node sends Sec-Fetch-Mode alone; a browser never does so without the site. Left in, better-auth takes the caller
  // for a browser that hides its origin. With a cookie it asks for an origin all the same.
  if (!headers.has('origin') && !headers.has('sec-fetch-site')) headers.delete('sec-fetch-mode')
  const address = clientAddressOf(c)
  if (address !== null) headers.set(CLIENT_ADDRESS_HEADER, address)
  return headers
}

/** Hands on the cookies that better-auth sets. */
export function passCookies(from: Response, c: Context<AppEnv>): void {
  for (const cookie of from.headers.getSetCookie()) c.header('set-cookie', cookie, { append: true })
}

/** The body of a good answer. @throws DomainError for any other */
export async function bodyOf<Body>(response: Response): Promise<Body> {
  const body: unknown = await response.json().catch(() => null)
  if (response.ok) return body as Body
  throw errorOf(response, body ?? {})
}

function errorOf(
  response: Response,
  { code = '', message = 'The request was refused.' }: { code?: string; message?: string },
): Error {
  const sentence = /[.!?]$/.test(message) ? message : `${message}.`
  switch (response.status) {
    case 429: {
      const seconds = Number(response.headers.get('x-retry-after') ?? 10)
      return new DomainError('too_many_attempts', `Too many attempts. Try again in ${seconds} s.`, {
        retry_after_seconds: seconds,
      })
    }
    case 401:
      return new DomainError('wrong_credentials', sentence)
    case 403:
      return new DomainError(code === 'EMAIL_NOT_VERIFIED' ? 'email_not_verified' : 'forbidden', sentence)
    case 404:
      return new DomainError('not_found', sentence)
    case 422:
      // Two signed up with one address at once: the later one finds it free, and its row is refused.
      if (code === 'FAILED_TO_CREATE_USER') {
        return new DomainError('conflict', 'This address was taken in this very moment; sign in, or try again.', {
          field: 'email',
        })
      }
      return code.startsWith('USER_ALREADY_EXISTS')
        ? new DomainError('conflict', 'There is a user with this address already.', { field: 'email' })
        : new DomainError('invalid_request', sentence)
    default:
      return response.status < 500
        ? new DomainError('invalid_request', sentence)
        : new Error(`better-auth answered ${response.status}`)
  }
}

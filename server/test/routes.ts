import { pino } from 'pino'
import { beforeAll } from 'vitest'
import type { Principal } from '../src/auth/principal.ts'
import { createApp, type App } from '../src/http/app.ts'
import type { ApiKeyId, OrganizationId } from '../src/lib/ids.ts'

type Call = [method: string, path: string, body?: unknown, as?: string, headers?: Record<string, string>]

export type Answered = { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> }

/**
 * Calls routes without a server around them: as the operator, or as an organization whose key may do everything.
 * @param register called before the tests of the file, when its database is there
 */
export function testRoutes(register: (app: App) => void) {
  let app: App
  beforeAll(() => {
    app = createApp({
      log: pino({ level: 'silent' }),
      authenticate: async (request): Promise<Principal | null> => {
        const name = request.headers.get('x-api-key')
        if (name === null) return null
        if (name === 'operator') return { kind: 'operator', name: 'test' }
        return { kind: 'api_key', keyId: 'key' as ApiKeyId, organizationId: name as OrganizationId, scopes: ['admin'] }
      },
      register: [register],
    })
  })
  type Sent = { readonly body?: unknown; readonly as: string; readonly headers?: Record<string, string> }
  const request = async (method: string, path: string, { body, as, headers = {} }: Sent): Promise<Response> =>
    app.request(path, {
      method,
      headers: { 'x-api-key': as, 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  // As many as a request has parts.
  const call = async (...[method, path, body, as = 'operator', headers = {}]: Call): Promise<Answered> => {
    const response = await request(method, path, { body, as, headers })
    return { status: response.status, headers: response.headers, body: (await response.json()) as Record<string, unknown> }
  }
  /** What a file holds. */
  const text = async (method: string, path: string, as = 'operator'): Promise<string> =>
    (await request(method, path, { as })).text()
  return Object.assign(call, { text })
}

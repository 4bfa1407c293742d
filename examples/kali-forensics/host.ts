import { createCallCounter, createTollgateClient } from '@tollgate/sdk'
import { Hono } from 'hono'

/** What the host needs of Tollgate: its web-standard handler, in this process; the connection says whom the request is from. */
type Tollgate = { readonly fetch: (request: Request, connection?: unknown) => Response | Promise<Response> }

/** Where the host itself is asked, and Tollgate's routes and documents are not: only the former's calls are counted. */
const COUNTED = '/api/v1/cases'

/**
 * A forensics platform whose API calls are counted by themselves (KF-10): the tenant from the query or the header X-Tenant-ID, else the
 * caller's own; gathered by number and by time, so that no request waits for it.
 * @param operatorKey counts for any tenant; the one that the server was started with
 */
export function createHost(tollgate: Tollgate, { operatorKey }: { readonly operatorKey: string }) {
  const app = new Hono()
  const client = createTollgateClient({
    url: 'http://tollgate.internal',
    apiKey: operatorKey,
    fetch: async (request) => tollgate.fetch(request),
  })
  const counter = createCallCounter({ client })

  // Who calls has to be known, and the tenant has to be theirs, before anything is answered or counted.
  app.use(`${COUNTED}/*`, async (context, next) => {
    const headers = new Headers(context.req.raw.headers)
    const named = context.req.query('tenant_id') ?? headers.get('x-tenant-id')
    if (named !== null) headers.set('x-organization-id', named)
    const answer = await tollgate.fetch(new Request(new URL('/api/v1/auth/me', context.req.url), { headers }))
    if (!answer.ok) return answer
    const { organization_id: tenant } = (await answer.json()) as { organization_id: string | null }
    if (tenant === null || (named !== null && named !== tenant)) return context.json({ detail: 'There is no such tenant.' }, 404)
    headers.set('x-tenant-id', tenant)
    await next()
    counter.count({ url: new URL(context.req.url), headers })
    return undefined
  })
  app.get(`${COUNTED}/:id`, (context) => context.json({ id: context.req.param('id'), evidence: [] }))
  app.all('*', (context) => tollgate.fetch(context.req.raw, context.env))
  // What is left is sent before the server ends, so that none is lost.
  return { fetch: app.fetch, stop: () => counter.stop() }
}

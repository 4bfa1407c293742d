import { createCallCounter, createTollgateClient } from '@tollgate/sdk'
import { Hono } from 'hono'

/** What the host needs of Tollgate: its web-standard handler, in this process; the connection says whom the request is from. */
type Tollgate = { readonly fetch: (request: Request, connection?: unknown) => Response | Promise<Response> }

/** Where the host itself is asked, and Tollgate's routes and documents are not: only the former's calls are counted. */
const COUNTED = '/api/v1/cases'

/**
 * A forensics platform whose API calls are counted by themselves (KF-10): the tenant from the query, the header X-Tenant-ID or the
 * path; gathered by number and by time, so that no request waits for it.
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

  app.use(`${COUNTED}/*`, async (context, next) => {
    await next()
    counter.count({ url: new URL(context.req.url), headers: context.req.raw.headers })
  })
  app.get(`${COUNTED}/:id`, (context) => context.json({ id: context.req.param('id'), evidence: [] }))
  app.all('*', (context) => tollgate.fetch(context.req.raw, context.env))
  // What is left is sent before the server ends, so that none is lost.
  return { fetch: app.fetch, stop: () => counter.stop() }
}

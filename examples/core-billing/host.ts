import { createTollgateClient, type RefusalStatus, type UsageClient } from '@tollgate/sdk'
import { meterRoute } from '@tollgate/sdk/hono'
import { Hono, type Context } from 'hono'
import { HTTPException } from 'hono/http-exception'

/** What the host needs of Tollgate: its web-standard handler, in this process; the connection says whom the request is from. */
type Tollgate = { readonly fetch: (request: Request, connection?: unknown) => Response | Promise<Response> }

/** CB-5: over quota, and without a plan that includes it, the answer is 403 with the reason. */
const STATUSES: Readonly<Record<string, RefusalStatus>> = { quota_exceeded: 403 }

/** More than a chat's answer ever comes to: held before it is written, and settled at what it came to. */
const MOST_TOKENS = 2000

/**
 * A service with two metered routes (CB-5): a chat, whose tokens are known afterwards, and a scraping task. People sign up and in at
 * `/api/auth`, and manage their subscription at `/api/billing`.
 */
export function createHost(tollgate: Tollgate): Hono {
  const app = new Hono()

  /** The caller's session or key acts for the caller's organization, without leaving the process. */
  const client = (context: Context): UsageClient =>
    createTollgateClient({
      url: new URL(context.req.url).origin,
      apiKey: '',
      fetch: async (request) => tollgate.fetch(new Request(request, { headers: credentialsOf(context, request.headers) })),
    })

  const chat = meterRoute({
    client,
    meter: 'tokens',
    quantity: MOST_TOKENS,
    settleQuantity: (context) => context.res.headers.get('x-tokens') ?? MOST_TOKENS,
    statuses: STATUSES,
  })
  app.post('/api/chat', chat, async (context) => {
    const reply = `You said: ${await readText(context, 'message')}`
    const tokens = Math.min(reply.split(/\s+/).length, MOST_TOKENS)
    return context.json({ reply, tokens }, 200, { 'x-tokens': String(tokens) })
  })

  const scrape = meterRoute({ client, meter: 'scraping_tasks', statuses: STATUSES })
  app.post('/api/scrape', scrape, async (context) => context.json({ task: `fetch ${await readText(context, 'url')}` }, 202))

  app.all('*', (context) => tollgate.fetch(context.req.raw, context.env))
  return app
}

/** The headers by which a caller is known: the session's cookie, a bearer token or key, X-API-Key. */
function credentialsOf(context: Context, more: Headers): Headers {
  const headers = new Headers(more)
  headers.delete('authorization')
  for (const name of ['cookie', 'authorization', 'x-api-key']) {
    const value = context.req.header(name)
    if (value !== undefined) headers.set(name, value)
  }
  return headers
}

async function readText(context: Context, field: string): Promise<string> {
  const body: unknown = await context.req.json().catch(() => null)
  const value = body !== null && typeof body === 'object' ? Object.getOwnPropertyDescriptor(body, field)?.value : undefined
  if (typeof value === 'string' && value !== '') return value
  const error = `The body is to be JSON with the text "${field}".`
  throw new HTTPException(400, { res: Response.json({ error }, { status: 400 }) })
}

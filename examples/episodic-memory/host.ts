import { createTollgateClient, type UsageClient } from '@tollgate/sdk'
import { meterRoute } from '@tollgate/sdk/hono'
import { Hono, type Context } from 'hono'
import { HTTPException } from 'hono/http-exception'

/** What the host needs of Tollgate: its web-standard handler, in this process. */
type Tollgate = { readonly fetch: (request: Request, connection?: unknown) => Response | Promise<Response> }

/**
 * A memory service that sells episodes by credits: three routes of its own behind the quota, everything else is Tollgate's.
 * EM-2: ingestion costs 1 credit, search 0.1, reflection 2. EM-4, EM-5, EM-7: 429, 403 and the headers come from `meterRoute`.
 */
export function createHost(tollgate: Tollgate): Hono {
  const episodes = new Map<string, string[]>()
  const app = new Hono()

  /** The caller's own key acts for the caller's organization, without leaving the process. */
  const client = (context: Context): UsageClient | null => {
    const apiKey = keyOf(context)
    if (apiKey === null) return null
    return createTollgateClient({
      url: new URL(context.req.url).origin,
      apiKey,
      fetch: async (request) => tollgate.fetch(request),
    })
  }

  app.on('POST', pathsOf('capture'), meterRoute({ client, meter: 'episode_ingestion' }), async (context) => {
    const text = await readText(context, 'text')
    const kept = episodesOf(context)
    kept.push(text)
    return context.json({ episode: kept.length })
  })

  app.on('POST', pathsOf('search'), meterRoute({ client, meter: 'episode_search' }), async (context) => {
    const query = await readText(context, 'query')
    return context.json({ episodes: episodesOf(context).filter((text) => text.includes(query)) })
  })

  app.on('POST', pathsOf('reflect'), meterRoute({ client, meter: 'reflection' }), (context) =>
    context.json({ reflection: `${episodesOf(context).length} episodes are remembered.` }),
  )

  app.all('*', (context) => tollgate.fetch(context.req.raw, context.env))
  return app

  function episodesOf(context: Context): string[] {
    const apiKey = keyOf(context) ?? ''
    const kept = episodes.get(apiKey) ?? []
    episodes.set(apiKey, kept)
    return kept
  }
}

/** The path of a route, and the older one under which it is served too. */
const pathsOf = (route: string): string[] => [`/api/v1/${route}`, `/api/${route}`]

/** A field of the body. What is not there, or is no text, is the caller's mistake: it costs nothing, as every answer from 400 on. */
async function readText(context: Context, field: string): Promise<string> {
  const body: unknown = await context.req.json().catch(() => null)
  const value = body !== null && typeof body === 'object' ? Object.getOwnPropertyDescriptor(body, field)?.value : undefined
  if (typeof value === 'string') return value
  const message = `The body is to be JSON with the text "${field}".`
  throw new HTTPException(400, { res: Response.json({ error: 'invalid_request', message }, { status: 400 }) })
}

function keyOf(context: Context): string | null {
  return /^Bearer (.+)$/i.exec(context.req.header('authorization') ?? '')?.[1] ?? context.req.header('x-api-key') ?? null
}

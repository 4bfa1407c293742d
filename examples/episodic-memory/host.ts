import { createTollgateClient, type UsageClient } from '@tollgate/sdk'
import { meterRoute } from '@tollgate/sdk/hono'
import { Hono, type Context } from 'hono'

/** What the host needs of Tollgate: its web-standard handler, in this process. */
type Tollgate = { readonly fetch: (request: Request) => Response | Promise<Response> }

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

  app.post('/api/v1/capture', meterRoute({ client, meter: 'episode_ingestion' }), async (context) => {
    const { text } = await context.req.json<{ text: string }>()
    const kept = episodesOf(context)
    kept.push(text)
    return context.json({ episode: kept.length })
  })

  app.post('/api/v1/search', meterRoute({ client, meter: 'episode_search' }), async (context) => {
    const { query } = await context.req.json<{ query: string }>()
    return context.json({ episodes: episodesOf(context).filter((text) => text.includes(query)) })
  })

  app.post('/api/v1/reflect', meterRoute({ client, meter: 'reflection' }), (context) =>
    context.json({ reflection: `${episodesOf(context).length} episodes are remembered.` }),
  )

  app.all('*', (context) => tollgate.fetch(context.req.raw))
  return app

  function episodesOf(context: Context): string[] {
    const apiKey = keyOf(context) ?? ''
    const kept = episodes.get(apiKey) ?? []
    episodes.set(apiKey, kept)
    return kept
  }
}

function keyOf(context: Context): string | null {
  return /^Bearer (.+)$/i.exec(context.req.header('authorization') ?? '')?.[1] ?? context.req.header('x-api-key') ?? null
}

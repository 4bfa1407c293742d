import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope, type Principal } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { liveStateSchema } from './live.ts'
import { readSpan, type ReadingContext } from './reports.ts'
import type { LiveStreams } from './streams.ts'

export type StreamContext = ReadingContext & {
  readonly streams: LiveStreams
  /** Who sends a request, asked again while its stream is open. */
  readonly authenticate: (request: Request) => Promise<Principal | null>
}

const streamRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/stream',
  tags: ['Usage'],
  summary: 'Balances and use of an organization, live',
  description:
    'Server-sent events, for `EventSource`. `snapshot` is the whole state, `change` the balances and meters of it that changed since, each whole. A reader that comes back with `Last-Event-ID` gets nothing while nothing changed, else a snapshot. The stream ends when the server stops or the caller may no longer read; `EventSource` comes back by itself.',
  request: { query: z.object({ organization_id: z.string().optional().meta({ description: 'Only for operators.' }) }) },
  responses: {
    200: {
      description: 'The events; each has as its data:',
      content: { 'text/event-stream': { schema: liveStateSchema } },
    },
  },
})

export function registerStreamRoutes(app: App, context: StreamContext): void {
  app.openapi(streamRoute, async (c) => {
    const { organization_id: named } = c.req.valid('query')
    const readerOf = (principal: Principal | null): string => organizationFor(requireScope(principal, 'read'), named)
    const organizationId = readerOf(c.get('principal'))
    // An operator may name what is not there.
    await readSpan(context, { organizationId })
    const request = new Request(c.req.url, { headers: new Headers(c.req.raw.headers) })
    const stream = context.streams.open({
      organizationId,
      lastEventId: c.req.header('last-event-id') ?? null,
      mayStillRead: async () => readerOf(await context.authenticate(request)) === organizationId,
    })
    return c.body(stream, 200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
      // Proxies that collect an answer before they pass it on (nginx) are told not to.
      'x-accel-buffering': 'no',
    })
  })
}

import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireScope } from '../auth/principal.ts'
import type { Db } from '../db/database.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import { findEvent, listEvents, type EventRow } from './store.ts'
import { ALL_ORGANIZATIONS, EVENT_TYPES, eventTypes, isEventType } from './types.ts'

const eventSchema = z
  .object({
    id: z.string(),
    type: z.string(),
    organization_id: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
    occurred_at: z.iso.datetime().meta({ description: 'In the organization’s time.' }),
  })
  .openapi('Event')

const list = createRoute({
  method: 'get',
  path: '/api/v1/events',
  tags: ['Events'],
  summary: 'What happened, newest first',
  description: 'An organization’s own; operators see all, or those of the one they name.',
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      type: z.string().refine(isEventType, 'there is no such type').optional(),
      ...pageQuery({ most: 200, usual: 50 }),
    }),
  },
  responses: { 200: json('A page of them.', z.object({ events: z.array(eventSchema), has_more: z.boolean() })) },
})

const read = createRoute({
  method: 'get',
  path: '/api/v1/events/{event_id}',
  tags: ['Events'],
  summary: 'Read an event',
  description: 'The scope `read`; operators read every one. An event of another organization is 404.',
  request: { params: z.object({ event_id: z.string() }) },
  responses: { 200: json('The event.', eventSchema) },
})

const types = createRoute({
  method: 'get',
  path: '/api/v1/event-types',
  tags: ['Events'],
  summary: 'The types of events, with an example of each',
  description: 'The scope `read`. What `event_types` of a webhook endpoint and `type` of the list may be.',
  responses: {
    200: json(
      'The types.',
      z.object({
        event_types: z.array(z.object({ type: z.string(), summary: z.string(), example: z.record(z.string(), z.unknown()) })),
      }),
    ),
  },
})

/** What happened to an organization, as its webhooks tell it. */
export function registerEventRoutes(app: App, { db }: { db: Db }): void {
  app.openapi(list, async (c) => {
    const principal = requireScope(c.get('principal'), 'read')
    const { organization_id: named, type = null, limit, starting_after: after } = c.req.valid('query')
    const organizationId = organizationOrAll(principal, named)
    const last = await findStart(after, async (id) => {
      const event = await findEvent(db, id)
      return organizationId === null || event?.organizationId === organizationId ? event : null
    })
    const { page, hasMore } = pageOf(
      await listEvents(db, { organizationId, type, before: last?.sequence ?? null, limit: limit + 1 }),
      limit,
    )
    return c.json({ events: page.map(showEvent), has_more: hasMore }, 200)
  })
  app.openapi(read, async (c) => {
    const principal = requireScope(c.get('principal'), 'read')
    const event = await findEvent(db, c.req.valid('param').event_id)
    if (event === null || (principal.kind !== 'operator' && event.organizationId !== principal.organizationId)) {
      throw new DomainError('not_found', 'There is no such event.')
    }
    return c.json(showEvent(event), 200)
  })
  app.openapi(types, async (c) => {
    requireScope(c.get('principal'), 'read')
    const all = EVENT_TYPES.map((type) => ({ type, summary: eventTypes[type].summary, example: eventTypes[type].example }))
    return c.json({ event_types: all }, 200)
  })
}

function showEvent(event: EventRow): z.infer<typeof eventSchema> {
  return {
    id: event.id,
    type: event.type,
    organization_id: event.organizationId === ALL_ORGANIZATIONS ? null : event.organizationId,
    data: { ...event.data },
    occurred_at: event.occurredAt.toISOString(),
  }
}

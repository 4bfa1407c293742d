import { createRoute, z } from '@hono/zod-openapi'
import { ALL_ORGANIZATIONS } from '../events/types.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { DomainError } from '../lib/errors.ts'
import { readEndpoint, type WebhooksContext } from './actions.ts'
import { findDelivery, listDeliveries, type AttemptRow, type DeliveryRow } from './delivery-store.ts'
import { ownerOf } from './owner.ts'

const state = z.enum(['pending', 'delivered', 'failed'])
const time = z.iso.datetime().nullable()

const deliverySchema = z
  .object({
    event_id: z.string(),
    organization_id: z.string().nullable(),
    type: z.string(),
    state,
    attempts: z.number().int(),
    created_at: z.iso.datetime(),
    next_attempt_at: time,
    finished_at: time,
  })
  .openapi('WebhookDelivery')

const attemptSchema = z.object({
  number: z.number().int(),
  attempted_at: z.iso.datetime(),
  duration_ms: z.number().int(),
  status: z.number().int().nullable().meta({ description: 'null when nothing was answered.' }),
  error: z.string().nullable(),
  response: z.string().nullable().meta({ description: 'The first kilobyte of the answer.' }),
})

const query = z.object({
  organization_id: z.string().optional().meta({
    description: 'For operators: whose endpoint. Without it, an operator’s own.',
  }),
})
const params = z.object({ endpoint_id: z.string() })

const list = createRoute({
  method: 'get',
  path: '/api/v1/webhook-endpoints/{endpoint_id}/deliveries',
  tags: ['Webhook endpoints'],
  summary: 'The log of an endpoint’s deliveries, newest first',
  description: 'The scope `admin`. Page on with the last event’s id as `starting_after`.',
  request: {
    params,
    query: query.extend({
      state: state.optional(),
      ...pageQuery({ most: 200, usual: 50 }),
    }),
  },
  responses: {
    200: {
      description: 'The deliveries.',
      content: { 'application/json': { schema: z.object({ deliveries: z.array(deliverySchema), has_more: z.boolean() }) } },
    },
  },
})

const read = createRoute({
  method: 'get',
  path: '/api/v1/webhook-endpoints/{endpoint_id}/deliveries/{event_id}',
  tags: ['Webhook endpoints'],
  summary: 'One delivery with its attempts',
  description:
    'The scope `admin`. Each attempt with its status, its duration and the beginning of what was answered. An event that this endpoint was not told of is 404.',
  request: { params: params.extend({ event_id: z.string() }), query },
  responses: {
    200: {
      description: 'The delivery.',
      content: {
        'application/json': { schema: deliverySchema.extend({ log: z.array(attemptSchema) }).openapi('WebhookDeliveryLog') },
      },
    },
  },
})

/** What was sent to an endpoint, and what came of it. */
export function registerDeliveryRoutes(app: App, { db }: WebhooksContext): void {
  app.openapi(list, async (c) => {
    const { organization_id: named, state: wanted = null, limit, starting_after: startingAfter } = c.req.valid('query')
    const { id } = await readEndpoint(db, {
      organizationId: ownerOf(c.get('principal'), named),
      id: c.req.valid('param').endpoint_id,
    })
    const after = await findStart(startingAfter, (eventId) => findDelivery(db, { endpointId: id, eventId }))
    const query = { endpointId: id, state: wanted, after: after?.delivery.eventId ?? null, limit: limit + 1 }
    const { page, hasMore } = pageOf(await listDeliveries(db, query), limit)
    return c.json({ deliveries: page.map(showDelivery), has_more: hasMore }, 200)
  })
  app.openapi(read, async (c) => {
    const { endpoint_id: endpointId, event_id: eventId } = c.req.valid('param')
    const { id } = await readEndpoint(db, {
      organizationId: ownerOf(c.get('principal'), c.req.valid('query').organization_id),
      id: endpointId,
    })
    const found = await findDelivery(db, { endpointId: id, eventId })
    if (found === null) throw new DomainError('not_found', 'This endpoint was not told of such an event.')
    return c.json({ ...showDelivery(found.delivery), log: found.attempts.map(showAttempt) }, 200)
  })
}

function showDelivery(delivery: DeliveryRow): z.infer<typeof deliverySchema> {
  return {
    event_id: delivery.eventId,
    organization_id: delivery.organizationId === ALL_ORGANIZATIONS ? null : delivery.organizationId,
    type: delivery.type,
    state: delivery.state,
    attempts: delivery.attempts,
    created_at: delivery.createdAt.toISOString(),
    next_attempt_at: delivery.state === 'pending' ? delivery.nextAttemptAt.toISOString() : null,
    finished_at: delivery.finishedAt?.toISOString() ?? null,
  }
}

function showAttempt(attempt: AttemptRow): z.infer<typeof attemptSchema> {
  return {
    number: attempt.number,
    attempted_at: attempt.attemptedAt.toISOString(),
    duration_ms: attempt.durationMs,
    status: attempt.status,
    error: attempt.error,
    response: attempt.response,
  }
}

import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { actorOf, requireScope } from '../auth/principal.ts'
import { ALL_ORGANIZATIONS, EVENT_TYPES } from '../events/types.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import { moment } from '../lib/moments.ts'
import {
  changeEndpoint,
  createEndpoint,
  readEndpoint,
  removeEndpoint,
  replay,
  rotateSecret,
  sendTest,
  type Asker,
  type WebhooksContext,
} from './actions.ts'
import { registerDeliveryRoutes } from './delivery-routes.ts'
import { listEndpoints, type EndpointName, type EndpointRow } from './endpoint-store.ts'
import { ownerOf } from './owner.ts'

const time = z.iso.datetime().nullable()

const endpointSchema = z
  .object({
    id: z.string(),
    organization_id: z.string().nullable().meta({ description: 'null is an operator’s endpoint, told of every organization.' }),
    url: z.string(),
    description: z.string(),
    event_types: z.array(z.string()),
    enabled: z.boolean(),
    disabled_reason: z.enum(['failing', 'gone', 'by_hand']).nullable(),
    disabled_at: time,
    failing_since: time.meta({ description: 'When the first of the failures since the last success was.' }),
    previous_secret_valid_until: time,
    created_at: z.iso.datetime(),
  })
  .openapi('WebhookEndpoint')

const withSecret = endpointSchema
  .extend({ secret: z.string().meta({ description: 'whsec_…, shown here and never again.' }) })
  .openapi('WebhookEndpointWithSecret')

const query = z.object({
  organization_id: z.string().optional().meta({
    description: 'For operators: whose endpoint. Without it, an operator’s own, told of every organization.',
  }),
})
const params = z.object({ endpoint_id: z.string() })
const types = z
  .array(z.string().max(100))
  .min(1)
  .max(50)
  .meta({ description: `Names of types, such as ${EVENT_TYPES[0]}; invoice.* is all of a kind, * is all.` })

const bodyOf = <Schema extends z.ZodType>(schema: Schema) => ({
  required: true,
  content: { 'application/json': { schema } },
})

const create = createRoute({
  method: 'post',
  path: '/api/v1/webhook-endpoints',
  tags: ['Webhook endpoints'],
  summary: 'Create an endpoint',
  description: 'Signed as Standard Webhooks have it. The secret is shown in this answer only.',
  request: {
    query,
    body: bodyOf(
      z.strictObject({
        url: z.string().max(2_000).meta({ example: 'https://example.com/hooks' }),
        description: z.string().max(500).default(''),
        event_types: types.default(['*']),
      }),
    ),
  },
  responses: { 201: json('The endpoint with its secret.', withSecret) },
})

const list = createRoute({
  method: 'get',
  path: '/api/v1/webhook-endpoints',
  tags: ['Webhook endpoints'],
  summary: 'List endpoints',
  description: 'The scope `admin`. An operator who names no organization sees the operators’ own. Secrets are never shown again.',
  request: { query },
  responses: { 200: json('The endpoints, oldest first.', z.object({ endpoints: z.array(endpointSchema) })) },
})

const read = createRoute({
  method: 'get',
  path: '/api/v1/webhook-endpoints/{endpoint_id}',
  tags: ['Webhook endpoints'],
  summary: 'Read an endpoint',
  description:
    'The scope `admin`. Says why and since when it is disabled, and since when it fails. An endpoint of another organization is 404.',
  request: { params, query },
  responses: { 200: json('The endpoint.', endpointSchema) },
})

const change = createRoute({
  method: 'patch',
  path: '/api/v1/webhook-endpoints/{endpoint_id}',
  tags: ['Webhook endpoints'],
  summary: 'Change an endpoint, disable it, enable it again',
  description: 'What it missed while it was disabled is sent when a replay asks for it.',
  request: {
    params,
    query,
    body: bodyOf(
      z.strictObject({
        url: z.string().max(2_000).optional(),
        description: z.string().max(500).optional(),
        event_types: types.optional(),
        enabled: z.boolean().optional(),
      }),
    ),
  },
  responses: { 200: json('The endpoint.', endpointSchema) },
})

const remove = createRoute({
  method: 'delete',
  path: '/api/v1/webhook-endpoints/{endpoint_id}',
  tags: ['Webhook endpoints'],
  summary: 'Delete an endpoint with the log of its deliveries',
  description: 'The scope `admin`. What waits for it is not sent any more. To stop for a while, disable it instead.',
  request: { params, query },
  responses: { 204: { description: 'It is deleted.' } },
})

const rotate = createRoute({
  method: 'post',
  path: '/api/v1/webhook-endpoints/{endpoint_id}/rotate-secret',
  tags: ['Webhook endpoints'],
  summary: 'Give an endpoint a new secret',
  description:
    'Until the overlap is over, each message is signed with both. Without an overlap every secret before ends at once.',
  request: {
    params,
    query,
    body: bodyOf(z.strictObject({ overlap_hours: z.int().min(0).max(168).default(24) })),
  },
  responses: { 200: json('The endpoint with its new secret.', withSecret) },
})

const test = createRoute({
  method: 'post',
  path: '/api/v1/webhook-endpoints/{endpoint_id}/test',
  tags: ['Webhook endpoints'],
  summary: 'Send an endpoint a test event',
  description:
    'The scope `admin`. The event is this endpoint’s own, signed as every other; each call sends another. A disabled endpoint is 409.',
  request: { params, query },
  responses: { 202: json('It is on its way; see its delivery.', z.object({ event_id: z.string() })) },
})

const replayRoute = createRoute({
  method: 'post',
  path: '/api/v1/webhook-endpoints/{endpoint_id}/replay',
  tags: ['Webhook endpoints'],
  summary: 'Send an endpoint one event again, or all since a time',
  description:
    'The scope `admin`. Sends what the endpoint asks for, whether it took it or not, under the ids of the events, so that a receiver which knows them counts none twice. A disabled endpoint is 409.',
  request: {
    params,
    query,
    body: bodyOf(
      z.union([z.strictObject({ event_id: z.string().max(100) }), z.strictObject({ since: moment })], {
        error: 'either event_id, or since with a time such as 2026-01-01T00:00:00Z, is expected',
      }),
    ),
  },
  responses: { 202: json('They are on their way.', z.object({ deliveries: z.number().int() })) },
})

/** Endpoints of outgoing webhooks: an organization's admins manage theirs, operators their own and everybody's. */
export function registerWebhookEndpointRoutes(app: App, context: WebhooksContext): void {
  app.openapi(create, async (c) => {
    const { url, description, event_types: eventTypes } = c.req.valid('json')
    const owner = ownerOf(c.get('principal'), c.req.valid('query').organization_id)
    const made = await createEndpoint(context, owner, { url, description, eventTypes }, askerOf(c))
    return c.json({ ...showEndpoint(made.endpoint), secret: made.secret }, 201)
  })
  app.openapi(list, async (c) => {
    const endpoints = await listEndpoints(context.db, ownerOf(c.get('principal'), c.req.valid('query').organization_id))
    return c.json({ endpoints: endpoints.map(showEndpoint) }, 200)
  })
  app.openapi(read, async (c) => {
    const name = nameOf(c, c.req.valid('query'), c.req.valid('param'))
    return c.json(showEndpoint(await readEndpoint(context.db, name)), 200)
  })
  app.openapi(change, async (c) => {
    const { url, description, event_types: eventTypes, enabled } = c.req.valid('json')
    const name = nameOf(c, c.req.valid('query'), c.req.valid('param'))
    const endpoint = await changeEndpoint(context, name, { url, description, eventTypes, enabled }, askerOf(c))
    return c.json(showEndpoint(endpoint), 200)
  })
  app.openapi(remove, async (c) => {
    await removeEndpoint(context, nameOf(c, c.req.valid('query'), c.req.valid('param')), askerOf(c))
    return c.body(null, 204)
  })
  app.openapi(rotate, async (c) => {
    const { overlap_hours: overlapHours } = c.req.valid('json')
    const name = nameOf(c, c.req.valid('query'), c.req.valid('param'))
    const { endpoint, secret } = await rotateSecret(context, name, { overlapHours }, askerOf(c))
    return c.json({ ...showEndpoint(endpoint), secret }, 200)
  })
  app.openapi(test, async (c) => {
    const name = nameOf(c, c.req.valid('query'), c.req.valid('param'))
    return c.json({ event_id: await sendTest(context, name) }, 202)
  })
  app.openapi(replayRoute, async (c) => {
    const body = c.req.valid('json')
    const name = nameOf(c, c.req.valid('query'), c.req.valid('param'))
    const which = 'since' in body ? { since: new Date(body.since) } : { eventId: body.event_id }
    return c.json({ deliveries: await replay(context, name, which) }, 202)
  })
  registerDeliveryRoutes(app, context)
}

function nameOf(
  c: Context<AppEnv>,
  { organization_id: named }: { organization_id?: string | undefined },
  { endpoint_id: id }: { endpoint_id: string },
): EndpointName {
  return { organizationId: ownerOf(c.get('principal'), named), id }
}

function askerOf(c: Context<AppEnv>): Asker {
  return { actor: actorOf(requireScope(c.get('principal'), 'admin')), requestId: c.get('requestId') }
}

function showEndpoint(endpoint: EndpointRow): z.infer<typeof endpointSchema> {
  return {
    id: endpoint.id,
    organization_id: endpoint.organizationId === ALL_ORGANIZATIONS ? null : endpoint.organizationId,
    url: endpoint.url,
    description: endpoint.description,
    event_types: [...endpoint.eventTypes],
    enabled: endpoint.disabledAt === null,
    disabled_reason: endpoint.disabledReason,
    disabled_at: endpoint.disabledAt?.toISOString() ?? null,
    failing_since: endpoint.failingSince?.toISOString() ?? null,
    previous_secret_valid_until: endpoint.previousSecretUntil?.toISOString() ?? null,
    created_at: endpoint.createdAt.toISOString(),
  }
}

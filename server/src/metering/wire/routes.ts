import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { organizationFor, requireScope, type Principal } from '../../auth/principal.ts'
import type { AppEnv } from '../../http/app-env.ts'
import type { App } from '../../http/app.ts'
import { readText } from '../../http/body-text.ts'
import { body, json } from '../../http/route-schemas.ts'
import { setCardDataApart } from '../../lib/card-data.ts'
import { unitsOf, type UsageContext } from '../api.ts'
import { listBalances, readSummary, usageSummarySchema } from '../summary.ts'
import type { UsageRequest } from '../usage.ts'
import { answerBody, answerSchema, creditHeaders, ownBalanceSchema, problemItemSchema } from './bodies.ts'
import { decideBatch, headersOf, organizationsOf, requireAsker, requireWriter } from './calls.ts'
import { cloudEventSchema } from './cloud-events.ts'
import { registerBodyFormats } from './format-routes.ts'
import {
  batchItemSchema,
  batchSchema,
  checkQuerySchema,
  checkRequestOf,
  checkSchema,
  correctRequestOf,
  correctSchema,
  MAX_BATCH_ITEMS,
  recordRequestOf,
  recordSchema,
  releaseRequestOf,
  releaseSchema,
  reserveRequestOf,
  reserveSchema,
  settleRequestOf,
  settleSchema,
} from './requests.ts'

const TAGS = ['Usage']
const answered = { 200: json('What was decided. A refusal is an answer too: `allowed` is false.', answerSchema) }

const checkRoute = createRoute({
  method: 'post',
  path: '/api/v1/usage/check',
  tags: TAGS,
  summary: 'Ask whether a use would be allowed',
  description: 'Writes nothing, and holds nothing: what is used later may be refused all the same.',
  request: { body: body(checkSchema) },
  responses: answered,
})

const checkLinkRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/check',
  tags: TAGS,
  summary: 'Ask whether a use would be allowed, by a link',
  description: 'The same without a body, for meters that look at no properties.',
  request: { query: checkQuerySchema },
  responses: answered,
})

// Forms that format-routes.ts reads before the route does: in the document, but nothing that the route's own types know of.
const lines: object = { 'application/x-ndjson': { schema: { type: 'string', description: 'One item a line.' } } }
const cloudEvent = { $ref: '#/components/schemas/UsageCloudEvent' }
const cloudEvents: object = {
  'application/cloudevents+json': { schema: cloudEvent },
  'application/cloudevents-batch+json': { schema: { type: 'array', maxItems: MAX_BATCH_ITEMS, items: cloudEvent } },
}

const recordRoute = (verb: 'track' | 'consume', summary: string, description: string) =>
  createRoute({
    method: 'post',
    path: `/api/v1/usage/${verb}`,
    tags: TAGS,
    summary,
    description,
    request: {
      body: {
        required: true,
        content: { 'application/json': { schema: recordSchema }, ...(verb === 'track' ? cloudEvents : {}) },
      },
    },
    responses: answered,
  })
const trackRoute = recordRoute(
  'track',
  'Record what has happened',
  'Never refused for want of quota: what does not fit is overage.',
)
const consumeRoute = recordRoute(
  'consume',
  'Check and record in one step',
  'Refused whole when it does not fit. The answer means that it is durable.',
)

const batchRoute = createRoute({
  method: 'post',
  path: '/api/v1/usage/batch',
  tags: TAGS,
  summary: `Up to ${MAX_BATCH_ITEMS} items in one request`,
  description:
    'Decided in order, each with its own key. What is wrong with one item is that item’s problem and touches no other.',
  request: {
    body: {
      required: true,
      content: { 'application/json': { schema: batchSchema }, ...lines },
    },
  },
  responses: {
    200: json('One result per item, in order.', z.object({ results: z.array(z.union([answerSchema, problemItemSchema])) })),
  },
})

const reserveRoute = createRoute({
  method: 'post',
  path: '/api/v1/usage/reservations',
  tags: TAGS,
  summary: 'Hold an amount for work whose cost is known afterwards',
  description: 'What is held cannot be used by another. The hold ends by itself.',
  request: { body: body(reserveSchema) },
  responses: answered,
})

const reservationParams = z.object({ id: z.string().max(100).meta({ description: 'The reservation.' }) })

const settleRoute = createRoute({
  method: 'post',
  path: '/api/v1/usage/reservations/{id}/settle',
  tags: TAGS,
  summary: 'Record what reserved work came to',
  description:
    'Less gives the rest back; more is recorded like `track`, since the work is done. Settling after the hold has ended is recorded too.',
  request: { params: reservationParams, body: { ...body(settleSchema), required: false } },
  responses: answered,
})

const releaseRoute = createRoute({
  method: 'post',
  path: '/api/v1/usage/reservations/{id}/release',
  tags: TAGS,
  summary: 'Give back what is held',
  description:
    'The scope `write`. Nothing is counted. A hold that nobody settles or gives back ends by itself; one of another organization is 404.',
  request: { params: reservationParams, body: { ...body(releaseSchema), required: false } },
  responses: answered,
})

const correctRoute = createRoute({
  method: 'post',
  path: '/api/v1/usage/corrections',
  tags: TAGS,
  summary: 'Correct a use that was recorded wrongly',
  description:
    'Counts in the hour and period of what it corrects, and gives back to the grants that it was drawn from. For meters that count or sum.',
  request: { body: body(correctSchema) },
  responses: answered,
})

const organizationQuery = { organization_id: z.string().optional().meta({ description: 'Only for operators.' }) }

const balancesRoute = createRoute({
  method: 'get',
  path: '/api/v1/balances',
  tags: TAGS,
  summary: 'The balances of the present period',
  description:
    'The scope `read`. Each with what is included, used, held and left; null for an amount or a remainder is unlimited. It reads what is committed, so the answer of a use is in it.',
  request: { query: z.object(organizationQuery) },
  responses: { 200: json('The balances.', z.object({ balances: z.array(ownBalanceSchema) })) },
})

const usageRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage',
  tags: TAGS,
  summary: 'Where the organization stands with its quota',
  description:
    'The scope `read`. One balance with its plan, its share used and the state of the account (EM-8). A balance that the organization does not have is 404.',
  request: {
    query: z.object({
      ...organizationQuery,
      balance: z.string().optional().meta({ description: 'Which balance; default the plan’s first credit pool.' }),
    }),
  },
  responses: { 200: json('The present period.', usageSummarySchema) },
})

/** The routes of metering (issue "the whole loop": fixed names; EM-3, EM-5, EM-8). */
export function registerUsageRoutes(app: App, context: UsageContext): void {
  const { metering } = context
  const unitOf = unitsOf(context)
  app.openAPIRegistry.register('UsageBatchItem', batchItemSchema)
  app.openAPIRegistry.register('UsageCloudEvent', cloudEventSchema)
  // Who is not allowed in learns nothing of what is wrong with the body.
  app.on('GET', '/api/v1/usage/check', async (c, next) => {
    requireAsker(c.get('principal'))
    await next()
  })
  // For every method, so that it is no route: a path that nothing is at stays unknown.
  app.use('/api/v1/usage/*', async (c, next) => {
    if (c.req.method === 'POST') {
      if (c.req.path.endsWith('/usage/check')) requireAsker(c.get('principal'))
      else requireWriter(context, c.get('principal'))
    }
    await next()
  })
  registerBodyFormats(app, context)

  const writerOf = (c: Context<AppEnv>): Principal => requireWriter(context, c.get('principal'))

  async function answer(c: Context<AppEnv>, request: UsageRequest) {
    const given = await metering.ask(request)
    return c.json(answerBody(given, unitOf), 200, headersOf(given))
  }

  app.openapi(checkRoute, (c) =>
    answer(c, checkRequestOf(c.req.valid('json'), organizationsOf(requireAsker(c.get('principal'))))),
  )
  app.openapi(checkLinkRoute, (c) =>
    answer(c, checkRequestOf(c.req.valid('query'), organizationsOf(requireAsker(c.get('principal'))))),
  )
  app.openapi(trackRoute, (c) => answer(c, recordRequestOf('track', c.req.valid('json'), organizationsOf(writerOf(c)))))
  app.openapi(consumeRoute, (c) => answer(c, recordRequestOf('consume', c.req.valid('json'), organizationsOf(writerOf(c)))))
  app.openapi(reserveRoute, (c) => answer(c, reserveRequestOf(c.req.valid('json'), organizationsOf(writerOf(c)))))
  app.openapi(settleRoute, (c) =>
    answer(c, settleRequestOf(c.req.valid('param').id, c.req.valid('json') ?? {}, organizationsOf(writerOf(c)))),
  )
  app.openapi(releaseRoute, (c) =>
    answer(c, releaseRequestOf(c.req.valid('param').id, c.req.valid('json')?.organization_id, organizationsOf(writerOf(c)))),
  )

  app.openapi(correctRoute, (c) => answer(c, correctRequestOf(c.req.valid('json'), organizationsOf(writerOf(c)))))

  app.openapi(batchRoute, async (c) => {
    const organizationOf = organizationsOf(writerOf(c))
    const items = setCardDataApart(c.req.valid('json').items, await readText(c))
    const results = await decideBatch(context, { items, organizationOf, requestId: c.get('requestId') })
    return c.json({ results: results.map((result) => ('verb' in result ? answerBody(result, unitOf) : result)) }, 200)
  })

  app.openapi(balancesRoute, async (c) => {
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), c.req.valid('query').organization_id)
    return c.json({ balances: [...(await listBalances(context.db, context, { organizationId, unitOf }))] }, 200)
  })

  app.openapi(usageRoute, async (c) => {
    const { organization_id: named, balance: balanceKey } = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), named)
    const { summary, balance } = await readSummary(context.db, context, { organizationId, balanceKey })
    return c.json(summary, 200, creditHeaders(balance))
  })
}

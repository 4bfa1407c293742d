import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, organizationFor, organizationOrAll, requireOperator, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, recordedAtOf } from '../lib/ids.ts'
import { momentOrDate } from '../lib/moments.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { tellLevels } from '../metering/levels.ts'
import { requireWriter } from '../metering/wire/calls.ts'
import { idempotencyKey, properties, quantityOf } from '../metering/wire/requests.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { retryReport } from './actions.ts'
import { registerCreditRoutes } from './credit-routes.ts'
import { findFailedEvent, listFailedEvents } from './event-store.ts'
import { readUseOverview, type PricingContext } from './overview.ts'
import { registerStatementRoutes } from './statement-routes.ts'
import { readUseSummary } from './summary.ts'

const TAGS = ['Bills for use']
const figure = z.union([z.number(), z.string()])
const time = z.iso.datetime()
const organizationQuery = { organization_id: z.string().optional().meta({ description: 'Only for operators.' }) }

const freeBecause = z
  .enum(['trial', 'no_subscription', 'unbilled_time'])
  .nullable()
  .meta({ description: 'Why not; `unbilled_time`: it was used before the balance was billed.' })

const overviewSchema = z
  .object({
    usage: z.object({ today: z.record(z.string(), figure), month: z.record(z.string(), figure) }),
    credits: z.object({
      tier: z.string(),
      included_credits: figure.nullable().meta({ description: 'The plan’s allowance of the period; null is unlimited.' }),
      used: figure,
      remaining: figure.nullable(),
      extra_credits: figure
        .nullable()
        .meta({ description: 'Granted besides the plan’s allowance: top-ups, promotions, rollovers.' }),
      overage: figure,
      overage_cost: z.number().meta({ description: 'What of the overage is billed costs, in major units.' }),
      free_overage: figure.meta({ description: 'What of the overage is not billed.' }),
      free_because: freeBecause,
      price_per_1k: z.number().nullable().meta({ description: 'Major units; null where overage has no price per unit.' }),
    }),
    tier: z.string(),
    balances: z.array(
      z.object({
        balance: z.string(),
        name: z.string(),
        used: figure,
        limit: figure.nullable(),
        remaining: figure.nullable(),
        overage: figure,
        overage_cost: z.number(),
        free_overage: figure,
        free_because: freeBecause,
        period_start: time,
        period_end: time.nullable(),
      }),
    ),
  })
  .openapi('UseOverview')

const overviewRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/usage',
  tags: TAGS,
  summary: 'Use of today and this month, credits, overage and its cost',
  description:
    'The scope `read`. Costs are in major units of the catalog’s currency, before tax and discounts. Where no Stripe key is set it answers all the same (OC-4, OC-10).',
  request: { query: z.object(organizationQuery) },
  responses: { 200: json('The overview.', overviewSchema) },
})

const recordedSchema = z.object({
  id: z.string(),
  tenant_id: z.string(),
  usage_type: z.string(),
  quantity: figure,
  recorded_at: time,
})

const recordRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/usage',
  tags: TAGS,
  summary: 'Record a tenant’s use',
  description: 'Never refused for want of quota. Send Idempotency-Key: a repeat is counted once.',
  request: {
    headers: z.object({ 'idempotency-key': idempotencyKey.optional() }),
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.object({
            tenant_id: z.string().min(1),
            usage_type: z.string().min(1),
            quantity: figure,
            metadata: properties.optional(),
          }),
        },
      },
    },
  },
  responses: { 200: json('It is counted.', recordedSchema.extend({ success: z.literal(true), data: recordedSchema })) },
})

const summarySchema = z
  .object({
    tenant_id: z.string(),
    period_start: time,
    period_end: time,
    currency: z.string(),
    usage: z.record(
      z.string(),
      z.object({
        quantity: figure,
        cost_cents: z.number().int().meta({ description: 'What of it is billed costs: nothing of what was used in a trial.' }),
        unit: z.string(),
      }),
    ),
    total_cost_cents: z.number().int(),
    billed: z.boolean().meta({ description: 'Whether paid invoices settle all of this time.' }),
    invoices: z.array(z.object({ invoice_id: z.string(), period_start: time, period_end: time, paid_at: time.nullable() })),
  })
  .openapi('UseSummary')

const summaryRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/usage/tenant/{tenant_id}/summary',
  tags: TAGS,
  summary: 'A tenant’s use by type, with what it costs',
  description:
    'The scope `read`; another tenant is 404. The costs are those of the lines of the invoices, in cents, before tax and discounts, and add up to the total: over whole billing periods it is what their statements say. `platform_base` is the base fee of the subscription, which is charged once however often it is reported.',
  request: {
    params: z.object({ tenant_id: z.string() }),
    query: z.object({
      period_start: momentOrDate
        .optional()
        .meta({ description: 'A time, or a date (UTC); default: the start of the running billing period.' }),
      period_end: momentOrDate.optional(),
    }),
  },
  responses: { 200: json('The summary.', summarySchema) },
})

const failedRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/billing/failed-reports',
  tags: TAGS,
  summary: 'Reports of use that Stripe did not take',
  description:
    'For operators: of all organizations, or the one that is named. Each waits until it is tried again. Page on with the last identifier as `starting_after`.',
  request: { query: z.object({ ...organizationQuery, ...pageQuery({ most: 500, usual: 100 }) }) },
  responses: {
    200: json(
      'The reports, newest first.',
      z.object({
        reports: z.array(
          z.object({
            identifier: z.string(),
            organization_id: z.string(),
            event_name: z.string(),
            quantity: figure,
            at: time,
            error: z.string(),
          }),
        ),
        has_more: z.boolean(),
      }),
    ),
  },
})

const retryRoute = createRoute({
  method: 'post',
  path: '/api/v1/admin/billing/failed-reports/{identifier}/retry',
  tags: TAGS,
  summary: 'Send a failed report again',
  description: 'Look first whether Stripe counts it: it is sent under a new name.',
  request: { params: z.object({ identifier: z.string().max(100) }) },
  responses: { 200: json('It is sent.', z.object({ success: z.literal(true) })) },
})

/** Routes of OC-4, CB-6, KF-7, KF-8 and the statement. */
export function registerPricingRoutes(app: App, context: PricingContext): void {
  const { billing, usage } = context
  registerStatementRoutes(app, context)
  registerCreditRoutes(app, billing)
  app.openapi(overviewRoute, async (c) => {
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), c.req.valid('query').organization_id)
    await tellLevels(usage, organizationId)
    const overview = await readUseOverview(context, organizationId)
    return c.json({ ...overview, balances: [...overview.balances] }, 200)
  })
  app.openapi(recordRoute, async (c) => {
    const given = c.req.valid('json')
    const principal = requireWriter(usage, c.get('principal'))
    const organizationId = organizationFor(principal, given.tenant_id)
    await readOrganization(billing.db, organizationId)
    const answer = await usage.metering.ask({
      verb: 'track',
      organizationId,
      meter: given.usage_type,
      quantity: quantityOf(given.quantity),
      idempotencyKey: c.req.valid('header')['idempotency-key'] ?? newId('use'),
      occurredAt: null,
      properties: given.metadata ?? null,
    })
    if (!answer.allowed || answer.eventId === null) {
      throw new DomainError('conflict', answer.reason ?? 'The use was not counted.', { code_of_refusal: answer.code })
    }
    const data = {
      id: answer.eventId,
      tenant_id: organizationId,
      usage_type: given.usage_type,
      quantity: quantityToJson(answer.quantity),
      // A repeat tells the first time: the event's own.
      recorded_at: (recordedAtOf(answer.eventId) ?? billing.clock.now()).toISOString(),
    }
    return c.json({ success: true as const, data, ...data }, 200)
  })
  app.openapi(summaryRoute, async (c) => {
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), c.req.valid('param').tenant_id)
    const { period_start: start, period_end: end } = c.req.valid('query')
    const query = { organizationId, start: dateOf(start), end: dateOf(end) }
    await tellLevels(usage, organizationId)
    const summary = await readUseSummary(context, query)
    return c.json({ ...summary, usage: { ...summary.usage }, invoices: [...summary.invoices] }, 200)
  })
  app.openapi(failedRoute, async (c) => {
    const principal = requireOperator(c.get('principal'))
    const { organization_id: named, limit, starting_after: startingAfter } = c.req.valid('query')
    const organizationId = organizationOrAll(principal, named)
    const after = await findStart(startingAfter, (identifier) => findFailedEvent(billing.db, identifier))
    const found = await listFailedEvents(billing.db, { organizationId, after, limit: limit + 1 })
    const { page, hasMore } = pageOf(found, limit)
    const reports = page.map((event) => ({
      identifier: event.identifier,
      organization_id: event.organizationId,
      event_name: event.eventName,
      quantity: quantityToJson(event.quantity),
      at: event.at.toISOString(),
      error: event.error,
    }))
    return c.json({ reports, has_more: hasMore }, 200)
  })
  app.openapi(retryRoute, async (c) => {
    const asker = { actor: actorOf(requireOperator(c.get('principal'))), requestId: c.get('requestId') }
    await retryReport(billing, c.req.valid('param').identifier, asker)
    return c.json({ success: true as const }, 200)
  })
}

function dateOf(text: string | undefined): Date | null {
  return text === undefined ? null : new Date(text)
}

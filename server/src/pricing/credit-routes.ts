import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, organizationOrAll, requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import { quantityToJson } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { findFailedCredit, listFailedCredits } from './credit-store.ts'
import { retryCredit } from './credits.ts'

const TAGS = ['Bills for use']

const creditSchema = z
  .object({
    id: z.string(),
    organization_id: z.string(),
    line_id: z.string().meta({ description: 'The line of the statement of which it was taken back.' }),
    grant_id: z.string(),
    quantity: z.union([z.number(), z.string()]),
    amount_minor: z.number().int().meta({ description: 'What the line had cost for it, before tax and discounts.' }),
    created_at: z.iso.datetime(),
    failed_at: z.iso.datetime().nullable(),
    error: z
      .string()
      .nullable()
      .meta({ description: 'The code of the refusal; Stripe’s words are in the log (`billing.credit_failed`).' }),
  })
  .openapi('FailedCredit')

const failedRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/billing/failed-credits',
  tags: TAGS,
  summary: 'Credits for use that was taken back, which Stripe refused',
  description:
    'For operators: of all organizations, or the one that is named. Each waits until it is tried again. Page on with the last id as `starting_after`.',
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      ...pageQuery({ most: 500, usual: 100 }),
    }),
  },
  responses: { 200: json('The credits, newest first.', z.object({ credits: z.array(creditSchema), has_more: z.boolean() })) },
})

const retryRoute = createRoute({
  method: 'post',
  path: '/api/v1/admin/billing/failed-credits/{id}/retry',
  tags: TAGS,
  summary: 'Give a refused credit again',
  description:
    'After what was wrong has been put right, a customer that was deleted, say. It waits then, and is given within a minute; when Stripe refuses again, it is listed again.',
  request: { params: z.object({ id: z.string().max(100) }) },
  responses: { 200: json('It waits to be given.', z.object({ success: z.literal(true), organization_id: z.string() })) },
})

/** What operators do about credits that Stripe refused (decision 0190). */
export function registerCreditRoutes(app: App, context: BillingContext): void {
  app.openapi(failedRoute, async (c) => {
    const operator = requireOperator(c.get('principal'))
    const { organization_id: named, limit, starting_after: startingAfter } = c.req.valid('query')
    const organizationId = organizationOrAll(operator, named)
    const after = await findStart(startingAfter, (id) => findFailedCredit(context.db, id))
    const { page, hasMore } = pageOf(await listFailedCredits(context.db, { organizationId, after, limit: limit + 1 }), limit)
    const credits = page.map((credit) => ({
      id: credit.id,
      organization_id: credit.organizationId,
      line_id: credit.spanId,
      grant_id: credit.grantId,
      quantity: quantityToJson(credit.quantity),
      amount_minor: credit.amountMinor,
      created_at: credit.createdAt.toISOString(),
      failed_at: credit.failedAt?.toISOString() ?? null,
      error: credit.error,
    }))
    return c.json({ credits, has_more: hasMore }, 200)
  })
  app.openapi(retryRoute, async (c) => {
    const asker = { actor: actorOf(requireOperator(c.get('principal'))), requestId: c.get('requestId') }
    const organizationId = await retryCredit(context, c.req.valid('param').id, asker)
    return c.json({ success: true as const, organization_id: organizationId }, 200)
  })
}

import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import type { BillingContext } from '../stripe/context.ts'
import { listFields, moreFields, moreOf, organizationFields, pageOf, toOrganizationFilter, toRange } from './list-queries.ts'
import { listOrganizations } from './lists-store.ts'

const rowSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    email: z.string(),
    stripe_customer_id: z.string().nullable(),
    plan: z.string(),
    billing_status: z.string().meta({ description: 'Of the subscription; none where there is none.' }),
    currency: z.string().nullable(),
    delinquent: z.boolean(),
    has_override: z.boolean(),
    created_at: z.iso.datetime(),
  })
  .openapi('ListedOrganization')

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/organizations',
  tags: ['Operators'],
  summary: 'Find organizations',
  description: 'By filters, by the beginning of an id, name or e-mail, or by the id of one of their objects at Stripe.',
  request: { query: z.object({ ...listFields(50, ['created', 'name']), ...organizationFields }) },
  responses: {
    200: {
      description: 'A page of them.',
      content: { 'application/json': { schema: z.object({ organizations: z.array(rowSchema), ...moreFields }) } },
    },
  },
})

/** Organizations for operators: the list, each one’s whole state, and what happened to it. */
export function registerOperatorOrganizationRoutes(app: App, context: BillingContext): void {
  app.openapi(listRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const { catalog } = context.catalogs.current
    const filter = { ...pageOf(query), ...toRange(query), ...(await toOrganizationFilter(context.db, query, catalog)) }
    const listed = await listOrganizations(context.db, filter, {
      defaultPlanKey: context.catalogs.current.catalog.defaultPlanKey,
      now: context.clock.now(),
    })
    const organizations = listed.rows.map((row) => ({
      id: row.organizationId,
      name: row.name,
      email: row.email,
      stripe_customer_id: row.id === row.organizationId ? null : row.id,
      plan: row.tier,
      billing_status: row.status ?? 'none',
      currency: row.currency,
      delinquent: row.delinquent,
      has_override: row.overridden,
      created_at: row.createdAt.toISOString(),
    }))
    return http.json({ organizations, ...moreOf(listed) }, 200)
  })
}

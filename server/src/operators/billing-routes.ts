import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import { tierOf } from '../catalog/tiers.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import { countRows, listTallies } from '../analytics/store.ts'
import { invoiceSchema, toInvoiceView } from '../invoices/routes.ts'
import { toMajorNumber } from '../lib/money.ts'
import type { BillingContext } from '../stripe/context.ts'
import { SUBSCRIPTION_STATUSES } from '../standing/rules.ts'
import {
  currencyField,
  listFields,
  moreFields,
  moreOf,
  organizationFields,
  pageOf,
  toOrganizationFilter,
  toPlanFilter,
  toRange,
} from './list-queries.ts'
import { listAllInvoices, listCharges, listOrganizations, listSubscriptions } from './lists-store.ts'
import { toStats } from './stats.ts'

const tags = ['Operators']
const created = z.iso.datetime()

const adminRoute = <Query extends z.ZodRawShape, Answer extends z.ZodType>(
  path: string,
  [summary, description]: readonly [summary: string, description: string],
  query: Query,
  answer: Answer,
) =>
  createRoute({
    method: 'get',
    path: `/api/v1/admin/billing/${path}`,
    tags,
    summary,
    description: `For operators. ${description}`,
    request: { query: z.object(query) },
    responses: { 200: json('From the mirror of Stripe.', answer) },
  })

const tier = z.object({
  count: z.number().int().meta({ description: 'Organizations that have the plan and a running subscription.' }),
  revenue: z.number(),
})

const statsRoute = adminRoute(
  'stats',
  [
    'Customers, subscriptions and what they bring a month',
    'Revenue is that of running subscriptions by the month, a yearly one by its twelfth, in major units.',
  ],
  {},
  z
    .object({
      total_customers: z.number().int(),
      active_subscriptions: z.number().int().meta({ description: 'Those whose payment is being retried included.' }),
      trial_subscriptions: z.number().int(),
      monthly_revenue: z.number().meta({ description: 'Major units of the catalog’s currency; trials bring nothing yet.' }),
      currency: z.string(),
      tier_breakdown: z.record(z.string(), tier),
      other_currencies: z.record(z.string(), z.number()).meta({ description: 'Monthly revenue in others: never added up.' }),
    })
    .openapi('BillingStats'),
)

const customersRoute = adminRoute(
  'customers',
  [
    'List customers, newest first',
    'A customer is an organization; `metadata.tier` is the plan that it has now. Narrow it by what the query names.',
  ],
  { ...listFields(100, ['created', 'name']), ...organizationFields },
  z.object({
    customers: z.array(
      z.object({
        id: z.string(),
        email: z.string(),
        name: z.string(),
        created,
        metadata: z.object({ user_id: z.string(), tier: z.string() }),
      }),
    ),
    ...moreFields,
  }),
)

const subscriptionsRoute = adminRoute(
  'subscriptions',
  [
    'List subscriptions, newest first',
    'Amounts are in major units, for one interval. Those that have ended are in it too, unless `status` says otherwise.',
  ],
  {
    ...listFields(100, ['created']),
    status: z
      .enum([...SUBSCRIPTION_STATUSES, 'all'])
      .optional()
      .meta({ description: 'All when missing.' }),
    plan: z.string().optional(),
    currency: currencyField,
  },
  z.object({
    subscriptions: z.array(
      z.object({
        id: z.string(),
        customer: z.string(),
        organization_id: z.string(),
        tier: z.string().nullable(),
        status: z.string(),
        amount: z.number(),
        currency: z.string(),
        interval: z.string(),
        current_period_end: created,
        cancel_at_period_end: z.boolean(),
      }),
    ),
    ...moreFields,
  }),
)

const chargesRoute = adminRoute(
  'recent-charges',
  [
    'List charges, newest first',
    'Amounts are in major units. One that a bank has not answered yet is `pending`; what failed is in it too, unless `status` says otherwise.',
  ],
  {
    ...listFields(20, ['created']),
    status: z.enum(['succeeded', 'pending', 'failed', 'all']).optional(),
    currency: currencyField,
  },
  z.object({
    charges: z.array(
      z.object({
        id: z.string(),
        amount: z.number(),
        currency: z.string(),
        status: z.string(),
        customer: z.string(),
        organization_id: z.string(),
        description: z.string().nullable(),
        created,
        paid: z.boolean(),
        refunded: z.boolean(),
      }),
    ),
    ...moreFields,
  }),
)

const invoicesRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/admin/invoices',
  tags,
  summary: 'List invoices of all organizations, newest first',
  description: 'For operators. From the mirror of Stripe, in major units; narrow it by status, currency and time.',
  request: {
    query: z.object({
      ...listFields(50, ['created']),
      status: z.enum(['draft', 'open', 'paid', 'uncollectible', 'void']).optional(),
      currency: currencyField,
    }),
  },
  responses: {
    200: json(
      'From the mirror of Stripe.',
      z.object({ invoices: z.array(invoiceSchema.extend({ organization_id: z.string() })), ...moreFields }),
    ),
  },
})

/** Routes of OC-5 to OC-8 and of CB-7's invoices. Money in major units, as that system names it. */
export function registerAdminBillingRoutes(app: App, context: BillingContext): void {
  const { db } = context
  const catalog = () => context.catalogs.current.catalog
  app.openapi(statsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const [tallies, subscriptions, customers] = await Promise.all([
      listTallies(db, 'mrr_accounts'),
      listTallies(db, 'stripe_subscriptions'),
      countRows(db, 'organizations'),
    ])
    const plans = tallies.map((tally) => ({ ...tally, planKey: tierOf(catalog(), tally.planKey) }))
    return http.json(toStats({ plans, subscriptions, customers }, catalog().currency), 200)
  })
  app.openapi(customersRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const filter = { ...toRange(query), ...(await toOrganizationFilter(db, query, catalog())) }
    const listed = await listOrganizations(
      db,
      { ...pageOf(query), ...filter },
      {
        defaultPlanKey: catalog().defaultPlanKey,
        now: context.clock.now(),
      },
    )
    const customers = listed.rows.map(({ id, email, name, createdAt, organizationId, tier }) => ({
      id,
      email,
      name,
      created: createdAt.toISOString(),
      metadata: { user_id: organizationId, tier: tierOf(catalog(), tier) },
    }))
    return http.json({ customers, ...moreOf(listed) }, 200)
  })
  app.openapi(subscriptionsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const filter = {
      ...toRange(query),
      status: statusOf(query),
      plan: await toPlanFilter(db, catalog(), query.plan),
      currency: query.currency ?? null,
    }
    const listed = await listSubscriptions(db, { ...pageOf(query), ...filter })
    const subscriptions = listed.rows.map((row) => ({
      id: row.id,
      customer: row.customerId,
      organization_id: row.organizationId,
      tier: row.tier === null ? null : tierOf(catalog(), row.tier),
      status: row.status,
      amount: toMajorNumber(row),
      currency: row.currency,
      interval: row.interval,
      current_period_end: row.currentPeriodEnd.toISOString(),
      cancel_at_period_end: row.cancelAtPeriodEnd,
    }))
    return http.json({ subscriptions, ...moreOf(listed) }, 200)
  })
  app.openapi(invoicesRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const filter = { ...toRange(query), status: query.status ?? null, currency: query.currency ?? null }
    const listed = await listAllInvoices(db, { ...pageOf(query), ...filter })
    const invoices = listed.rows.map((invoice) => ({ ...toInvoiceView(invoice), organization_id: invoice.organizationId }))
    return http.json({ invoices, ...moreOf(listed) }, 200)
  })
  app.openapi(chargesRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const filter = { ...toRange(query), status: statusOf(query), currency: query.currency ?? null }
    const listed = await listCharges(db, { ...pageOf(query), ...filter })
    const charges = listed.rows.map((row) => ({
      id: row.id,
      amount: toMajorNumber(row),
      currency: row.currency,
      status: row.status,
      customer: row.customerId,
      organization_id: row.organizationId,
      description: row.description,
      created: row.createdAt.toISOString(),
      paid: row.paid,
      refunded: row.refunded,
    }))
    return http.json({ charges, ...moreOf(listed) }, 200)
  })
}

const statusOf = ({ status }: { readonly status?: string | undefined }): string | null =>
  status === undefined || status === 'all' ? null : status

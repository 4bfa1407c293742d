import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { toMajorNumber } from '../lib/money.ts'
import type { BillingContext } from '../stripe/context.ts'
import { countRows, listCharges, listCustomers, listSubscriptions, sumPlans, type PlanTotals } from './admin-store.ts'
import { invoiceSchema, toInvoiceView } from './routes.ts'
import { listAllInvoices } from './store.ts'

const tags = ['Operators']
const created = z.iso.datetime()
const total = z.number().int().meta({ description: 'How many there are in all.' })

const json = <Schema extends z.ZodType>(description: string, schema: Schema) => ({
  description,
  content: { 'application/json': { schema } },
})

const page = (limit: number) => ({
  limit: z.coerce.number().int().min(1).max(500).default(limit),
  offset: z.coerce.number().int().min(0).max(1_000_000).default(0),
})

const adminRoute = <Query extends z.ZodRawShape, Answer extends z.ZodType>(
  path: string,
  summary: string,
  query: Query,
  answer: Answer,
) =>
  createRoute({
    method: 'get',
    path: `/api/v1/admin/billing/${path}`,
    tags,
    summary,
    request: { query: z.object(query) },
    responses: { 200: json('From the mirror of Stripe.', answer) },
  })

const tier = z.object({ count: z.number().int(), revenue: z.number() })

const statsRoute = adminRoute(
  'stats',
  'Customers, subscriptions and what they bring a month',
  {},
  z
    .object({
      total_customers: z.number().int(),
      active_subscriptions: z.number().int(),
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
  'List customers, newest first',
  page(100),
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
    total,
  }),
)

const subscriptionsRoute = adminRoute(
  'subscriptions',
  'List subscriptions, newest first',
  { ...page(100), status: z.string().optional().meta({ description: 'E.g. active; all when missing.' }) },
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
    total,
  }),
)

const chargesRoute = adminRoute(
  'recent-charges',
  'List charges, newest first',
  page(20),
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
    total,
  }),
)

const invoicesRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/admin/invoices',
  tags,
  summary: 'List invoices of all organizations, newest first',
  request: {
    query: z.object({ ...page(50), status: z.enum(['draft', 'open', 'paid', 'uncollectible', 'void']).optional() }),
  },
  responses: {
    200: json(
      'From the mirror of Stripe.',
      z.object({ invoices: z.array(invoiceSchema.extend({ organization_id: z.string() })), total }),
    ),
  },
})

/** Routes of OC-5 to OC-8 and of CB-7's invoices. Money in major units, as that system names it. */
export function registerAdminBillingRoutes(app: App, context: BillingContext): void {
  const { db } = context
  const catalog = () => context.catalogs.current.catalog
  app.openapi(statsRoute, async (http) => {
    requireOperator(http.get('principal'))
    return http.json(toStats(await sumPlans(db), await countRows(db, 'organizations'), catalog().currency), 200)
  })
  app.openapi(customersRoute, async (http) => {
    requireOperator(http.get('principal'))
    const customers = await listCustomers(db, http.req.valid('query'), catalog().defaultPlanKey)
    const views = customers.map(({ id, email, name, createdAt, organizationId, tier: plan }) => ({
      id,
      email,
      name,
      created: createdAt.toISOString(),
      metadata: { user_id: organizationId, tier: plan },
    }))
    return http.json({ customers: views, total: await countRows(db, 'organizations') }, 200)
  })
  app.openapi(subscriptionsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const status = query.status === undefined || query.status === 'all' ? null : query.status
    const subscriptions = (await listSubscriptions(db, { ...query, status })).map((row) => ({
      id: row.id,
      customer: row.customerId,
      organization_id: row.organizationId,
      tier: row.tier,
      status: row.status,
      amount: toMajorNumber(row),
      currency: row.currency,
      interval: row.interval,
      current_period_end: row.currentPeriodEnd.toISOString(),
      cancel_at_period_end: row.cancelAtPeriodEnd,
    }))
    return http.json({ subscriptions, total: await countRows(db, 'stripe_subscriptions', status) }, 200)
  })
  app.openapi(invoicesRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const status = query.status ?? null
    const invoices = await listAllInvoices(db, { ...query, status })
    const views = invoices.map((invoice) => ({ ...toInvoiceView(invoice), organization_id: invoice.organizationId }))
    return http.json({ invoices: views, total: await countRows(db, 'stripe_invoices', status) }, 200)
  })
  app.openapi(chargesRoute, async (http) => {
    requireOperator(http.get('principal'))
    const charges = (await listCharges(db, http.req.valid('query'))).map((row) => ({
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
    return http.json({ charges, total: await countRows(db, 'stripe_charges') }, 200)
  })
}

/** Adds up what plans bring. Pure. Currencies are never added to each other. */
export function toStats(plans: readonly PlanTotals[], totalCustomers: number, currency: string) {
  const monthly = (rows: readonly PlanTotals[]): number => {
    const yearlyMinor = rows.filter(({ status }) => status !== 'trialing').reduce((sum, row) => sum + row.yearlyMinor, 0)
    return toMajorNumber({ amountMinor: Math.round(yearlyMinor / 12), currency: rows[0]?.currency ?? currency })
  }
  const count = (rows: readonly PlanTotals[]): number => rows.reduce((sum, row) => sum + row.count, 0)
  const own = plans.filter((row) => row.currency === currency)
  const tiers = [...new Set(plans.map((row) => row.tier))].sort((a, b) => (a < b ? -1 : 1))
  const others = [...new Set(plans.map((row) => row.currency))].filter((other) => other !== currency)
  return {
    total_customers: totalCustomers,
    active_subscriptions: count(plans.filter(({ status }) => status !== 'trialing')),
    trial_subscriptions: count(plans.filter(({ status }) => status === 'trialing')),
    monthly_revenue: monthly(own),
    currency,
    tier_breakdown: Object.fromEntries(
      tiers.map((key) => [
        key,
        { count: count(plans.filter((row) => row.tier === key)), revenue: monthly(own.filter((row) => row.tier === key)) },
      ]),
    ),
    other_currencies: Object.fromEntries(others.map((other) => [other, monthly(plans.filter((row) => row.currency === other))])),
  }
}

import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import { nameText } from '../lib/name-text.ts'
import { createOrganization, type OrganizationsContext } from '../organizations/actions.ts'
import { idSchema } from '../organizations/routes.ts'
import { findOrganization, readOrganization } from '../stripe/organizations.ts'
import { readUpcomingMinor } from '../pricing/upcoming.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { changePlan } from '../subscriptions/actions.ts'
import { answerOnce } from '../subscriptions/answer-once.ts'
import { readDiscount } from '../subscriptions/discounts.ts'
import { callerOf } from '../subscriptions/routes.ts'
import { keyHeader } from '../subscriptions/schemas.ts'
import { isDelinquent, sumOpenInvoices } from '../subscriptions/store.ts'
import { readChanged, readSubscription } from '../subscriptions/views.ts'
import { findOfferByPrice, makeCustomer } from './tenants.ts'

const time = z.iso.datetime().nullable()

const customerSchema = z.object({ tenant_id: z.string(), customer_id: z.string(), email: z.string(), name: z.string() })

const customerRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/customers',
  tags: ['Tenants'],
  summary: 'Make a tenant’s customer at Stripe',
  description:
    'Makes the tenant too where there is none of that id. Repeating it answers the same customer. Another e-mail or name than the tenant has changes nothing: 409 names the field.',
  request: {
    body: body(z.object({ tenant_id: idSchema, email: z.email().max(320), name: nameText(200) })),
  },
  responses: {
    200: json('The customer.', customerSchema.extend({ success: z.literal(true), data: customerSchema })),
  },
})

const startedSchema = z.object({
  tenant_id: z.string(),
  customer_id: z.string().nullable(),
  subscription_id: z.string().nullable(),
  status: z.string(),
  plan_id: z.string(),
  trial_ends_at: time,
  current_period_end: time,
})

const subscriptionRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/subscriptions',
  tags: ['Tenants'],
  summary: 'Subscribe a tenant to a price',
  description:
    'The scope `admin`. The price is one that the catalog has pushed to Stripe. A tenant that is subscribed already is 409. The header Idempotency-Key makes a repeat safe.',
  request: {
    headers: keyHeader,
    body: body(
      z.object({
        tenant_id: z.string(),
        customer_id: z.string().optional().meta({ description: 'Must be the tenant’s.' }),
        price_id: z.string(),
        trial_period_days: z.number().int().min(0).max(730).optional(),
        discount_code: z.string().min(1).max(50).optional(),
      }),
    ),
  },
  responses: { 200: json('It is started.', startedSchema.extend({ success: z.literal(true), data: startedSchema })) },
})

const statusRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/status/tenant/{tenant_id}',
  tags: ['Tenants'],
  summary: 'A tenant’s billing at a glance',
  description:
    'The scope `read`; another tenant is 404. From the mirror of Stripe, so it answers while Stripe is away; amounts are in cents.',
  request: { params: z.object({ tenant_id: z.string() }) },
  responses: {
    200: json(
      'The status.',
      z
        .object({
          tenant_id: z.string(),
          customer_id: z.string().nullable(),
          has_active_subscription: z.boolean(),
          subscription_status: z.string().nullable(),
          trial_ends_at: time,
          current_period_end: time,
          is_delinquent: z.boolean().meta({
            description: 'Whether a payment failed and is still due, also of a second subscription or one that has ended.',
          }),
          currency: z.string().meta({ description: 'Of the amounts: that of the subscription, else of the catalog.' }),
          outstanding_balance_cents: z.number().int().meta({ description: 'What open invoices in `currency` leave to be paid.' }),
          outstanding_balances: z
            .record(z.string(), z.number().int())
            .meta({ description: 'What open invoices leave to be paid, in each currency that they are in.' }),
          next_invoice_amount_cents: z.number().int().meta({
            description:
              'What the next invoice comes to by now: plan, seats, add-ons, overage, discounts, credits. 0 when none is coming.',
          }),
          payment_method_configured: z.boolean(),
        })
        .openapi('TenantStatus'),
    ),
  },
})

/** Who repeats a call with something else must hear that it was not taken over. */
function requireSame(field: 'email' | 'name', given: string, known: string): void {
  if (given === known) return
  throw new DomainError('conflict', `The tenant has the ${field} "${known}" already; this call changes nothing.`, { field })
}

/** Routes of KF-5, KF-6 and KF-9. */
export function registerTenantRoutes(app: App, context: BillingContext, organizations: OrganizationsContext): void {
  app.openapi(customerRoute, async (http) => {
    const { tenant_id: tenantId, email, name } = http.req.valid('json')
    const { asker } = callerOf(http, 'admin', tenantId)
    requireGateway(context)
    const known = await findOrganization(context.db, tenantId)
    if (known === null) {
      requireOperator(http.get('principal'))
      await createOrganization(organizations, { id: tenantId, email, name, testClock: false }, asker)
    } else {
      requireSame('email', email, known.email)
      requireSame('name', name, known.name)
    }
    const customerId = await makeCustomer(context, tenantId)
    const tenant = await readOrganization(context.db, tenantId)
    const data = { tenant_id: tenantId, customer_id: customerId, email: tenant.email, name: tenant.name }
    return http.json({ success: true as const, data, ...data }, 200)
  })
  app.openapi(subscriptionRoute, async (http) => {
    const given = http.req.valid('json')
    const caller = callerOf(http, 'admin', given.tenant_id)
    requireGateway(context)
    const { organizationId, principal } = caller
    const data = await answerOnce(context, caller, { operation: 'subscriptions', body: given }, async (asker) => {
      const organization = await readOrganization(context.db, organizationId)
      if (given.customer_id !== undefined && given.customer_id !== organization.customerId) {
        throw new DomainError('not_found', 'The tenant has no such customer.', { field: 'customer_id' })
      }
      const offer = await findOfferByPrice(context, given.price_id)
      const request = {
        kind: 'subscribe' as const,
        planKey: offer.planKey,
        interval: offer.interval,
        quantity: 1,
        paymentMethodId: null,
        trialDays: given.trial_period_days ?? null,
        byOperator: principal.kind === 'operator',
        discount: given.discount_code === undefined ? null : await readDiscount(context.db, given.discount_code, offer),
      }
      await changePlan(context, { organizationId, request, prorationAt: null }, asker)
      return readStarted(context, organizationId)
    })
    return http.json({ success: true as const, data, ...data }, 200)
  })
  app.openapi(statusRoute, async (http) => {
    const { organizationId } = callerOf(http, 'read', http.req.valid('param').tenant_id)
    const subscription = await readSubscription(context, context.db, organizationId)
    const outstanding = await sumOpenInvoices(context.db, organizationId)
    return http.json(
      {
        tenant_id: organizationId,
        customer_id: subscription.stripe_customer_id,
        has_active_subscription: ['active', 'trialing', 'past_due'].includes(subscription.billing_status),
        subscription_status: subscription.status === 'none' ? null : subscription.status,
        trial_ends_at: subscription.trial_end,
        current_period_end: subscription.current_period_end,
        is_delinquent: await isDelinquent(context.db, organizationId),
        currency: subscription.currency,
        outstanding_balance_cents: outstanding[subscription.currency] ?? 0,
        outstanding_balances: outstanding,
        next_invoice_amount_cents: await readUpcomingMinor(context, organizationId),
        payment_method_configured: subscription.payment_method_id !== null,
      },
      200,
    )
  })
}

async function readStarted(context: BillingContext, organizationId: string): Promise<z.infer<typeof startedSchema>> {
  const changed = await readChanged(context, context.db, organizationId)
  const { customerId } = await readOrganization(context.db, organizationId)
  return {
    tenant_id: organizationId,
    customer_id: customerId,
    subscription_id: changed.subscription_id,
    status: changed.status,
    plan_id: changed.plan,
    trial_ends_at: changed.trial_end,
    current_period_end: changed.billing_cycle_end,
  }
}

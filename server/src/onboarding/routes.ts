import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { actorOf, requireOperator } from '../auth/principal.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { App } from '../http/app.ts'
import { nameText } from '../lib/name-text.ts'
import type { OrganizationsContext } from '../organizations/actions.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization } from '../stripe/organizations.ts'
import type { Asker } from '../subscriptions/actions.ts'
import { keyHeader } from '../subscriptions/schemas.ts'
import { readChanged } from '../subscriptions/views.ts'
import {
  completeOnboarding,
  onboardCustomer,
  onboardPayment,
  onboardPlan,
  onboardSubscription,
  startOnboarding,
} from './actions.ts'

const session = { session_id: z.string() }
const nextStep = z.string().nullable().meta({ description: 'The step that is due now.' })

const stepRoute = <Body extends z.ZodRawShape, Data extends z.ZodRawShape>(
  path: string,
  summary: string,
  body: Body,
  data: Data,
) =>
  createRoute({
    method: 'post',
    path: `/api/v1/onboarding/${path}`,
    tags: ['Onboarding'],
    summary,
    description:
      'For operators. A step out of order is refused with the step that is due (next_step); the last one taken may be repeated.',
    request: { body: { required: true, content: { 'application/json': { schema: z.object(body) } } } },
    responses: {
      200: {
        description: 'Done.',
        content: {
          'application/json': {
            schema: z.object({
              success: z.literal(true),
              data: z.object({ ...session, tenant_id: z.string(), next_step: nextStep, ...data }),
            }),
          },
        },
      },
    },
  })

/** Routes of KF-4. */
export function registerOnboardingRoutes(app: App, context: BillingContext, organizations: OrganizationsContext): void {
  registerFirstSteps(app, context, organizations)
  registerLastSteps(app, context)
}

function registerFirstSteps(app: App, context: BillingContext, organizations: OrganizationsContext): void {
  const startBody = {
    email: z.email().max(320),
    name: nameText(200),
    company_name: nameText(200),
    phone: z.string().max(50).optional(),
  }
  const { request, ...step } = stepRoute('start', 'Step 1: make a tenant', startBody, { status: z.literal('started') })
  app.openapi(createRoute({ ...step, request: { ...request, headers: keyHeader } }), async (http) => {
    const asked = { asker: askerOf(http), key: http.req.header('idempotency-key') ?? null }
    const made = await startOnboarding(context, organizations, http.req.valid('json'), asked)
    const data = { session_id: made.id, tenant_id: made.organizationId, status: 'started' as const, next_step: made.step }
    return http.json({ success: true as const, data }, 200)
  })
  const customer = stepRoute('step/create-customer', 'Step 2: make its customer at Stripe', session, { customer_id: z.string() })
  app.openapi(customer, async (http) => {
    askerOf(http)
    const { session: after, customerId } = await onboardCustomer(context, http.req.valid('json').session_id)
    const data = { session_id: after.id, tenant_id: after.organizationId, next_step: after.step, customer_id: customerId }
    return http.json({ success: true as const, data }, 200)
  })
  const paymentData = {
    client_secret: z.string(),
    setup_intent_id: z.string(),
    publishable_key: z.string().nullable().meta({ description: 'With which Stripe’s form confirms it in the browser.' }),
  }
  const paymentBody = { ...session, return_url: z.string().optional() }
  const payment = stepRoute('step/setup-payment', 'Step 3: a form for the payment method', paymentBody, paymentData)
  app.openapi(payment, async (http) => {
    askerOf(http)
    const { session_id: id, return_url: returnUrl } = http.req.valid('json')
    const { session: after, clientSecret, setupIntentId } = await onboardPayment(context, id, returnUrl)
    const data = {
      session_id: after.id,
      tenant_id: after.organizationId,
      next_step: after.step,
      client_secret: clientSecret,
      setup_intent_id: setupIntentId,
      publishable_key: context.policy.publishableKey,
    }
    return http.json({ success: true as const, data }, 200)
  })
}

function registerLastSteps(app: App, context: BillingContext): void {
  const planBody = { ...session, plan_id: z.string(), price_id: z.string(), discount_code: z.string().min(1).max(50).optional() }
  const planData = { plan_id: z.string(), price_id: z.string(), discount_code: z.string().nullable() }
  app.openapi(stepRoute('step/select-plan', 'Step 4: choose a plan', planBody, planData), async (http) => {
    askerOf(http)
    const { session_id: id, plan_id: planKey, price_id: priceId, discount_code: code } = http.req.valid('json')
    const after = await onboardPlan(context, id, { planKey, priceId, discountCode: code ?? null })
    const data = {
      session_id: after.id,
      tenant_id: after.organizationId,
      next_step: after.step,
      plan_id: planKey,
      price_id: priceId,
      discount_code: after.discountCode,
    }
    return http.json({ success: true as const, data }, 200)
  })
  const subscribed = {
    subscription_id: z.string().nullable(),
    status: z.string(),
    plan_id: z.string(),
    trial_ends_at: z.iso.datetime().nullable(),
    requires_action: z.boolean().meta({ description: 'The bank asks the customer: send them to payment_url, then complete.' }),
    payment_url: z.string().nullable(),
  }
  app.openapi(stepRoute('step/create-subscription', 'Step 5: subscribe', session, subscribed), async (http) => {
    const after = await onboardSubscription(context, http.req.valid('json').session_id, askerOf(http))
    const changed = await readChanged(context, context.db, after.organizationId)
    const data = {
      session_id: after.id,
      tenant_id: after.organizationId,
      next_step: after.step,
      subscription_id: changed.subscription_id,
      status: changed.status,
      plan_id: changed.plan,
      trial_ends_at: changed.trial_end,
      requires_action: changed.requires_action,
      payment_url: changed.payment_url,
    }
    return http.json({ success: true as const, data }, 200)
  })
  const completed = {
    customer_id: z.string().nullable(),
    subscription_id: z.string().nullable(),
    status: z.literal('completed'),
    message: z.string(),
  }
  app.openapi(stepRoute('complete', 'Step 6: the end', session, completed), async (http) => {
    const after = await completeOnboarding(context, http.req.valid('json').session_id, askerOf(http))
    const { customerId } = await readOrganization(context.db, after.organizationId)
    const data = {
      session_id: after.id,
      tenant_id: after.organizationId,
      next_step: null,
      customer_id: customerId,
      subscription_id: after.subscriptionId,
      status: 'completed' as const,
      message: 'The tenant is ready.',
    }
    return http.json({ success: true as const, data }, 200)
  })
}

function askerOf(http: Context<AppEnv>): Asker {
  return { actor: actorOf(requireOperator(http.get('principal'))), requestId: http.get('requestId') }
}

import { createRoute, z } from '@hono/zod-openapi'
import { requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import type { BillingContext } from '../stripe/context.ts'

const route = createRoute({
  method: 'get',
  path: '/api/v1/billing/config',
  tags: ['Billing'],
  summary: 'What a billing page needs to know',
  description:
    'The publishable key is what Stripe.js takes a card with, for subscribe, for a new payment method and for onboarding (KF-4).',
  responses: {
    200: json(
      'The configuration.',
      z
        .object({
          stripe_enabled: z.boolean(),
          publishable_key: z.string().nullable(),
          environment: z.enum(['test', 'live']).nullable().meta({ description: 'null without Stripe.' }),
          currency: z.string(),
          trial_period_days: z.number().int(),
        })
        .openapi('BillingConfig'),
    ),
  },
})

export function registerBillingConfigRoute(app: App, { gateway, policy, catalogs }: BillingContext): void {
  app.openapi(route, (http) => {
    requireScope(http.get('principal'), 'read')
    return http.json(
      {
        stripe_enabled: gateway !== null,
        publishable_key: policy.publishableKey,
        environment: gateway?.mode ?? null,
        currency: catalogs.current.catalog.currency,
        trial_period_days: policy.trialDays,
      },
      200,
    )
  })
}

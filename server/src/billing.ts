import type { App } from './http/app.ts'
import { registerInvoiceRoutes } from './invoices/routes.ts'
import { registerStandingRoutes } from './standing/routes.ts'
import { registerDiscountRoutes } from './subscriptions/discount-routes.ts'
import { registerSubscriptionRoutes } from './subscriptions/routes.ts'
import type { BillingContext } from './stripe/context.ts'
import { registerClockRoutes } from './stripe/clock-routes.ts'
import { registerEventRoutes } from './stripe/event-routes.ts'
import { registerWebhookRoutes } from './stripe/webhook-routes.ts'

/** All routes of billing. `kick` wakes the worker of the inbox (`StripeWorkers.kick`). */
export function registerBillingRoutes(app: App, context: BillingContext, kick: () => void): void {
  registerWebhookRoutes(app, context, kick)
  registerEventRoutes(app, context)
  registerClockRoutes(app, context)
  registerSubscriptionRoutes(app, context)
  registerDiscountRoutes(app, context)
  registerInvoiceRoutes(app, context)
  registerStandingRoutes(app, context)
}

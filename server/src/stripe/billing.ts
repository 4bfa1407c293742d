import type { App } from '../http/app.ts'
import { registerInvoiceRoutes } from '../invoices/routes.ts'
import { registerSubscriptionRoutes } from '../subscriptions/routes.ts'
import type { BillingContext } from './context.ts'
import { registerClockRoutes } from './clock-routes.ts'
import { registerEventRoutes } from './event-routes.ts'
import { registerWebhookRoutes } from './webhook-routes.ts'

export { startTestClock } from './test-clock.ts'
export { createStripeClient, type StripeClientOptions } from './client.ts'
export { pushCatalog, type PushOptions, type PushReport } from './push.ts'
export { startStripeWorkers, type StripeWorkers } from './workers.ts'
export type { BillingEvent } from './changes.ts'
export type { BillingContext, BillingPolicy } from './context.ts'

/** All routes of billing. `kick` wakes the worker of the inbox (`StripeWorkers.kick`). */
export function registerBillingRoutes(app: App, context: BillingContext, kick: () => void): void {
  registerWebhookRoutes(app, context, kick)
  registerEventRoutes(app, context)
  registerClockRoutes(app, context)
  registerSubscriptionRoutes(app, context)
  registerInvoiceRoutes(app, context)
}

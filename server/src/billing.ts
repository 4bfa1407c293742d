import { registerBillingDetailsRoutes } from './billing-details/routes.ts'
import { registerEntitlementRoutes } from './entitlements/routes.ts'
import type { App } from './http/app.ts'
import { registerInvoiceRoutes } from './invoices/routes.ts'
import { registerOnboardingRoutes } from './onboarding/routes.ts'
import { registerTenantRoutes } from './onboarding/tenant-routes.ts'
import { registerAdminBillingRoutes } from './operators/billing-routes.ts'
import { registerOperatorOrganizationRoutes } from './operators/organization-routes.ts'
import { registerOrganizationStateRoutes } from './operators/state-routes.ts'
import { registerUserListRoute } from './operators/user-routes.ts'
import type { OrganizationsContext } from './organizations/actions.ts'
import { registerPlanMigrationRoutes } from './plan-migrations/routes.ts'
import { registerSimulationRoutes } from './simulation/routes.ts'
import { registerGateRoutes } from './standing/gate-routes.ts'
import { registerStandingRoutes } from './standing/routes.ts'
import { registerWorkspaceAdminRoute } from './standing/workspace-routes.ts'
import { registerClockRoutes } from './stripe/clock-routes.ts'
import type { BillingContext } from './stripe/context.ts'
import { registerEventRoutes } from './stripe/inbox/event-routes.ts'
import { registerWebhookRoutes } from './stripe/inbox/webhook-routes.ts'
import { registerReconcileRoutes } from './stripe/reconcile/reconcile-routes.ts'
import { registerAddOnRoutes } from './subscriptions/add-on-routes.ts'
import { registerBillingConfigRoute } from './subscriptions/config-routes.ts'
import { registerDiscountRoutes } from './subscriptions/discount-routes.ts'
import { registerPlanListRoute } from './subscriptions/plan-routes.ts'
import { registerSubscriptionRoutes } from './subscriptions/routes.ts'
import { registerTopUpRoutes } from './top-ups/routes.ts'

export type BillingParts = {
  /** Wakes the worker of the inbox (`StripeWorkers.kick`). */
  readonly kick: () => void
  /** Wakes the comparison with Stripe (`StripeWorkers.reconcile`). */
  readonly reconcile?: () => void
  /** For those routes that make an organization too (KF-4, KF-5). */
  readonly organizations: OrganizationsContext
}

/** All routes of billing. */
export function registerBillingRoutes(app: App, context: BillingContext, parts: BillingParts): void {
  const { kick } = parts
  registerWebhookRoutes(app, context, kick)
  registerReconcileRoutes(app, context, parts.reconcile ?? (() => undefined))
  registerEventRoutes(app, context)
  registerClockRoutes(app, context)
  registerSubscriptionRoutes(app, context)
  registerBillingConfigRoute(app, context)
  registerPlanListRoute(app, context)
  registerAddOnRoutes(app, context)
  registerDiscountRoutes(app, context)
  registerInvoiceRoutes(app, context)
  registerBillingDetailsRoutes(app, context)
  registerGateRoutes(app, { ...context, graceDays: context.policy.graceDays })
  registerTopUpRoutes(app, context)
  registerEntitlementRoutes(app, { ...context, graceDays: context.policy.graceDays })
  registerStandingRoutes(app, { ...context, graceDays: context.policy.graceDays })
  registerWorkspaceAdminRoute(app, { ...context, graceDays: context.policy.graceDays })
  registerAdminBillingRoutes(app, context)
  registerOperatorOrganizationRoutes(app, context)
  registerOrganizationStateRoutes(app, context)
  registerUserListRoute(app, context)
  registerPlanMigrationRoutes(app, context)
  registerSimulationRoutes(app, context)
  registerTenantRoutes(app, context, parts.organizations)
  registerOnboardingRoutes(app, context, parts.organizations)
}

import type { z } from '@hono/zod-openapi'
import type { Catalog } from '../catalog/catalog.ts'
import { tierOf } from '../catalog/tiers.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { toMajorNumber } from '../lib/money.ts'
import { readStanding } from '../standing/actions.ts'
import { readNotices } from '../standing/notices.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization } from '../stripe/organizations.ts'
import type { PlanChangePreview } from './preview.ts'
import type { Terms } from './plan-change.ts'
import type { changedSchema, previewSchema, subscriptionSchema } from './schemas.ts'
import { findAccountSubscription, findBillingFacts, type AccountSubscription } from './store.ts'

export type SubscriptionView = z.infer<typeof subscriptionSchema>
export type ChangedView = z.infer<typeof changedSchema>
export type PreviewView = z.infer<typeof previewSchema>

/**
 * Where an organization stands, from the mirror alone: it works while Stripe is away, and without Stripe (OC-10).
 * @throws DomainError `not_found`
 */
export async function readSubscription(
  context: BillingContext,
  db: Queryable,
  organizationId: string,
): Promise<SubscriptionView> {
  const organization = await readOrganization(db, organizationId)
  const read = await readStanding(db, { ...context, graceDays: context.policy.graceDays }, organizationId)
  if (read === null) throw new DomainError('not_found', 'There is no such organization.')
  const { account, standing } = read
  const found = await findAccountSubscription(db, organizationId)
  const current = found === null || found.status === 'canceled' || found.status === 'incomplete_expired' ? null : found
  const facts = await findBillingFacts(db, organizationId)
  const amountMinor = current?.totalMinor ?? 0
  const { catalog } = context.catalogs.current
  const currency = current?.currency ?? catalog.currency
  return {
    organization_id: organizationId,
    tier: tierOf(catalog, standing.planKey),
    plan: standing.planKey,
    status: account.subscriptionStatus ?? 'none',
    billing_status: read.billingStatus,
    standing: {
      state: standing.state,
      may_use: standing.mayUse,
      reason: standing.reason,
      since: iso(standing.since),
      until: iso(standing.until),
      notices: [...((await readNotices(db, [organizationId])).get(organizationId) ?? [])],
    },
    subscription_id: found?.subscriptionId ?? null,
    stripe_customer_id: organization.customerId,
    current_period_start: iso(account.currentPeriodStart),
    current_period_end: iso(account.currentPeriodEnd),
    cancel_at_period_end: current !== null && current.cancelAt !== null,
    cancel_at: iso(current?.cancelAt),
    ended_at: iso(found?.endedAt),
    amount: toMajorNumber({ amountMinor, currency }),
    amount_minor: amountMinor,
    currency,
    interval: current === null ? null : current.interval === 'yearly' ? 'year' : 'month',
    quantity: current?.quantity ?? null,
    in_trial: standing.state === 'trialing',
    trial_end: iso(read.trialEndsAt),
    payment_failed: account.paymentFailedAt !== null,
    payment_failed_at: iso(account.paymentFailedAt),
    payment_method_id: facts.paymentMethodId,
    next_invoice_date: iso(facts.nextInvoiceAt),
    scheduled_change: scheduledChange(catalog, current),
    synced_at: iso(facts.syncedAt),
  }
}

/** What came of a plan change. */
export async function readChanged(context: BillingContext, db: Queryable, organizationId: string): Promise<ChangedView> {
  const subscription = await readSubscription(context, db, organizationId)
  const found = await findAccountSubscription(db, organizationId)
  const incomplete = found?.status === 'incomplete'
  // While the first payment waits for the bank, the plan that was asked for is the one that is answered.
  const plan = incomplete ? found.planKey : subscription.plan
  const resumes = found?.status === 'paused' && found.waitingInvoiceId !== null
  const waits = found !== null && (incomplete || resumes || found.pendingUpdateExpiresAt !== null)
  return {
    subscription_id: found?.subscriptionId ?? null,
    status: subscription.status,
    tier: tierOf(context.catalogs.current.catalog, plan),
    plan,
    interval: found?.interval ?? null,
    quantity: found?.quantity ?? null,
    trial_end: subscription.trial_end,
    billing_cycle_start: subscription.current_period_start,
    billing_cycle_end: subscription.current_period_end,
    cancel_at: subscription.cancel_at,
    scheduled_change: subscription.scheduled_change,
    requires_action: waits,
    payment_url: waits ? found.waitingInvoiceUrl : null,
  }
}

function scheduledChange(catalog: Catalog, found: AccountSubscription | null): SubscriptionView['scheduled_change'] {
  if (found === null || found.scheduledAt === null || found.scheduledPlanKey === null) return null
  return {
    tier: tierOf(catalog, found.scheduledPlanKey),
    interval: found.scheduledInterval ?? 'monthly',
    quantity: found.scheduledQuantity,
    at: found.scheduledAt.toISOString(),
  }
}

export function toPreviewView(catalog: Catalog, preview: PlanChangePreview): PreviewView {
  return {
    kind: preview.kind,
    direction: preview.direction,
    reason: preview.reason,
    from: termsView(catalog, preview.from),
    to: termsView(catalog, preview.to),
    effective_at: iso(preview.effectiveAt),
    currency: preview.currency,
    amount_due_now_minor: preview.dueNowMinor,
    credit_minor: preview.creditMinor,
    lines: preview.lines.map((line) => ({
      description: line.description,
      amount_minor: line.amountMinor,
      proration: line.proration,
      period_start: line.periodStart.toISOString(),
      period_end: line.periodEnd.toISOString(),
    })),
    next_invoice:
      preview.nextInvoice === null
        ? null
        : { at: preview.nextInvoice.at.toISOString(), amount_minor: preview.nextInvoice.amountMinor },
    trial_end: iso(preview.trialEndsAt),
    cancel_at: iso(preview.cancelAt),
    proration_date: preview.prorationAt.toISOString(),
  }
}

function termsView(catalog: Catalog, terms: Terms | null): PreviewView['from'] {
  return terms === null ? null : { tier: tierOf(catalog, terms.planKey), interval: terms.interval, quantity: terms.quantity }
}

function iso(at: Instant | null | undefined): string | null {
  return at?.toISOString() ?? null
}

import type { Logger } from 'pino'
import { recordRevenue } from './analytics/ledger.ts'
import type { CatalogRegistry } from './catalog/registry.ts'
import type { Db } from './db/database.ts'
import { reconcilePlanGrants, type GrantsContext } from './grants/actions.ts'
import type { Metrics } from './http/metrics.ts'
import type { Clock } from './lib/clock.ts'
import { endOverdueReservations } from './metering/expiring.ts'
import { carryLevels } from './metering/levels.ts'
import type { Metering } from './metering/metering.ts'
import { observeAccount, type ObservingContext } from './notifications/observe.ts'
import type { StripeOptions, TollgateOptions } from './options.ts'
import { followBilling, settleBeforeClockMoves } from './pricing/actions.ts'
import { noteMeterFaults } from './pricing/faults.ts'
import type { BillingContext } from './stripe/context.ts'
import { createStripeClient } from './stripe/gateway/client.ts'
import type { BillingEvent } from './stripe/mirror/billing-events.ts'
import { endUnmade, settleTopUps } from './top-ups/settle.ts'

export function observingOf({ policy = {} }: TollgateOptions, grants: GrantsContext): ObservingContext {
  return { ...grants, dunningDays: policy.dunningDays ?? [1] }
}

/** What billing needs from outside, and all that follows when an account is derived anew, in its order. */
export function createBillingContext(
  options: TollgateOptions,
  parts: {
    db: Db
    clock: Clock
    catalogs: CatalogRegistry
    log: Logger
    grants: GrantsContext
    metrics: Metrics
    metering: Metering
  },
): BillingContext {
  const { publicUrl, stripe, policy = {} } = options
  const { grants, metrics, metering, ...rest } = parts
  const observing = observingOf(options, grants)
  const billing: BillingContext = {
    ...rest,
    variables: options.variables ?? {},
    gateway: stripe === null ? null : createStripeClient({ apiKey: stripe.secretKey, log: parts.log, ...callingOf(stripe) }),
    policy: {
      webhookSecrets: stripe?.webhookSecrets ?? [],
      publishableKey: stripe?.publishableKey ?? null,
      trialDays: policy.trialDays ?? 14,
      graceDays: grants.graceDays,
      disputeCounts: policy.disputeCounts ?? 'lost',
      trialEndBehavior: 'cancel',
      automaticTax: policy.automaticTax ?? false,
      downgradeAt: policy.downgradeAt ?? 'now',
      successUrl: policy.successUrl ?? `${publicUrl}/billing/success`,
      cancelUrl: policy.cancelUrl ?? `${publicUrl}/billing/cancelled`,
      portalReturnUrl: policy.portalReturnUrl ?? `${publicUrl}/billing`,
      defaultPriceId: policy.defaultPriceId ?? null,
      redirectOrigins: [new URL(publicUrl).origin],
      allowLoopbackRedirects: stripe?.endpoint !== undefined,
    },
    async onAccountDerived(tx, { organizationId, now }) {
      await endOverdueReservations(tx, grants, organizationId)
      // Before the grants take other terms: a line that ends says what was included until then.
      await followBilling(tx, billing, { organizationId, now })
      await reconcilePlanGrants(tx, grants, organizationId)
      await settleTopUps(tx, grants, { organizationId, now })
      await recordRevenue(tx, { organizationId, now, recordedAt: grants.clock.now() })
      await observeAccount(tx, observing, organizationId)
    },
    async onClockMoving(organizationId) {
      await carryLevels({ ...rest, metering }, organizationId)
      await settleBeforeClockMoves(billing, organizationId)
    },
    onNotMade: endUnmade,
    onMeterFaults: () => noteMeterFaults(billing),
    onBillingEvents: (events) => countPayments(metrics, events),
  }
  return billing
}

function callingOf({ endpoint, callsPerSecond }: StripeOptions) {
  // The sandbox has no rate limit of its own unless it is told to, and a move of a clock makes many calls at once.
  const rate = callsPerSecond ?? (endpoint === undefined ? undefined : 1_000)
  return { ...(endpoint === undefined ? {} : { endpoint }), ...(rate === undefined ? {} : { callsPerSecond: rate }) }
}

/** EM-13: payments. An invoice of nothing (a trial's) is no payment. */
function countPayments(metrics: Metrics, events: readonly BillingEvent[]): void {
  for (const { kind, data } of events) {
    if (kind === 'invoice.payment_failed') metrics.paymentsFailed.inc()
    if (kind === 'payment.refunded') metrics.paymentsRefunded.inc()
    if (kind === 'dispute.opened') metrics.disputesOpened.inc()
    if (kind === 'invoice.paid' && data['amount_paid_minor'] !== 0) metrics.paymentsSucceeded.inc()
  }
}

import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Db, Transaction } from '../db/database.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { StripeGateway } from './gateway/gateway.ts'
import type { TrialEndBehavior } from './gateway/mutations.ts'
import type { Intent } from './intents/intent.ts'
import type { Log } from './log.ts'
import type { BillingEvent } from './mirror/billing-events.ts'
import type { DisputeCounts } from './mirror/dispute-rules.ts'

/** What everything about billing works with; put together once, by the composition root. */
export type BillingContext = {
  readonly db: Db
  readonly clock: Clock
  readonly catalogs: CatalogRegistry
  /** null when no Stripe key is set (MR-14, OC-10). */
  readonly gateway: StripeGateway | null
  readonly policy: BillingPolicy
  /** All variables: a catalog's `priceVariable` names one of them. */
  readonly variables?: Readonly<Record<string, string | undefined>>
  readonly log: Log
  /**
   * Called in the transaction that derived an account anew: opens and adjusts what the plan grants. `now` is the
   * organization's time.
   */
  readonly onAccountDerived: (tx: Transaction, derived: { organizationId: string; now: Instant }) => Promise<void>
  /** Called in the transaction that settles what was asked of Stripe as not carried out. */
  readonly onNotMade?: (tx: Transaction, intent: Intent) => Promise<void>
  /** Called before an organization's test clock moves: what belongs to the time before is reported then. */
  readonly onClockMoving?: (organizationId: string) => Promise<void>
  /** Called when Stripe says that it found reports of use wrong. */
  readonly onMeterFaults?: () => Promise<void>
  /** Told, after the commit, what was newly recorded; each once over all servers. For metrics, which may miss one in a crash. */
  readonly onBillingEvents?: (events: readonly BillingEvent[]) => void
}

export type BillingPolicy = {
  /** Days of use after a payment failed (EM-7). */
  readonly graceDays: number
  /** From when on a dispute counts like a payment that failed; default `lost` (decision 0147). */
  readonly disputeCounts?: DisputeCounts
  /** Signing secrets of the webhook endpoint; several while one is rolled. */
  readonly webhookSecrets: readonly string[]
  /** With which Stripe.js takes cards in the browser; null where none is set. */
  readonly publishableKey: string | null
  /** Days of a trial (EM, STRIPE_TRIAL_PERIOD_DAYS). */
  readonly trialDays: number
  readonly trialEndBehavior: TrialEndBehavior
  /** Whether Stripe Tax works out the tax of what is bought (STRIPE_AUTOMATIC_TAX). */
  readonly automaticTax: boolean
  /** When a smaller plan is taken, unless the request says it. */
  readonly downgradeAt: 'now' | 'period_end'
  /** Defaults of MR-1 and MR-2. */
  readonly successUrl: string
  readonly cancelUrl: string
  readonly portalReturnUrl: string
  /** The price that checkout uses when the request names neither price nor plan (STRIPE_PRICE_ID). */
  readonly defaultPriceId: string | null
  /** Origins to which checkout and portal may send people, beside those of the defaults. */
  readonly redirectOrigins: readonly string[]
  /** Whether pages on this machine are fine too: while the sandbox stands in for Stripe. */
  readonly allowLoopbackRedirects: boolean
}

/** @throws DomainError `billing_not_configured` when no Stripe key is set */
export function requireGateway(context: BillingContext): StripeGateway {
  if (context.gateway === null) {
    throw new DomainError('billing_not_configured', 'No Stripe key is set: billing is not available.')
  }
  return context.gateway
}

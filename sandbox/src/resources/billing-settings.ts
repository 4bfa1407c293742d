/** The account's billing settings: what Stripe keeps in its dashboard. */
import { DEFAULT_EXHAUSTED_BEHAVIOR, smartRetryOffsets, UPCOMING_INVOICE_NOTICE_SECONDS } from '../billing/inferred.ts'
import type { Ctx } from '../engine/context.ts'

export interface BillingSettings {
  /** Offsets of automatic retries from the first attempt, in seconds, ascending; empty for none. */
  readonly retryOffsets: readonly number[]
  /** What follows when all retries failed. */
  readonly afterRetries: 'cancel' | 'unpaid' | 'past_due'
  /** What becomes of the invoice when its subscription is canceled for failed payments. */
  readonly invoiceAfterRetries: 'open' | 'uncollectible'
  /** How long before a renewal `invoice.upcoming` comes, in seconds. */
  readonly upcomingNotice: number
  /** Billing mode of subscriptions that do not name one. */
  readonly billingMode: 'classic' | 'flexible'
}

const SETTING_ID = 'billing'

const DEFAULTS: BillingSettings = {
  retryOffsets: smartRetryOffsets(),
  afterRetries: DEFAULT_EXHAUSTED_BEHAVIOR,
  invoiceAfterRetries: 'open',
  upcomingNotice: UPCOMING_INVOICE_NOTICE_SECONDS,
  billingMode: 'flexible',
}

/** The settings in force. */
export function billingSettings(ctx: Ctx): BillingSettings {
  const stored = ctx.get('_setting', SETTING_ID)?.value as Partial<BillingSettings> | undefined
  return stored === undefined ? DEFAULTS : { ...DEFAULTS, ...stored }
}

/** Changes settings; those not named stay. */
export function changeBillingSettings(ctx: Ctx, changes: Partial<BillingSettings>): void {
  ctx.store.put('_setting', { id: SETTING_ID, value: { ...billingSettings(ctx), ...changes } })
}

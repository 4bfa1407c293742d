import type { Instant } from '../../lib/clock.ts'
import type { DiscountSnapshot } from './discount-snapshots.ts'
import type { InvoiceItemTerms } from './invoice-items.ts'
import type { DiscountParams, ProrationBehavior, StripeMutations, SubscriptionItemParams } from './mutations.ts'

/** The next invoice as it will come when nothing is changed. */
export const NEXT_INVOICE: Omit<InvoicePreviewQuery, 'customerId'> = {
  subscriptionId: null,
  items: [],
  mode: 'next',
  prorationBehavior: null,
  prorationAtUnix: null,
  trialEndUnix: null,
  resetAnchor: false,
  cancelNow: false,
  resumesNow: false,
  ending: null,
  discounts: [],
  invoiceItems: [],
}

/** Mode `next` has what is pending, `recurring` what each later period costs; `resumesNow` begins a new period. */
export type InvoicePreviewQuery = {
  readonly customerId: string
  readonly subscriptionId: string | null
  readonly items: readonly SubscriptionItemParams[]
  readonly mode: 'next' | 'recurring'
  readonly prorationBehavior: ProrationBehavior | null
  readonly prorationAtUnix: number | null
  readonly trialEndUnix: number | 'now' | null
  readonly resetAnchor: boolean
  readonly cancelNow: boolean
  readonly resumesNow: boolean
  readonly ending: Pick<StripeMutations['update_subscription'], 'cancelAtPeriodEnd' | 'clearCancelAt'> | null
  readonly discounts: readonly DiscountParams[]
  /** What would be pending as well; of a later period's costs it is no part. */
  readonly invoiceItems: readonly InvoiceItemTerms[]
}

export type InvoicePreview = {
  readonly currency: string
  readonly subtotalMinor: number
  readonly totalMinor: number
  readonly amountDueMinor: number
  readonly startingBalanceMinor: number
  readonly periodEnd: Instant
  readonly lines: readonly InvoicePreviewLine[]
  /** Those of the whole invoice, in the order in which they come off; those of items are not among them. */
  readonly discounts: readonly DiscountSnapshot[]
}

export type InvoicePreviewLine = {
  readonly description: string | null
  readonly amountMinor: number
  readonly proration: boolean
  /** Whether discounts of the invoice come off it. */
  readonly discountable: boolean
  readonly priceId: string | null
  readonly productId: string | null
  /** Of the subscription. */
  readonly itemId: string | null
  readonly periodStart: Instant
  readonly periodEnd: Instant
}

import type { Instant } from '../../lib/clock.ts'
import { toInvoiceDiscounts, type Discounted, type DiscountSnapshot } from './discount-snapshots.ts'
import { usageLineOf, type InvoiceItemTerms } from './invoice-items.ts'
import type { DiscountParams, ProrationBehavior, StripeMutations, SubscriptionItemParams } from './mutations.ts'
import { fromUnix, idOf, type Metadata, type Reference } from './wire.ts'

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
  automaticTax: false,
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
  /** Of one that is not bought yet; a subscription says itself how it is taxed. */
  readonly automaticTax: boolean
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
  /** The line of our statement that an item for late use is; null of every other. */
  readonly usageLineId: string | null
  readonly periodStart: Instant
  readonly periodEnd: Instant
}

type WireInvoice = Discounted & {
  readonly currency: string
  readonly subtotal: number
  readonly total: number
  readonly amount_due: number
  readonly starting_balance: number
  readonly period_end: number
}

type WireLine = {
  readonly description: string | null
  readonly amount: number
  readonly discountable: boolean
  readonly metadata: Metadata | null
  readonly parent: {
    readonly subscription_item_details: { readonly proration: boolean; readonly subscription_item: string } | null
    readonly invoice_item_details: { readonly proration: boolean } | null
  } | null
  readonly pricing: { readonly price_details?: { readonly price: Reference; readonly product: string } } | null
  readonly period: { readonly start: number; readonly end: number }
}

/** @param lines all of them, which an invoice may have in pages */
export function toPreview(invoice: WireInvoice, lines: readonly WireLine[]): InvoicePreview {
  return {
    currency: invoice.currency,
    subtotalMinor: invoice.subtotal,
    totalMinor: invoice.total,
    amountDueMinor: invoice.amount_due,
    startingBalanceMinor: invoice.starting_balance,
    periodEnd: fromUnix(invoice.period_end),
    discounts: toInvoiceDiscounts(invoice),
    lines: lines.map((line) => ({
      description: line.description,
      amountMinor: line.amount,
      proration: (line.parent?.subscription_item_details ?? line.parent?.invoice_item_details)?.proration ?? false,
      discountable: line.discountable,
      priceId: idOf(line.pricing?.price_details?.price),
      productId: line.pricing?.price_details?.product ?? null,
      itemId: line.parent?.subscription_item_details?.subscription_item ?? null,
      usageLineId: usageLineOf(line.metadata),
      periodStart: fromUnix(line.period.start),
      periodEnd: fromUnix(line.period.end),
    })),
  }
}

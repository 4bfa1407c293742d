import type { PriceInterval } from '../catalog/define.ts'
import type { Instant } from '../lib/clock.ts'
import type { SubscriptionStatus } from '../standing/rules.ts'
import type { ItemTerms } from '../stripe/gateway/mutations.ts'

/** A price at which a plan can be bought now. */
export type Offer = {
  readonly planKey: string
  readonly interval: PriceInterval
  readonly priceId: string
  /** Minor units for one, per interval. */
  readonly amountMinor: number
  readonly currency: string
  /** null is of a customer's own, from before. */
  readonly soldSince: Instant | null
  /** Metered prices that bill the plan's overage, sold with it. */
  readonly usagePriceIds: readonly string[]
  /** The prices of add-ons at the same interval and in the same currency, by their keys. */
  readonly addOnPriceIds: Readonly<Record<string, string>>
}

/** An add-on on a subscription. */
export type AddOnItem = {
  readonly itemId: string
  readonly priceId: string
  readonly addOnKey: string
  readonly quantity: number
}

/** The subscription that counts, while it has not ended. */
export type CurrentSubscription = {
  readonly id: string
  readonly itemId: string
  readonly status: SubscriptionStatus
  readonly planKey: string
  readonly interval: PriceInterval
  readonly priceId: string
  readonly amountMinor: number
  readonly currency: string
  readonly quantity: number
  readonly currentPeriodStart: Instant
  readonly currentPeriodEnd: Instant
  readonly trialEndsAt: Instant | null
  readonly cancelAt: Instant | null
  /** How Stripe was told of the cancellation: to the period's end, or at a date. */
  readonly cancelAtPeriodEnd: boolean
  readonly scheduleId: string | null
  /** When the running phase of its schedule began: one that was made in Stripe's dashboard may go over many periods. Without a schedule, its period. */
  readonly phaseStartedAt: Instant
  readonly scheduledAt: Instant | null
  /** What it is scheduled to become; null where nothing of ours is scheduled. */
  readonly scheduled: Terms | null
  /** The open invoice that its first payment, a change of it, or its resumption waits for. */
  readonly waitingInvoiceId: string | null
  /** Whether the resumption with which the present period began was never paid. */
  readonly resumedUnpaid: boolean
  /** Whether invoices are made but not collected for now. */
  readonly collectionPaused: boolean
  /** Its metered items. */
  readonly usageItems: readonly { readonly itemId: string; readonly priceId: string }[]
  /** Of which balance metered prices bill the use, by the ids of all of them. */
  readonly billedBalances: Readonly<Record<string, string>>
  readonly addOnItems: readonly AddOnItem[]
  /** What is taken off it, and what is put on as tax, by Stripe's ids. */
  readonly discountIds: readonly string[]
  readonly taxRateIds: readonly string[]
  /** Whether Stripe Tax works it out. */
  readonly automaticTax: boolean
  /** By the items' ids. */
  readonly itemTerms: Readonly<Record<string, ItemTerms>>
}

/** What a code takes off (KF-12). */
export type Discount = {
  readonly code: string
  readonly couponId: string
  /** Hundredths of a percent: 1250 is 12.5 %. */
  readonly basisPointsOff: number | null
  readonly amountOffMinor: number | null
}

/** What is owed although the subscription that it was for has ended. */
export type Debt = { readonly invoiceId: string; readonly paymentUrl: string | null }

/** Everything that a plan change depends on. */
export type BillingState = {
  readonly subscription: CurrentSubscription | null
  /** Others that have not ended: of two pages that were paid in the same moment, say. */
  readonly otherSubscriptionIds: readonly string[]
  readonly debt: Debt | null
  readonly offers: readonly Offer[]
  /** At what the subscription is scheduled to be sold next. */
  readonly scheduledOffer: Offer | null
  /** Plans of the catalog, to tell one that is not offered from one that is not known. */
  readonly planKeys: ReadonlySet<string>
  readonly defaultPlanKey: string
  readonly hasPaymentMethod: boolean
  readonly hadSubscription: boolean
  readonly hadTrial: boolean
}

export type PlanChangePolicy = {
  /** Days of a trial where none are named; 0 gives none. Also the most that a customer may ask for. */
  readonly trialDays: number
  readonly downgradeAt: 'now' | 'period_end'
}

export type PlanChangeRequest =
  | {
      readonly kind: 'subscribe'
      readonly planKey: string
      readonly interval: PriceInterval | null
      readonly quantity: number
      readonly paymentMethodId: string | null
      /** null: none is asked for; without a payment method the policy's is given. */
      readonly trialDays: number | null
      /** Operators may give any trial, again and again. */
      readonly byOperator: boolean
      readonly discount: Discount | null
    }
  | {
      readonly kind: 'switch'
      readonly planKey: string
      readonly interval: PriceInterval | null
      readonly quantity: number | null
      readonly at: 'now' | 'period_end' | null
    }
  /** The same plan, interval and quantity at other prices, also where nobody else can buy it. */
  | ({ readonly kind: 'reprice'; readonly at: 'now' | 'period_end' } & Pick<Offer, 'priceId' | 'amountMinor' | 'usagePriceIds'>)
  | { readonly kind: 'cancel'; readonly immediate: boolean }
  | { readonly kind: 'undo_cancel' }
  | { readonly kind: 'undo_switch' }
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }

/** What a subscription sells. */
export type Terms = { readonly planKey: string; readonly interval: PriceInterval; readonly quantity: number }

export type SwitchDirection = 'upgrade' | 'downgrade' | 'interval'

/** A plan change, worked out but not carried out. */
export type PlanChange =
  | {
      readonly kind: 'start'
      readonly offer: Offer
      readonly quantity: number
      readonly trialDays: number | null
      readonly paymentMethodId: string | null
      readonly discount: Discount | null
      /** A subscription that never came to life, or is paused after its trial, makes room. */
      readonly replaces: CurrentSubscription | null
    }
  | {
      readonly kind: 'switch_now'
      readonly subscription: CurrentSubscription
      readonly direction: SwitchDirection
      readonly from: Terms
      readonly to: Terms
      readonly offer: Offer
      /** Whether the difference is invoiced and paid in this moment; otherwise it goes onto the next invoice. */
      readonly invoiceNow: boolean
      /** A change of plan is a wish to stay. */
      readonly undoesCancel: boolean
      readonly releasesScheduleId: string | null
    }
  | {
      readonly kind: 'switch_at_period_end'
      readonly subscription: CurrentSubscription
      readonly direction: SwitchDirection
      readonly from: Terms
      readonly to: Terms
      readonly offer: Offer
      readonly at: Instant
      readonly undoesCancel: boolean
      readonly scheduleId: string | null
    }
  | {
      readonly kind: 'cancel_now'
      readonly subscription: CurrentSubscription
      readonly otherSubscriptionIds: readonly string[]
    }
  | {
      readonly kind: 'cancel_at_period_end'
      readonly subscription: CurrentSubscription
      readonly at: Instant
      readonly otherSubscriptionIds: readonly string[]
    }
  | { readonly kind: 'undo_cancel'; readonly subscription: CurrentSubscription }
  | { readonly kind: 'undo_switch'; readonly subscription: CurrentSubscription; readonly scheduleId: string }
  | { readonly kind: 'pause'; readonly subscription: CurrentSubscription }
  | {
      readonly kind: 'resume'
      readonly subscription: CurrentSubscription
      /** Whether the period that was paid for still runs, and goes on; otherwise a new one begins and is paid. */
      readonly keepsPeriod: boolean
    }
  | { readonly kind: 'none'; readonly reason: string }

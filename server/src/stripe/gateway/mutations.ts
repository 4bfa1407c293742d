import type { InvoiceItemParams } from './invoice-items.ts'
import type { CallPriority } from './limiter.ts'

export type ProrationBehavior = 'always_invoice' | 'create_prorations' | 'none'

export type SubscriptionItemParams = {
  /** The item to change; null adds one. */
  readonly itemId: string | null
  readonly priceId: string
  /** Always sent for a licensed price: swapping one without it resets it to 1. null is a metered price. */
  readonly quantity: number | null
  /** Takes the item out; what was used of a metered one is billed. */
  readonly removed?: true
  /** Of one that is added: those of the item whose place it takes. */
  readonly taxRateIds?: readonly string[]
}

export type DiscountParams = { readonly couponId: string } | { readonly promotionCodeId: string }

/** What happens when a trial ends and no payment method is there. */
export type TrialEndBehavior = 'cancel' | 'create_invoice' | 'pause'

/** `line1` may stand for all of it but the country, which is two capitals (ISO 3166-1); what is not there is empty. */
export type Address = {
  readonly line1: string
  readonly line2: string
  readonly city: string
  readonly postal_code: string
  readonly state: string
  readonly country: string
}

/** Of an intent that was kept by an earlier version, none. */
type Taxed = {
  /** Stripe Tax works out the tax (STRIPE_AUTOMATIC_TAX); a page asks for address and tax id. */
  readonly automaticTax?: boolean
}

/** Every change that Tollgate makes at Stripe, with its parameters as JSON holds them, so that an intent can be stored and repeated. */
export type StripeMutations = {
  readonly create_customer: {
    readonly email: string
    readonly name: string
    readonly testClockId: string | null
    readonly metadata: Readonly<Record<string, string>>
  }
  readonly update_customer: {
    readonly customerId: string
    readonly email?: string
    readonly name?: string
    readonly address?: Address
    readonly defaultPaymentMethodId?: string
  }
  readonly create_tax_id: { readonly customerId: string } & TaxId
  readonly delete_tax_id: { readonly customerId: string; readonly taxId: string }
  /** Lowers what the customer's next invoices ask for. */
  readonly credit_customer: {
    readonly customerId: string
    /** More than zero. */
    readonly amountMinor: number
    readonly currency: string
    readonly description: string
    readonly metadata: Readonly<Record<string, string>>
  }
  readonly attach_payment_method: { readonly customerId: string; readonly paymentMethodId: string }
  readonly detach_payment_method: { readonly paymentMethodId: string }
  readonly create_checkout_session: {
    readonly customerId: string
    readonly priceId: string
    readonly quantity: number
    /** Metered prices that are sold with it. */
    readonly usagePriceIds: readonly string[]
    readonly successUrl: string
    readonly cancelUrl: string
    readonly trialDays: number | null
    readonly allowPromotionCodes: boolean
    readonly reference: string
    readonly metadata: Readonly<Record<string, string>>
  } & Taxed
  /** Takes a payment with a saved method, now, without anybody there to be asked. */
  readonly create_payment: {
    readonly customerId: string
    readonly paymentMethodId: string
    /** With its tax, where that was calculated. */
    readonly amountMinor: number
    readonly currency: string
    readonly description: string
    readonly metadata: Readonly<Record<string, string>>
    /** What the amount comes from: Stripe records its tax once it is paid, and takes it back as it is refunded. */
    readonly taxCalculationId?: string
  }
  /** A hosted page for one payment; the method is kept for later ones. */
  readonly create_payment_page: {
    readonly customerId: string
    /** An existing price, or what to show and take. */
    readonly price: string | { readonly name: string; readonly unitAmountMinor: number; readonly currency: string }
    readonly quantity: number
    readonly successUrl: string
    readonly cancelUrl: string
    readonly reference: string
    readonly metadata: Readonly<Record<string, string>>
  } & Taxed
  readonly expire_checkout_session: { readonly sessionId: string }
  readonly create_portal_session: { readonly customerId: string; readonly returnUrl: string }
  readonly create_setup_intent: { readonly customerId: string; readonly metadata: Readonly<Record<string, string>> }
  readonly create_subscription: {
    readonly customerId: string
    readonly items: readonly SubscriptionItemParams[]
    readonly paymentMethodId: string | null
    readonly trialDays: number | null
    readonly trialEndBehavior: TrialEndBehavior
    readonly paymentBehavior: 'error_if_incomplete' | 'default_incomplete' | 'allow_incomplete'
    readonly discounts: readonly DiscountParams[]
    readonly metadata: Readonly<Record<string, string>>
  } & Taxed
  readonly update_subscription: {
    readonly subscriptionId: string
    readonly items?: readonly SubscriptionItemParams[]
    readonly prorationBehavior?: ProrationBehavior
    readonly prorationAtUnix?: number
    readonly paymentBehavior?: 'error_if_incomplete' | 'allow_incomplete' | 'pending_if_incomplete'
    readonly cancelAtPeriodEnd?: boolean
    /** Clears a cancellation at a date, which a flexible portal sets instead of cancelAtPeriodEnd. */
    readonly clearCancelAt?: boolean
    readonly trialEndUnix?: number | 'now'
    readonly defaultPaymentMethodId?: string
    readonly pauseCollection?: 'void' | 'keep_as_draft' | 'mark_uncollectible' | 'none'
    readonly discounts?: readonly DiscountParams[]
    readonly metadata?: Readonly<Record<string, string>>
    /** Not for Stripe, which lets both be: the schedule that goes once the update has come about. */
    readonly supersedesScheduleId?: string
    /** Not for Stripe: the invoice items that its invoice takes along, to be made again where that is voided. */
    readonly pendingItemIds?: readonly string[]
  } & AfterRelease
  readonly cancel_subscription: { readonly subscriptionId: string; readonly prorate: boolean; readonly invoiceNow: boolean }
  /** Makes a schedule of a subscription, with its running phase as the first. */
  readonly create_schedule: { readonly subscriptionId: string } & AfterRelease
  /** Keeps what runs until `switchAtUnix` and then sells `next`, with the same discounts and tax rates: those that are not named end. */
  readonly schedule_switch: {
    readonly scheduleId: string
    readonly current: RunningPhase
    readonly switchAtUnix: number
    readonly next: readonly PhaseItem[]
    readonly discountIds: readonly string[]
    /** Of an intent that was kept by an earlier version, none; so in `schedule_end`. */
    readonly taxRateIds?: readonly string[]
    readonly metadata: Readonly<Record<string, string>>
  } & Taxed &
    AfterRelease
  /** Keeps what runs until `endAtUnix`, and then ends the subscription. */
  readonly schedule_end: {
    readonly scheduleId: string
    readonly current: RunningPhase
    readonly endAtUnix: number
    readonly discountIds: readonly string[]
    readonly taxRateIds?: readonly string[]
  } & Taxed
  readonly update_schedule_method: { readonly scheduleId: string; readonly defaultPaymentMethodId: string }
  /** The subscription stays as it is, also where it is to end. */
  readonly release_schedule: {
    readonly scheduleId: string
    /** Not for Stripe: what the schedule had ahead, to be brought back where that for which it is released does not come about. */
    readonly restores?: ReleasedPhase
  }
  /** What was paid for stays paid: no unused time is credited. Use is billed up to now. */
  readonly pause_subscription: { readonly subscriptionId: string } & AfterRelease
  /** Goes on with the period that is paid for, or begins a new one. */
  readonly resume_subscription: {
    readonly subscriptionId: string
    readonly keepsPeriod?: boolean
    /** As of an update. */
    readonly pendingItemIds?: readonly string[]
  }
  /** Puts an amount onto the next invoice. */
  readonly create_invoice_item: InvoiceItemParams
  readonly pay_invoice: { readonly invoiceId: string; readonly paymentMethodId: string | null }
  readonly void_invoice: { readonly invoiceId: string }
  readonly create_test_clock: { readonly name: string; readonly nowUnix: number }
  readonly advance_test_clock: { readonly testClockId: string; readonly toUnix: number }
  readonly create_product: {
    readonly name: string
    readonly description: string
    readonly metadata: Readonly<Record<string, string>>
  }
  readonly update_product: { readonly productId: string; readonly name: string; readonly description: string }
  readonly create_price: {
    readonly productId: string
    readonly currency: string
    readonly unitAmountMinor: number
    readonly interval: 'month' | 'year'
    readonly lookupKey: string
    readonly metadata: Readonly<Record<string, string>>
  }
  readonly create_usage_price: {
    readonly productId: string
    readonly currency: string
    readonly meterId: string
    readonly terms: UsageTerms
    readonly lookupKey: string
    readonly metadata: Readonly<Record<string, string>>
  }
  /** Sells a price of before again, under the name by which it is found. */
  readonly sell_price: { readonly priceId: string; readonly lookupKey: string }
  readonly create_meter: { readonly name: string; readonly eventName: string; readonly formula: 'sum' | 'last' }
  readonly create_coupon: {
    readonly couponId: string
    readonly name: string
    readonly percentOff: string | null
    readonly amountOffMinor: number | null
    readonly currency: string | null
    readonly duration: 'once' | 'repeating' | 'forever'
    readonly durationInMonths: number | null
    readonly maxRedemptions: number | null
  }
  /** Lets people type the coupon in on Stripe's pages. */
  readonly create_promotion_code: { readonly couponId: string; readonly code: string }
}

/** What use costs per month, as Stripe has it; unit amounts are decimal texts of minor units. */
export type UsageTerms =
  | { readonly scheme: 'per_unit'; readonly unitAmount: string; readonly packageSize: number | null }
  | {
      readonly scheme: 'graduated' | 'volume'
      readonly tiers: readonly { readonly upTo: number | null; readonly unitAmount: string; readonly flatAmountMinor: number }[]
    }

/** `quantity` null is a metered price: use decides it. */
export type PhaseItem = { readonly priceId: string; readonly quantity: number | null } & Partial<ItemTerms>

/** What an item of a subscription has of its own beside its price, by Stripe's ids. */
export type ItemTerms = { readonly taxRateIds: readonly string[]; readonly discountIds: readonly string[] }

/** What a schedule sells now; its start is what Stripe has, and is not changed. */
export type RunningPhase = {
  readonly items: readonly PhaseItem[]
  readonly startUnix: number
  /** It is a trial until its end. */
  readonly isTrial?: boolean
}

/** `next` was to be sold from `switchAtUnix` on, in place of the plan's `running` item. */
export type ReleasedPhase = {
  readonly subscriptionId: string
  readonly running: PhaseItem
  readonly switchAtUnix: number
  readonly next: readonly PhaseItem[]
}

/** Not for Stripe: the schedule that was released for it, or whose next phase it brings back. */
type AfterRelease = { readonly releasedScheduleId?: string }

export type MutationKind = keyof StripeMutations

export type MutationCall = { readonly idempotencyKey: string; readonly priority?: CallPriority }

/** By Stripe's names, `eu_vat` and `DE123456789` say: https://docs.stripe.com/billing/customer/tax-ids */
export type TaxId = { readonly type: string; readonly value: string }

/** What is kept of an answer; everything else is refetched into the mirror. */
export type MutationResult = {
  readonly id: string
  readonly status: string | null
  readonly url: string | null
  /** For the browser that asked; never stored. */
  readonly clientSecret: string | null
  /** Of an update: the subscription's latest invoice, which one that waits for the bank waits for. */
  readonly invoiceId?: string | null
}

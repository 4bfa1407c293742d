import type { Debit } from '../billing/proration.ts'
import type { LineItem, SubscriptionItem } from '../wire.gen.ts'

/** An item as its subscription holds it: ids where the wire embeds objects. */
export type StoredSubscriptionItem = Omit<SubscriptionItem, 'plan' | 'price' | 'tax_rates'> & {
  readonly price: string
  readonly tax_rates: readonly string[]
  readonly _: {
    /** What was debited for time that is not over, and not credited: flexible mode credits these. */
    readonly debits: readonly Debit[]
    /** Since when a metered item counts its usage, where that is later than its period's start: it was added or re-priced then. */
    readonly usageFrom?: number
  }
}

/** A line as its invoice holds it. */
export type StoredLine = LineItem & {
  readonly _: {
    readonly product: string | null
    /** Credit grants pay for these. */
    readonly metered: boolean
    /** Lines with the same key share the discounts of one item. */
    readonly itemKey: string
    readonly taxRates: readonly string[]
    /** True for a period's first billing: what a later change credits. */
    readonly debit: boolean
    readonly taxAmounts: LineItem['taxes']
    /** For automatic tax, of a line without a price. */
    readonly taxBehavior?: string | null
    readonly taxCode?: string | null
  }
}

/** A change that waits for its invoice to be paid (`payment_behavior: pending_if_incomplete`). */
export interface PendingUpdate {
  readonly expiresAt: number
  readonly invoice: string
  readonly items: readonly StoredSubscriptionItem[] | null
  readonly billingCycleAnchor: number | null
  /** Whether it is to end with its period once the change is made; null leaves that as it is. */
  readonly cancelAtPeriodEnd: boolean | null
  readonly trialEnd: number | null
}

/** Stored forms of the billing objects: subscriptions, invoices, coupons, schedules, test clocks. */
export interface BillingShapes {
  subscription: {
    items: never
    pending_update: never
    default_tax_rates: readonly string[]
    _: {
      readonly items: readonly StoredSubscriptionItem[]
      /** The day of the month that was asked for, where the anchor's month is too short for it. */
      readonly anchorDay: number | null
      /** The trial end that was announced. */
      readonly trialEndAnnounced: number | null
      /** The renewal that was announced with `invoice.upcoming`. */
      readonly renewalAnnounced: number | null
      readonly pendingUpdate: PendingUpdate | null
      /** Unix second at which an unpaid first invoice ends it. */
      readonly incompleteUntil: number | null
      /** The period's end was asked for, rather than a date. */
      readonly checkoutSession: string | null
    }
  }
  subscription_item: { plan: never; price: string; tax_rates: readonly string[]; _: StoredSubscriptionItem['_'] }
  invoice: {
    lines: never
    payments: never
    confirmation_secret: never
    default_tax_rates: readonly string[]
    _: {
      readonly lines: readonly StoredLine[]
      readonly subscription: string | null
      /** Set by `discounts` on the invoice itself; otherwise they are inherited. */
      readonly firstAttemptAt: number | null
      readonly automaticAttempts: number
      /** The next automatic attempt, also when none is shown because only another payment method can help. */
      readonly retryAt: number | null
      /** The payment method whose last decline was final. */
      readonly hardDeclined: string | null
      readonly offSession: boolean
      readonly overdueAnnounced: boolean
      readonly creditNotes: number
      readonly paidOutOfBand: boolean
      /** Credit grants drawn, with the transaction that did it. */
      readonly credits: ReadonlyArray<{
        readonly grant: string
        readonly line: string
        readonly amount: number
        readonly transaction: string | null
      }>
    }
  }
  invoiceitem: {
    tax_rates: readonly string[]
    _: {
      readonly subscription: string | null
      readonly product: string | null
      readonly metered: boolean
      /** For Stripe Tax, of an item without a price that says both; Stripe shows neither. */
      readonly taxBehavior: string | null
      readonly taxCode: string | null
    }
  }
  coupon: { valid: never }
  discount: {
    _: {
      /** Taken off: kept, because invoices name it. */
      readonly ended: boolean
      /** `once`: the invoice that used it up. */
      readonly usedBy: string | null
    }
  }
  credit_note: {
    lines: never
    _: { readonly lines: ReadonlyArray<Record<string, unknown> & { readonly id: string }> }
  }
  subscription_schedule: {
    _: {
      /** Index of the phase that runs, -1 before the first. */
      readonly phase: number
      /** The end that was announced with `subscription_schedule.expiring`. */
      readonly expiryAnnounced: number | null
    }
  }
}

import type { Params } from '../wire.gen.ts'

type TaxIdParam = NonNullable<Params['POST /v1/customers']['tax_id_data']>[number]
type SessionParams = Params['POST /v1/checkout/sessions']

/** A checkout line as it was asked for, its price already made. */
export interface CheckoutItem {
  readonly id: string
  readonly price: string
  readonly quantity: number
  readonly adjustable: { enabled: boolean; maximum: number | null; minimum: number | null } | null
  readonly metadata: Record<string, string>
  readonly taxRates: readonly string[]
}

/** Stored forms of the payment objects: payment methods, intents, charges, refunds, disputes, checkout and portal sessions. */
export interface PaymentShapes {
  payment_method: {
    _: {
      /** Key of the row of `payments/test-cards.ts` that says how the card behaves; null for other kinds of method. */
      card: string | null
      /** Key of the row of `payments/test-accounts.ts`; absent for cards. */
      account?: string
      /** The holder authenticated a later use without them being there. */
      setUp: boolean
      /** Used once without a customer, or detached: Stripe lets it not be used again. */
      spent: boolean
    }
  }
  payment_intent: {
    _: {
      /** The invoice that the intent pays. */
      invoice: string | null
      checkoutSession: string | null
      returnUrl: string | null
      offSession: boolean
      /** An unanswered 3D Secure challenge stands. */
      challenged: boolean
      /** When the bank answers the debit that is under way, in Unix seconds; null for one that never answers. */
      debitAnsweredAt?: number | null
    }
  }
  setup_intent: {
    _: {
      /** The subscription whose `pending_setup_intent` this is. */
      subscription: string | null
      checkoutSession: string | null
      returnUrl: string | null
    }
  }
  charge: { refunds: never }
  dispute: { balance_transactions: never; _: { balanceTransactions: readonly string[] } }
  /** The test behaviour that a refund still has before it. */
  refund: { _: { next: { readonly at: number; readonly status: 'succeeded' | 'failed' } | null } }
  balance_transaction: { status: never; _: { customer: string | null } }
  'checkout.session': {
    line_items: never
    _: {
      items: readonly CheckoutItem[]
      subscriptionData: NonNullable<SessionParams['subscription_data']>
      paymentIntentData: NonNullable<SessionParams['payment_intent_data']>
      setupIntentData: NonNullable<SessionParams['setup_intent_data']>
      invoiceData: NonNullable<NonNullable<SessionParams['invoice_creation']>['invoice_data']>
      customerUpdate: { address?: 'auto' | 'never'; name?: 'auto' | 'never'; shipping?: 'auto' | 'never' }
      /** The code that the visitor entered, which they may remove again; null when none. */
      promotionCode: string | null
      /** What the visitor said of where they are and of their business, kept because the sums follow from it. */
      collected?: {
        readonly address: Record<'city' | 'country' | 'line1' | 'line2' | 'postal_code' | 'state', string | null>
        readonly businessName: string | null
        readonly taxId: Readonly<TaxIdParam> | null
      } | null
      /** What the visitor sent with the form, kept while a 3D Secure challenge is open. Holds no card number. */
      challenge: {
        readonly paymentMethod: string
        readonly email: string
        readonly name: string | null
        readonly address: Record<'city' | 'country' | 'line1' | 'line2' | 'postal_code' | 'state', string | null> | null
        readonly custom: Record<string, string>
      } | null
    }
  }
  'billing_portal.session': { _: { token: string; /** The flow that it was made for is done. */ completed: boolean } }
}

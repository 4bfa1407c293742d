import type { Instant } from '../../lib/clock.ts'
import type { AccountList, AccountPage, AccountQuery } from './account-lists.ts'
import type { InvoiceItemSnapshot } from './invoice-items.ts'
import type { InvoicePreview, InvoicePreviewQuery } from './invoice-previews.ts'
import type { MutationCall, MutationKind, MutationResult, StripeMutations } from './mutations.ts'
import type { ChargeSnapshot, DisputeSnapshot, PaymentMethodSnapshot } from './payment-snapshots.ts'
import type { ScheduleSnapshot } from './schedule-snapshots.ts'
import type { CustomerSnapshot, InvoiceSnapshot, ListedSubscription } from './snapshots.ts'
import type { TaxReads } from './tax-reads.ts'

/**
 * Stripe as Tollgate uses it. One implementation (`client.ts`) speaks to Stripe or to the sandbox; both are driven by the same contract
 * tests. Everything here is plain data: no type of the SDK passes this line. Errors of every function (see `errors.ts`):
 * `stripe_unavailable`, `stripe_failed`, `payment_failed`, `payment_method_missing`, `invalid_request`.
 */
export type StripeGateway = {
  /** `live` or `test`, read off the key. */
  readonly mode: 'live' | 'test'
  /** How many calls this process makes at most. */
  readonly callsPerSecond: number
  readonly reads: StripeReads
  /** The same reads behind the calls that people wait for. */
  readonly backgroundReads: StripeReads
  /** Carries out a change. Always through `intents/intents.ts`, which stores the key first. */
  perform<Kind extends MutationKind>(kind: Kind, params: StripeMutations[Kind], call: MutationCall): Promise<MutationResult>
  /**
   * Reports use. Its own outbox stores the event before (`pricing/`). `duplicate`: Stripe had it already; it remembers an
   * identifier for a day at least.
   */
  sendMeterEvent(event: MeterEvent): Promise<'accepted' | 'duplicate'>
  /**
   * Checks the signature over the raw body and reads the event's envelope.
   * @throws DomainError `invalid_signature`, `invalid_request` for a signed body that is no event
   */
  verifyWebhook(rawBody: string | Buffer, signature: string, secrets: readonly string[]): WebhookEnvelope
}

export type StripeReads = TaxReads & {
  /** A deleted customer is answered as such; one that never was is null. */
  retrieveCustomer(customerId: string): Promise<CustomerSnapshot | null>
  /** Customers with this e-mail address, newest first; those of a test clock only when it is named. */
  findCustomers(query: { email: string; testClockId: string | null }): Promise<CustomerSnapshot[]>
  /** All of them, canceled ones too (a backfill without status=all misses those). */
  listSubscriptions(customerId: string): Promise<ListedSubscription[]>
  retrieveInvoice(invoiceId: string): Promise<InvoiceSnapshot | null>
  /** Newest first; `limit` null is all. */
  listInvoices(customerId: string, limit: number | null): Promise<InvoiceSnapshot[]>
  /** Changes of the customer's balance, newest first. */
  listBalanceTransactions(customerId: string): Promise<readonly BalanceTransaction[]>
  /** What waits for the customer's next invoice. */
  listPendingItems(customerId: string): Promise<readonly InvoiceItemSnapshot[]>
  listItemsOfInvoice(invoiceId: string): Promise<readonly InvoiceItemSnapshot[]>
  /** The customer's invoice items, billed or not; newest first. */
  listInvoiceItems(customerId: string): Promise<readonly InvoiceItemSnapshot[]>
  listPaymentMethods(customerId: string): Promise<PaymentMethodSnapshot[]>
  retrieveCharge(chargeId: string): Promise<ChargeSnapshot | null>
  listDisputes(chargeId: string): Promise<DisputeSnapshot[]>
  /** Newest first; `limit` null is all. */
  listCharges(customerId: string, limit: number | null): Promise<ChargeSnapshot[]>
  previewInvoice(query: InvoicePreviewQuery): Promise<InvoicePreview>
  retrieveSchedule(scheduleId: string): Promise<ScheduleSnapshot | null>
  retrieveTestClock(testClockId: string): Promise<TestClockSnapshot>
  retrieveCoupon(couponId: string): Promise<CouponSnapshot | null>
  /** Meters that are active. */
  listMeters(): Promise<readonly MeterSnapshot[]>
  /** What a meter has counted of a customer from `start` inclusive to `end` exclusive (whole minutes), as a decimal text. */
  readMeter(query: { meterId: string; customerId: string; start: Instant; end: Instant }): Promise<string>
  /** What Stripe found wrong with reports after it had taken them; the newest hundred, newest first. */
  listMeterFaults(): Promise<readonly MeterFault[]>
  listProducts(): Promise<ProductSnapshot[]>
  /** Recurring prices, archived ones too; newest first. */
  listPrices(): Promise<PriceSnapshot[]>
  retrievePrice(priceId: string): Promise<PriceSnapshot | null>
  /** Events of the last 30 days at most, newest first, one page at a time. */
  listEvents(query: { since: Instant; startingAfter: string | null }): Promise<EventPage>
  /** A page of at most a hundred of one of the account's lists, newest first. */
  listPage(list: AccountList, query: AccountQuery): Promise<AccountPage>
}

export type WebhookEnvelope = {
  readonly id: string
  readonly type: string
  readonly livemode: boolean
  readonly createdAt: Instant
  readonly objectType: string
  readonly objectId: string | null
  readonly customerId: string | null
}

export type EventPage = {
  readonly events: readonly { readonly envelope: WebhookEnvelope; readonly payload: string }[]
  readonly hasMore: boolean
}

export type BalanceTransaction = { readonly id: string; readonly metadata: Readonly<Record<string, string>> }

export type ProductSnapshot = {
  readonly id: string
  readonly name: string
  readonly description: string | null
  readonly active: boolean
  readonly metadata: Readonly<Record<string, string>>
}

export type MeterSnapshot = { readonly id: string; readonly eventName: string }

/** Use as Stripe's meters take it: `value` is a decimal text, `at` whole seconds. */
export type MeterEvent = {
  readonly identifier: string
  readonly eventName: string
  readonly customerId: string
  readonly value: string
  readonly at: Instant
}

/** Reports of use that Stripe took and does not count. */
export type MeterFault = {
  readonly eventId: string
  readonly type: string
  readonly livemode: boolean
  /** null when Stripe knows no such meter. */
  readonly meterId: string | null
  /** The event as Stripe answered it. */
  readonly payload: string
  readonly createdAt: Instant
  readonly summary: string
  readonly count: number
  /** Some of the reports, with what is wrong. */
  readonly samples: readonly { readonly identifier: string; readonly code: string }[]
}

export type PriceSnapshot = {
  readonly id: string
  readonly productId: string
  readonly active: boolean
  readonly currency: string
  readonly unitAmountMinor: number | null
  readonly interval: string | null
  readonly intervalCount: number
  readonly lookupKey: string | null
  /** The meter that decides the quantity; null for a price with a given quantity. */
  readonly meterId: string | null
  /** A decimal text; null for a price of tiers. */
  readonly unitAmountDecimal: string | null
  readonly metadata: Readonly<Record<string, string>>
}

export type CouponSnapshot = {
  readonly id: string
  /** A decimal text, e.g. `12.5`. */
  readonly percentOff: string | null
  readonly amountOffMinor: number | null
  readonly currency: string | null
  readonly duration: string
  readonly durationInMonths: number | null
  readonly maxRedemptions: number | null
  readonly timesRedeemed: number
  /** Whether it can still be redeemed. */
  readonly valid: boolean
}

export type TestClockSnapshot = {
  readonly id: string
  readonly status: 'advancing' | 'ready' | 'internal_failure'
  readonly now: Instant
}

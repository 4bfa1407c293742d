/**
 * Rules about payments that no page of Stripe's documentation states, each one function or constant with its doubt.
 * A rule that is documented does not belong here.
 */

const DAY_SECONDS = 86_400

/**
 * Stripe's fee on a card payment: 2.9 % + 30 minor units, the percentage rounded half up.
 * Doubt: the standard price of a US account; other countries, cards and contracts pay otherwise.
 */
export function processingFee(amount: number): number {
  return Math.min(amount, Math.floor((amount * 29 + 500) / 1000) + 30)
}

/** What a dispute costs, in minor units. Doubt: 15.00 in US dollars is documented, other currencies are not. */
export const disputeFee = 1500

/** When a payment's money becomes available. Doubt: two days is a US account's schedule; weekends are not looked at. */
export function availableOn(created: number): number {
  return created + 2 * DAY_SECONDS
}

/** Until when a dispute can be answered. Doubt: it depends on network and reason; nine days is common. */
export function disputeDueBy(created: number): number {
  return created + 9 * DAY_SECONDS
}

/** How long an authorized payment can be captured. Source for Visa: 7 days; other networks differ. */
export function captureBefore(created: number): number {
  return created + 7 * DAY_SECONDS
}

/**
 * When the bank of a test account answers a debit, in seconds after it was made.
 * Doubt: a real one takes up to four business days; of test accounts Stripe says only that they take some time.
 */
export const debitAnsweredAfterSeconds = 180

/**
 * A charge says that it is captured and paid while its debit is under way.
 * Doubt: captured is seen in recordings; paid is said to mean that a charge succeeded, which older recordings of bank debits contradict.
 */
export function debitUnderWayIsPaid(): boolean {
  return true
}

/**
 * A subscription that waits for its first payment becomes active when the debit that pays it is under way.
 * Doubt: the page of statuses says that it can be incomplete with a payment under way; whoever uses it sees it active.
 */
export function debitUnderWayActivates(): boolean {
  return true
}

/** When a refund of the "pending" and "fails" test cards reaches its end. Doubt: Stripe says "some time later". */
export const refundSettlesAfterSeconds = 60

/** Radar's score of a payment. Doubt: only the levels are documented: 65 and up elevated, 75 and up highest. */
export function riskScore(risk: 'normal' | 'elevated' | 'highest'): number {
  return { normal: 20, elevated: 65, highest: 85 }[risk]
}

/**
 * How long a portal session can be used, on the sandbox's own clock.
 * Doubt: Stripe ends a session after an hour without activity, and a link that nobody opened after five minutes; here it is an hour.
 */
export const portalSessionSeconds = 3600

/**
 * A card that is replaced in the portal also becomes the default of the customer's subscriptions that had a default of their own.
 * Doubt: documented only for the customer's own default; without it the new card would not be used by subscriptions from Checkout.
 */
export function portalCardReplacesSubscriptionDefaults(): boolean {
  return true
}

/**
 * A pause of the portal that ends by itself stops the collection (`pause_collection`, `void`) until then; one without an end pauses
 * the subscription itself. Doubt: the portal's pause is new, and what it does to the subscription is not stated.
 */
export function portalPauseKeepsStatus(isIndefinite: boolean): boolean {
  return !isIndefinite
}

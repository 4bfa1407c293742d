/**
 * Rules that no page of Stripe's documentation states, each one function (or one constant) with its doubt.
 * Whoever learns better changes one place. A rule that is documented does not belong here.
 */
import type { TaxReason } from './automatic-tax.ts'
import { type Decimal, DECIMAL_SCALE, roundHalfAwayFromZero, roundHalfDown, toSafeInteger } from './decimal.ts'
import { addMonths, DAY_SECONDS, HOUR_SECONDS } from './periods.ts'

/**
 * A prorated line is rounded to the nearest minor unit; a tie goes down: ⌈x − ½⌉.
 * Doubt: fits the recordings known to us; half-to-even and half-up fit most of them as well.
 */
export function roundProration(numerator: bigint, denominator: bigint): bigint {
  return roundHalfDown(numerator, denominator)
}

/**
 * `unit_amount_decimal` × quantity is rounded once per line, ties away from zero.
 * Doubt: the documentation says that the line is rounded, not which way a tie goes.
 */
export function roundLineAmount(scaledAmount: bigint, scale: bigint): number {
  return toSafeInteger(roundHalfAwayFromZero(scaledAmount, scale))
}

/**
 * A percent discount is rounded per line, ties away from zero.
 * Doubt: rounding the total and apportioning it would differ by a minor unit on some invoices with several lines.
 */
export function percentOfLine(amount: bigint, percent: Decimal): bigint {
  return roundHalfAwayFromZero(amount * percent, 100n * DECIMAL_SCALE)
}

/**
 * Tax is rounded per line and rate, ties away from zero. `includedPercent` is the sum of the rates that the amount already
 * includes: 0 for an exclusive rate.
 * Doubt: Stripe has a setting for rounding on the line or on the total; this is the default as far as known.
 */
export function taxOfLine(taxable: bigint, percent: Decimal, includedPercent: Decimal): bigint {
  return roundHalfAwayFromZero(taxable * percent, 100n * DECIMAL_SCALE + includedPercent)
}

/**
 * Of a line that automatic tax found not to be taxed, nothing is taxable.
 * Doubt: seen for `not_collecting`; taken for the other reasons as well.
 */
export function taxableAmountOf(amount: number, reason: TaxReason | undefined): number {
  return reason === undefined || reason === 'standard_rated' ? amount : 0
}

/**
 * Rates that automatic tax made can be retrieved; lists have the account's own rates only.
 * Doubt: Stripe does not say whether it lists them.
 */
export function listsAutomaticTaxRates(): boolean {
  return false
}

/**
 * With no usage at all, a tiered price charges the flat amount of its first tier.
 * Doubt: seen in invoices of metered prices; not stated for licensed prices of quantity 0.
 */
export function chargesFirstFlatAtZero(): boolean {
  return true
}

/**
 * Smart retries try 8 times within 2 weeks of the first attempt; these are the offsets from the first attempt, in seconds.
 * Doubt: Stripe picks the moments by a model that nobody outside can repeat; the count and the span are documented.
 */
export function smartRetryOffsets(): readonly number[] {
  return [1, 3, 5, 7, 9, 11, 13, 14].map((days) => days * DAY_SECONDS)
}

/**
 * A `repeating` coupon ends the given number of calendar months after it starts, with the day clamped to the month's last.
 * Doubt: the clamp is that of billing periods, which the documentation does not repeat for coupons.
 */
export function repeatingCouponEnd(start: number, months: number): number {
  return addMonths(start, months)
}

/**
 * Changing an item to another interval resets the anchor to now in classic mode, and leaves it in flexible mode.
 * Doubt: the changelog says that flexible mode does not reset the anchor "during other operations" without naming them all.
 */
export function intervalChangeResetsAnchor(mode: 'classic' | 'flexible'): boolean {
  return mode === 'classic'
}

/**
 * An update that changes an item's interval is invoiced at once, also with `create_prorations`, in both modes.
 * Doubt: documented for classic mode only.
 */
export function intervalChangeInvoicesNow(): boolean {
  return true
}

/**
 * `invoice.upcoming` comes this long before a renewal.
 * Doubt: none about the number, which is an account setting (3, 7, 15, 30 or 45 days); 7 is what new accounts have.
 */
export const UPCOMING_INVOICE_NOTICE_SECONDS = 7 * DAY_SECONDS

/**
 * A renewal's draft is finalized this long after it was made.
 * Doubt: Stripe says "about one hour"; an exact hour makes runs repeatable.
 */
export const DRAFT_SECONDS = HOUR_SECONDS

/**
 * The first invoice after a trial is a draft for an hour, as a renewal's is.
 * Doubt: the documentation calls it a renewal without repeating the hour.
 */
export function trialEndInvoiceIsDraftForAnHour(): boolean {
  return true
}

/**
 * What follows when all retries failed, unless the account's settings say otherwise.
 * Doubt: accounts differ; new ones are said to cancel the subscription.
 */
export const DEFAULT_EXHAUSTED_BEHAVIOR: 'cancel' | 'unpaid' | 'past_due' = 'cancel'

/**
 * A classic-mode proration splits an amount-off discount of the subscription evenly over its items; what does not divide
 * goes to the last item.
 * Doubt: "distributed evenly" is documented, where the remainder goes is not.
 */
export function evenShares(amount: bigint, parts: number): bigint[] {
  if (parts === 0) return []
  const share = amount / BigInt(parts)
  return Array.from({ length: parts }, (_, index) => (index === parts - 1 ? amount - share * BigInt(parts - 1) : share))
}

/**
 * An invoice whose amount due is positive and below the currency's minimum is marked paid, and what it asked for is moved
 * to the customer's balance, to be collected with the next one.
 * Doubt: from third-party recordings; the documentation only says that such an invoice is not charged.
 */
export function belowMinimumMovesToBalance(amountDue: number, minimum: number): boolean {
  return amountDue > 0 && amountDue < minimum
}

/**
 * Usage that arrives while a renewal's draft waits is on it: its metered lines are computed again when it is finalized.
 * Doubt: the documentation says that usage of the ended period is taken until then; when the draft shows it is not said.
 */
export function draftsTakeUsageUntilFinalized(): boolean {
  return true
}

/**
 * Whether usage until then is billed when an update begins a new period for metered items that stay.
 * Doubt: the documentation says so of the flat fee's credit and debit, and leaves usage out.
 */
export function resetBillsUsage(): boolean {
  return true
}

/**
 * Lines of a graduated price: one per tier with units in it, and one more per tier with a flat amount.
 * Doubt: the split and its wording are taken from invoices seen, not from documentation.
 */
export function graduatedLineLabel(tier: number, flat: boolean): string {
  return flat ? `Flat fee (Tier ${tier})` : `Tier ${tier}`
}

/** Why a meter event does not count. */
export type MeterFaultCode =
  | 'archived_meter'
  | 'meter_event_customer_not_found'
  | 'meter_event_invalid_value'
  | 'meter_event_no_customer_defined'
  | 'meter_event_value_too_many_digits'
  | 'no_meter'
  | 'timestamp_in_future'
  | 'timestamp_too_far_in_past'

/**
 * Which faults of a first-API meter event are told later, in a thin event, instead of in the answer. Streams tell all of them later, the
 * second API's single events none.
 * Doubt: the documentation lists the codes of the thin events, not which of them the first API's answer already gives.
 */
export function isMeterFaultReportedLater(code: MeterFaultCode): boolean {
  return code !== 'timestamp_in_future' && code !== 'timestamp_too_far_in_past'
}

/**
 * The error code of a meter event whose identifier was used within the last day.
 * Doubt: the documentation says that it is refused, not with which code.
 */
export function duplicateMeterEventCode(): string {
  return 'duplicate_meter_event'
}

/**
 * Whether grouped event summaries hold windows without events.
 * Doubt: the documentation's example shows windows with usage only.
 */
export function listsEmptyUsageWindows(): boolean {
  return false
}

/**
 * Whether a subscription in this status entitles to the features of its products.
 * Doubt: the documentation says "active"; that a trial and a payment being retried keep the features is what its guides assume.
 */
export function entitlesInStatus(status: string): boolean {
  return status === 'active' || status === 'trialing' || status === 'past_due'
}

/**
 * From when on a usage alert counts a customer's usage: from the alert's own creation.
 * Doubt: the documentation says that a one-time alert fires once a customer, not over which usage.
 */
export function alertCountsFrom(alertCreated: number): number {
  return alertCreated
}

/**
 * `cancel_at_period_end` of a subscription whose items have different periods means the end of the longest one.
 * Doubt: `cancel_at` has names for both ends (`min_period_end`, `max_period_end`); which of them the flag stands for is not said.
 */
export function cancelsAtLatestPeriodEnd(): boolean {
  return true
}

/**
 * The anchor of a backdated subscription that names none: the moment of the request, not the backdated start.
 * Doubt: the documentation's figures show both readings.
 */
export function backdatedAnchor(now: number, _start: number): number {
  return now
}

/**
 * A schedule's next phase changes the subscription's items in place where it can: the ids stay.
 * Doubt: new items with new ids would bill the same.
 */
export function phaseKeepsItemIds(): boolean {
  return true
}

/**
 * An invoice that is finalized by hand with `auto_advance` is charged this long afterwards.
 * Doubt: "about an hour" is said of drafts only.
 */
export const HAND_FINALIZED_CHARGE_DELAY_SECONDS = HOUR_SECONDS

/**
 * The status after a resumption whose payment was tried and declined, with `resume_on_payment_attempt`.
 * Doubt: the documentation says that the attempt is enough to resume, and not which status follows a decline.
 */
export const STATUS_AFTER_FAILED_RESUMPTION = 'past_due'

/**
 * Whether `billing_cycle_anchor: now` is refused while a trial runs.
 * Doubt: Stripe names an error for anchors before the trial's end at creation; for updates nothing is said.
 */
export function refusesAnchorResetInTrial(): boolean {
  return true
}

/**
 * Discounts of subscriptions and items are announced with `customer.discount.*` as those of customers are.
 * Doubt: the event's description speaks of customers; recordings show it for subscriptions too.
 */
export function announcesSubscriptionDiscounts(): boolean {
  return true
}

/**
 * Whether an event on something that lives on a test clock is dated by that clock, as the object itself is.
 * Doubt: the documentation says so of objects; of events it only shows that they arrive while the clock advances.
 */
export function isEventDatedByTestClock(): boolean {
  return true
}

/**
 * A schedule made from a subscription that is to end has `end_behavior: cancel`, and says from then on how it ends: the flag
 * `cancel_at_period_end` becomes a date, which an update to `release` takes back, and a release unless it asks to preserve it.
 * Doubt: others have seen the behavior, the date kept by a release and the end taken back by an update; what becomes of the flag is not said.
 */
export function scheduleTakesEndOver(): boolean {
  return true
}

/**
 * How long a payment may name a calculation of tax.
 * Doubt: 90 days is what answers have been seen to say; no page states it.
 */
export const taxCalculationLastsSeconds = 90 * DAY_SECONDS

/**
 * A refund takes back its share of each line, tax and all; what rounding leaves goes to the lines after.
 * Doubt: Stripe says that it reverses a flat amount, not how that is spread over lines.
 */
export function refundedTax(
  lines: ReadonlyArray<{
    readonly amount: number
    readonly amount_tax: number
    readonly tax_behavior: 'exclusive' | 'inclusive'
  }>,
  refunded: number,
): ReadonlyArray<{ readonly amount: number; readonly tax: number }> {
  const paid = lines.map((line) => line.amount + (line.tax_behavior === 'inclusive' ? 0 : line.amount_tax))
  const total = paid.reduce((sum, amount) => sum + amount, 0)
  const upTo = (end: number): number => paid.slice(0, end).reduce((sum, amount) => sum + amount, 0)
  const shareOf = (amount: number, part: number, whole: number): number =>
    whole === 0 ? 0 : toSafeInteger((BigInt(amount) * BigInt(part)) / BigInt(whole))
  return lines.map((line, index) => {
    const whole = shareOf(refunded, upTo(index + 1), total) - shareOf(refunded, upTo(index), total)
    const tax = shareOf(line.amount_tax, whole, paid[index] ?? 0)
    return { amount: line.tax_behavior === 'inclusive' ? whole : whole - tax, tax }
  })
}

/**
 * Stripe's test cards as one table: number, test id, look and outcome.
 *
 * Source: https://docs.stripe.com/testing (numbers, `pm_card_*` and `tok_*` ids, described behaviour).
 * A number outside this table never enters the sandbox, so no real card number can be stored: what is kept of a
 * card is its brand, last four digits, expiry, funding, fingerprint and the row's key, never the number.
 */

export type CardBrand = 'visa' | 'mastercard' | 'amex' | 'discover' | 'diners' | 'jcb' | 'unionpay'

export type DeclineReason =
  | 'generic_decline'
  | 'insufficient_funds'
  | 'lost_card'
  | 'stolen_card'
  | 'expired_card'
  | 'incorrect_cvc'
  | 'processing_error'
  | 'card_velocity_exceeded'
  | 'fraudulent'

/**
 * When the card's bank asks the holder to authenticate (3D Secure).
 * - `none`: never. `on_request`: only when the payment asks for it.
 * - `on_session`: payments with the holder present and set-ups ask; later payments without the holder pass.
 * - `unless_set_up`: as `on_session`, but a payment without the holder passes only after a set-up.
 * - `already_set_up`: payments with the holder ask; payments without pass, with no set-up needed.
 * - `always`: every payment asks, so a payment without the holder is declined with `authentication_required`.
 */
export type Authentication = 'none' | 'on_request' | 'on_session' | 'unless_set_up' | 'already_set_up' | 'always'

export type DisputeKind = 'fraudulent' | 'product_not_received' | 'inquiry'

/** What happens to a card, apart from its look. An absent field means the plain good case. */
export interface CardOutcome {
  /** Every charge is declined for this reason (after authentication, when that is asked for). */
  readonly decline?: DeclineReason
  /** The card cannot be attached or set up either: the bank declines the zero-amount check. */
  readonly refusesAttach?: true
  readonly authentication?: Authentication
  /** Authentication is asked for but breaks down; the payment is then declined. */
  readonly authenticationFails?: true
  readonly dispute?: DisputeKind
  readonly refund?: 'pending' | 'fails'
  readonly risk?: 'elevated' | 'highest'
  readonly cvcCheck?: 'fail'
  readonly postalCodeCheck?: 'fail' | 'unavailable'
  readonly line1Check?: 'fail' | 'unavailable'
  /** Money goes to the available balance at once. */
  readonly bypassesPending?: true
}

export interface TestCard extends CardOutcome {
  /** The outcome key that is stored with a payment method, and the tail of its `pm_card_…` and `tok_…` ids. */
  readonly key: string
  readonly number: string
  readonly brand: CardBrand
  readonly funding: 'credit' | 'debit' | 'prepaid'
  readonly country: string
}

type Look = Partial<Pick<TestCard, 'brand' | 'funding' | 'country'>>

const card = (key: string, number: string, outcome: CardOutcome & Look = {}): TestCard => ({
  brand: 'visa',
  funding: 'credit',
  country: 'US',
  ...outcome,
  key,
  number,
})

const declined = (decline: DeclineReason): CardOutcome => ({ decline, refusesAttach: true })

const goodCards: readonly TestCard[] = [
  card('visa', '4242424242424242'),
  card('visa_debit', '4000056655665556', { funding: 'debit' }),
  card('mastercard', '5555555555554444', { brand: 'mastercard' }),
  card('mastercard_2series', '2223003122003222', { brand: 'mastercard' }),
  card('mastercard_debit', '5200828282828210', { brand: 'mastercard', funding: 'debit' }),
  card('mastercard_prepaid', '5105105105105100', { brand: 'mastercard', funding: 'prepaid' }),
  card('amex', '378282246310005', { brand: 'amex' }),
  card('amex_2', '371449635398431', { brand: 'amex' }),
  card('discover', '6011111111111117', { brand: 'discover' }),
  card('discover_2', '6011000990139424', { brand: 'discover' }),
  card('discover_debit', '6011981111111113', { brand: 'discover', funding: 'debit' }),
  card('diners', '3056930009020004', { brand: 'diners' }),
  card('diners_14digits', '36227206271667', { brand: 'diners' }),
  card('jcb', '3566002020360505', { brand: 'jcb' }),
  card('unionpay', '6200000000000005', { brand: 'unionpay' }),
  card('unionpay_debit', '6200000000000047', { brand: 'unionpay', funding: 'debit' }),
  card('gb', '4000008260000000', { country: 'GB' }),
  card('gb_debit', '4000058260000005', { country: 'GB', funding: 'debit' }),
  card('de', '4000002760000016', { country: 'DE' }),
  card('fr', '4000002500000003', { country: 'FR' }),
  card('es', '4000007240000007', { country: 'ES' }),
  card('it', '4000003800000008', { country: 'IT' }),
  card('nl', '4000005280000002', { country: 'NL' }),
  card('ie', '4000003720000005', { country: 'IE' }),
  card('ca', '4000001240000000', { country: 'CA' }),
  card('mx', '4000004840008001', { country: 'MX' }),
  card('br', '4000000760000002', { country: 'BR' }),
  card('au', '4000000360000006', { country: 'AU' }),
  card('jp', '4000003920000003', { country: 'JP' }),
  card('in', '4000003560000008', { country: 'IN' }),
  card('sg', '4000007020000003', { country: 'SG' }),
]

const declinedCards: readonly TestCard[] = [
  card('visa_chargeDeclined', '4000000000000002', declined('generic_decline')),
  // Stripe refuses to attach this card too. The sandbox takes it, because a customer whose account runs dry between
  // two renewals is the case that dunning is tested with, and the reason should be seen as what it is.
  card('visa_chargeDeclinedInsufficientFunds', '4000000000009995', { decline: 'insufficient_funds' }),
  card('visa_chargeDeclinedLostCard', '4000000000009987', declined('lost_card')),
  card('visa_chargeDeclinedStolenCard', '4000000000009979', declined('stolen_card')),
  card('chargeDeclinedExpiredCard', '4000000000000069', declined('expired_card')),
  card('chargeDeclinedIncorrectCvc', '4000000000000127', declined('incorrect_cvc')),
  card('chargeDeclinedProcessingError', '4000000000000119', declined('processing_error')),
  card('visa_chargeDeclinedVelocityLimitExceeded', '4000000000006975', declined('card_velocity_exceeded')),
  card('chargeCustomerFail', '4000000000000341', { decline: 'generic_decline' }),
]

const riskCards: readonly TestCard[] = [
  card('radarBlock', '4100000000000019', { decline: 'fraudulent', risk: 'highest' }),
  card('riskLevelHighest', '4000000000004954', { decline: 'fraudulent', risk: 'highest' }),
  card('riskLevelElevated', '4000000000009235', { risk: 'elevated' }),
  card('cvcCheckFail', '4000000000000101', { cvcCheck: 'fail' }),
  card('avsZipFail', '4000000000000036', { postalCodeCheck: 'fail' }),
  card('avsLine1Fail', '4000000000000028', { line1Check: 'fail' }),
  card('avsFail', '4000000000000010', { line1Check: 'fail', postalCodeCheck: 'fail' }),
  card('avsUnchecked', '4000000000000044', { line1Check: 'unavailable', postalCodeCheck: 'unavailable' }),
]

const disputeAndRefundCards: readonly TestCard[] = [
  card('createDispute', '4000000000000259', { dispute: 'fraudulent' }),
  card('createDisputeProductNotReceived', '4000000000002685', { dispute: 'product_not_received' }),
  card('createDisputeInquiry', '4000000000001976', { dispute: 'inquiry' }),
  card('pendingRefund', '4000000000007726', { refund: 'pending' }),
  card('refundFail', '4000000000005126', { refund: 'fails' }),
  card('bypassPending', '4000000000000077', { bypassesPending: true }),
  card('bypassPendingInternational', '4000003720000278', { bypassesPending: true, country: 'IE' }),
]

const authenticationCards: readonly TestCard[] = [
  card('authenticationRequiredOnSetup', '4000002500003155', { authentication: 'unless_set_up', country: 'FR' }),
  card('authenticationRequired', '4000002760003184', { authentication: 'always', country: 'DE' }),
  card('authenticationRequiredSetupForOffSession', '4000003800000446', { authentication: 'already_set_up', country: 'IT' }),
  card('authenticationRequiredChargeDeclinedInsufficientFunds', '4000008260003178', {
    authentication: 'on_session',
    decline: 'insufficient_funds',
    country: 'GB',
  }),
  card('threeDSecure2Required', '4000000000003220', { authentication: 'on_session' }),
  card('threeDSecureRequired', '4000000000003063', { authentication: 'on_session' }),
  card('threeDSecureRequiredChargeDeclined', '4000008400001629', { authentication: 'on_session', decline: 'generic_decline' }),
  card('threeDSecureRequiredProcessingError', '4000008400001280', { authentication: 'on_session', authenticationFails: true }),
  card('threeDSecureOptional', '4000000000003055', { authentication: 'on_request' }),
]

/** Every test card, in the order of Stripe's testing page. */
export const testCards: readonly TestCard[] = [
  ...goodCards,
  ...declinedCards,
  ...riskCards,
  ...disputeAndRefundCards,
  ...authenticationCards,
]

const byNumber = new Map(testCards.map((entry) => [entry.number, entry]))
const byKey = new Map(testCards.map((entry) => [entry.key, entry]))

/** Older spellings that Stripe still accepts after `pm_card_` and `tok_`. */
const aliases = new Map<string, string>([
  ['us', 'visa'],
  ['chargeDeclined', 'visa_chargeDeclined'],
  ['chargeDeclinedInsufficientFunds', 'visa_chargeDeclinedInsufficientFunds'],
  ['chargeDeclinedLostCard', 'visa_chargeDeclinedLostCard'],
  ['chargeDeclinedStolenCard', 'visa_chargeDeclinedStolenCard'],
  ['chargeDeclinedVelocityLimitExceeded', 'visa_chargeDeclinedVelocityLimitExceeded'],
  ['chargeDeclinedFraudulent', 'radarBlock'],
  ['visa_chargeDeclinedExpiredCard', 'chargeDeclinedExpiredCard'],
  ['visa_chargeDeclinedIncorrectCvc', 'chargeDeclinedIncorrectCvc'],
  ['visa_chargeDeclinedProcessingError', 'chargeDeclinedProcessingError'],
])

/** Finds a test card by its number; spaces and dashes are ignored. */
export function findTestCardByNumber(number: string): TestCard | undefined {
  return byNumber.get(number.replace(/[\s-]/g, ''))
}

/** Finds a test card by `pm_card_…` or `tok_…`. */
export function findTestCardById(id: string): TestCard | undefined {
  const key = /^(?:pm_card_|tok_)(.+)$/.exec(id)?.[1]
  return key === undefined ? undefined : findTestCardByKey(aliases.get(key) ?? key)
}

/** Finds a test card by the outcome key that a payment method keeps. */
export function findTestCardByKey(key: string): TestCard | undefined {
  return byKey.get(key)
}

/** Whether the digits satisfy the Luhn check and have a card's length (12 to 19). */
export function isCardNumber(number: string): boolean {
  const digits = number.replace(/[\s-]/g, '')
  if (!/^\d{12,19}$/.test(digits)) return false
  let sum = 0
  for (let index = 0; index < digits.length; index += 1) {
    const digit = Number(digits[digits.length - 1 - index])
    const doubled = digit * 2
    sum += index % 2 === 0 ? digit : doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

export interface Decline {
  /** Stripe's error code, e.g. `card_declined`. */
  readonly code: 'card_declined' | 'expired_card' | 'incorrect_cvc' | 'processing_error' | 'authentication_required'
  readonly declineCode: DeclineReason | 'authentication_required' | 'test_mode_live_card'
  readonly message: string
  readonly adviceCode: 'confirm_card_data' | 'do_not_try_again' | 'try_again_later' | null
  readonly param?: string
  /** What the business reads in the charge's outcome. */
  readonly sellerMessage: string
}

const bankDeclined = 'The bank returned the decline code'

const declines: Record<DeclineReason | 'authentication_required', Decline> = {
  generic_decline: {
    code: 'card_declined',
    declineCode: 'generic_decline',
    message: 'Your card was declined.',
    adviceCode: 'try_again_later',
    sellerMessage: 'The bank did not return any further details with this decline.',
  },
  insufficient_funds: {
    code: 'card_declined',
    declineCode: 'insufficient_funds',
    message: 'Your card has insufficient funds.',
    adviceCode: 'try_again_later',
    sellerMessage: `${bankDeclined} \`insufficient_funds\`.`,
  },
  lost_card: {
    code: 'card_declined',
    declineCode: 'lost_card',
    message: 'Your card was declined.',
    adviceCode: 'do_not_try_again',
    sellerMessage: `${bankDeclined} \`lost_card\`.`,
  },
  stolen_card: {
    code: 'card_declined',
    declineCode: 'stolen_card',
    message: 'Your card was declined.',
    adviceCode: 'do_not_try_again',
    sellerMessage: `${bankDeclined} \`stolen_card\`.`,
  },
  expired_card: {
    code: 'expired_card',
    declineCode: 'expired_card',
    message: 'Your card has expired.',
    adviceCode: 'confirm_card_data',
    param: 'exp_month',
    sellerMessage: `${bankDeclined} \`expired_card\`.`,
  },
  incorrect_cvc: {
    code: 'incorrect_cvc',
    declineCode: 'incorrect_cvc',
    message: "Your card's security code is incorrect.",
    adviceCode: 'confirm_card_data',
    param: 'cvc',
    sellerMessage: `${bankDeclined} \`incorrect_cvc\`.`,
  },
  processing_error: {
    code: 'processing_error',
    declineCode: 'processing_error',
    message: 'An error occurred while processing your card. Try again in a little bit.',
    adviceCode: 'try_again_later',
    sellerMessage: `${bankDeclined} \`processing_error\`.`,
  },
  card_velocity_exceeded: {
    code: 'card_declined',
    declineCode: 'card_velocity_exceeded',
    message: 'Your card was declined for making repeated attempts too frequently or exceeding its amount limit.',
    adviceCode: null,
    sellerMessage: `${bankDeclined} \`card_velocity_exceeded\`.`,
  },
  fraudulent: {
    code: 'card_declined',
    declineCode: 'fraudulent',
    message: 'Your card was declined.',
    adviceCode: 'do_not_try_again',
    sellerMessage: 'Stripe blocked this payment as too risky.',
  },
  authentication_required: {
    code: 'authentication_required',
    declineCode: 'authentication_required',
    message: 'Your card was declined. This transaction requires authentication.',
    adviceCode: null,
    sellerMessage: `${bankDeclined} \`authentication_required\`.`,
  },
}

/** The error code, decline code and words that Stripe gives for a reason. */
export function describeDecline(reason: DeclineReason | 'authentication_required'): Decline {
  return declines[reason]
}

import { createHash } from 'node:crypto'
import { StripeError } from '../engine/errors.ts'
import type { PaymentMethod } from '../wire.gen.ts'
import type { CardBrand, CardOutcome, Decline, TestCard } from './test-cards.ts'
import { describeDecline, findTestCardById, findTestCardByNumber, isCardNumber } from './test-cards.ts'

export type CardFacts = NonNullable<PaymentMethod['card']>

/** A card as a caller gives it. The number and the code go no further than this module. */
export interface CardInput {
  readonly number?: string
  readonly token?: string
  readonly exp_month?: number
  readonly exp_year?: number
  readonly cvc?: string
}

/** A card that passed the checks, without its number. */
export interface CheckedCard {
  readonly testCard: TestCard
  readonly facts: CardFacts
}

const displayBrands: Readonly<Record<CardBrand, string>> = {
  visa: 'visa',
  mastercard: 'mastercard',
  amex: 'american_express',
  discover: 'discover',
  diners: 'diners_club',
  jcb: 'jcb',
  unionpay: 'union_pay',
}

const brandNames: Readonly<Record<string, string>> = {
  visa: 'Visa',
  mastercard: 'Mastercard',
  amex: 'American Express',
  discover: 'Discover',
  diners: 'Diners Club',
  jcb: 'JCB',
  unionpay: 'UnionPay',
}

/** What a payment method, or a charge of it, says of itself. */
interface Described {
  readonly card?: { readonly brand: string | null; readonly last4: string | null } | null
  readonly us_bank_account?: { readonly bank_name: string | null; readonly last4: string | null }
}

/** "Visa ending in 4242", "STRIPE TEST BANK ending in 6789". */
export function describeMethod({ card, us_bank_account: account }: Described): string {
  const [name, of] =
    account === undefined ? [brandNames[card?.brand ?? ''] ?? 'Card', card] : [account.bank_name ?? 'Bank account', account]
  return of ? `${name} ending in ${of.last4 ?? '????'}` : 'Payment method'
}

/** The same for the same card everywhere, and made from the table's key, so that no number can be won back from it. */
const fingerprintOf = (card: TestCard): string =>
  createHash('sha256')
    .update(`test card ${card.key}`)
    .digest('base64')
    .replace(/[^A-Za-z0-9]/g, '')
    .slice(0, 16)

function refuseCard(code: string, message: string, param: string): StripeError {
  return new StripeError(402, { type: 'card_error', code, message, param })
}

/** Stripe's error body for a decline, without the objects that go with it. */
export function declineFields(decline: Decline): {
  code: Decline['code']
  decline_code: string
  message: string
  doc_url: string
  param?: string
  advice_code?: string
} {
  return {
    code: decline.code,
    decline_code: decline.declineCode,
    message: decline.message,
    doc_url: `https://stripe.com/docs/error-codes/${decline.code.replaceAll('_', '-')}`,
    ...(decline.param === undefined ? {} : { param: decline.param }),
    ...(decline.adviceCode === null ? {} : { advice_code: decline.adviceCode }),
  }
}

function checkExpiry(input: CardInput, now: number): { month: number; year: number } {
  const month = input.exp_month
  if (month === undefined) throw refuseCard('invalid_expiry_month', "Your card's expiration month is invalid.", 'exp_month')
  if (!Number.isInteger(month) || month < 1 || month > 12) {
    throw refuseCard('invalid_expiry_month', "Your card's expiration month is invalid.", 'exp_month')
  }
  const given = input.exp_year ?? Number.NaN
  const year = given < 100 ? 2000 + given : given
  const today = new Date(now * 1000)
  const thisYear = today.getUTCFullYear()
  if (!Number.isInteger(year) || year < thisYear || year > thisYear + 50) {
    throw refuseCard('invalid_expiry_year', "Your card's expiration year is invalid.", 'exp_year')
  }
  if (year === thisYear && month < today.getUTCMonth() + 1) {
    throw refuseCard('invalid_expiry_month', "Your card's expiration month is invalid.", 'exp_month')
  }
  return { month, year }
}

function findCard(input: CardInput): TestCard {
  if (input.token !== undefined) {
    const byToken = findTestCardById(input.token)
    if (byToken !== undefined) return byToken
    throw new StripeError(400, {
      type: 'invalid_request_error',
      code: 'resource_missing',
      message: `No such token: '${input.token}'`,
      param: 'card[token]',
    })
  }
  const number = input.number ?? ''
  if (!isCardNumber(number)) throw refuseCard('incorrect_number', 'Your card number is incorrect.', 'number')
  const byNumber = findTestCardByNumber(number)
  if (byNumber !== undefined) return byNumber
  throw new StripeError(402, {
    ...declineFields({ ...describeDecline('generic_decline'), declineCode: 'test_mode_live_card' }),
    type: 'card_error',
    message:
      'Your card was declined. Your request was in test mode, but used a non test card. For a list of valid test cards, visit: https://stripe.com/docs/testing.',
  })
}

function factsOf(card: TestCard, expiry: { month: number; year: number }, cvcGiven: boolean): CardFacts {
  return {
    brand: card.brand,
    checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: cvcGiven ? 'unchecked' : null },
    country: card.country,
    display_brand: displayBrands[card.brand],
    exp_month: expiry.month,
    exp_year: expiry.year,
    fingerprint: fingerprintOf(card),
    funding: card.funding,
    generated_from: null,
    last4: card.number.slice(-4),
    networks: { available: [card.brand], preferred: null },
    regulated_status: 'unregulated',
    three_d_secure_usage: { supported: card.brand !== 'amex' },
    wallet: null,
  }
}

/**
 * Checks a card as Stripe's API does on the way in: number, expiry against `now` (unix seconds), code. Throws Stripe's
 * card errors `incorrect_number`, `invalid_expiry_month`, `invalid_expiry_year`, `invalid_cvc`; a number that is not a
 * test card is declined with `test_mode_live_card`, as Stripe's test mode does.
 */
export function checkCard(input: CardInput, now: number): CheckedCard {
  const testCard = findCard(input)
  if (input.token !== undefined) return testCardFacts(testCard, now)
  const expiry = checkExpiry(input, now)
  const digits = testCard.brand === 'amex' ? /^\d{3,4}$/ : /^\d{3}$/
  if (input.cvc !== undefined && !digits.test(input.cvc))
    throw refuseCard('invalid_cvc', "Your card's security code is invalid.", 'cvc')
  return { testCard, facts: factsOf(testCard, expiry, input.cvc !== undefined) }
}

/** A card by its `pm_card_…` or `tok_…` id: in date for four years from `now`. */
export function testCardFacts(testCard: TestCard, now: number): CheckedCard {
  const year = new Date(now * 1000).getUTCFullYear() + 4
  return { testCard, facts: factsOf(testCard, { month: 12, year }, true) }
}

/** The checks of code and address once the bank has been asked. */
export function bankChecks(
  card: CardOutcome,
  facts: CardFacts,
  hasAddress: { line1: boolean; postalCode: boolean },
): CardFacts['checks'] {
  return {
    address_line1_check: hasAddress.line1 ? (card.line1Check ?? 'pass') : null,
    address_postal_code_check: hasAddress.postalCode ? (card.postalCodeCheck ?? 'pass') : null,
    cvc_check: facts.checks?.cvc_check == null ? null : (card.cvcCheck ?? 'pass'),
  }
}

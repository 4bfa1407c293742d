import { DomainError, orDomainError } from './errors.ts'
import { refuseTooDeep } from './json.ts'

// As a card's number is written: in one, or in the groups that are printed on cards. What stands within a longer word, a
// decimal or a number with + in front is something else: an id, a quantity, a telephone number.
const WRITTEN =
  /(?<![\p{L}\p{N}_+.]-?)(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})(?!-?[\p{L}\p{N}_]|\.\d)/gu

// Which numbers the card schemes issue, by length (ISO/IEC 7812): Visa, Mastercard, American Express, Discover, Diners Club, JCB,
// UnionPay, Maestro. Numbers that count milliseconds or microseconds, and most ids, begin otherwise.
const ISSUED =
  /^(?:4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d+|3[47]\d{13}|(?:6011|64[4-9]|65|62)\d+|3(?:0[0-5]|[689])\d+|35(?:2[89]|[3-8]\d)\d+|(?:50|5[678]|6[0-9])\d+)$/

const SECRET_KEY = /\b[sr]k_(?:test|live)_\w{8,}/

// Names that hold nothing else.
const VERIFICATION_CODE = /^(?:cvc|cvv|cvv2|cvc2|card_?cvc|card_?number|cardNumber|cardCvc)$/i

/** What cannot be in a text at all when none of the above is: tells in one pass. */
const SUSPECT = /\d{13}|\d{4}[ -]\d{4,6}[ -]\d{4}|[sr]k_(?:test|live)_|cvc|cvv|card_?number/i

/** In JSON that is not read yet every character that SUSPECT knows may also be written as an escape (RFC 8259, section 7). */
const ESCAPE = /\\u00/i

function isLuhn(digits: string): boolean {
  let sum = 0
  for (let index = 0; index < digits.length; index += 1) {
    const digit = Number(digits[digits.length - 1 - index])
    const doubled = index % 2 === 0 ? digit : digit * 2
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

function isCardNumber(written: string): boolean {
  const digits = written.replaceAll(/\D/g, '')
  if (!(digits.length >= 13 && ISSUED.test(digits))) return false
  const isWhole = digits.length === 16 || !/^(?:5[1-5]|2[2-7])/.test(digits)
  return isWhole && isLuhn(digits)
}

/** The text with each card number replaced by `[card number]`. */
export function maskCardNumbers(text: string): string {
  return SUSPECT.test(text) ? text.replace(WRITTEN, (written) => (isCardNumber(written) ? '[card number]' : written)) : text
}

/** What a text holds that must not be kept; null for nothing. */
function findIn(text: string): string | null {
  if (!SUSPECT.test(text)) return null
  if (maskCardNumbers(text) !== text) return 'a card number'
  return SECRET_KEY.test(text) ? 'a secret key of Stripe' : null
}

type Found = { readonly field: string; readonly what: string }

function findWithin(value: unknown, field: string, depth: number): Found | null {
  if (typeof value === 'string' || typeof value === 'number') {
    const what = findIn(String(value))
    return what === null ? null : { field, what }
  }
  if (value === null || typeof value !== 'object') return null
  refuseTooDeep(depth)
  for (const [name, inner] of Object.entries(value)) {
    // The name is not repeated in the answer when it is itself what must not be kept.
    const named = findIn(name)
    if (named !== null) return { field, what: named }
    const path = field === '' ? name : `${field}.${name}`
    if (VERIFICATION_CODE.test(name) && (typeof inner === 'string' || typeof inner === 'number')) {
      return { field: path, what: 'a detail of a card' }
    }
    const found = findWithin(inner, path, depth + 1)
    if (found !== null) return found
  }
  return null
}

/** Whether JSON, as it came, may hold what must not be kept. */
function isSuspect(text: string): boolean {
  return SUSPECT.test(text) || ESCAPE.test(text)
}

/**
 * Refuses card data and Stripe's secret keys, wherever they stand in what a caller sent (EM-14): nothing of ours stores or
 * needs them; cards are entered on Stripe's own pages.
 * @param text the JSON as it came, where it is at hand: most of it is told apart by one look
 * @throws DomainError `invalid_request` that names the field, never the value
 */
export function refuseCardData(value: unknown, text?: string): void {
  if (text !== undefined && !isSuspect(text)) return
  const found = findWithin(value, '', 0)
  if (found === null) return
  const where = found.field === '' ? 'The request' : found.field
  throw new DomainError('invalid_request', `${where} holds what looks like ${found.what}, which is never taken in here.`, {
    field: found.field,
  })
}

/**
 * The items of a batch, each of which stands or falls by itself: in the place of one that holds card data, the error that says so.
 * @param text the JSON that they came in
 */
export function setCardDataApart(items: readonly unknown[], text: string): readonly unknown[] {
  if (!isSuspect(text)) return items
  return items.map((item) =>
    orDomainError(() => {
      refuseCardData(item)
      return item
    }),
  )
}

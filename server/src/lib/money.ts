/** Money: an integer of minor units (cents for usd, yen for jpy) with its lower-case ISO 4217 currency. */
export type Money = { readonly amountMinor: number; readonly currency: string }

// https://docs.stripe.com/currencies: currencies without, and with three, decimal places. UGX and ISK are sent × 100.
const ZERO_DECIMAL = new Set([
  'bif',
  'clp',
  'djf',
  'gnf',
  'jpy',
  'kmf',
  'krw',
  'mga',
  'pyg',
  'rwf',
  'vnd',
  'vuv',
  'xaf',
  'xof',
  'xpf',
])
const THREE_DECIMAL = new Set(['bhd', 'jod', 'kwd', 'omr', 'tnd'])

/** How many decimal places the currency's minor unit has: 2 for usd, 0 for jpy, 3 for kwd. */
export function minorDigits(currency: string): number {
  const code = currency.toLowerCase()
  if (ZERO_DECIMAL.has(code)) return 0
  return THREE_DECIMAL.has(code) ? 3 : 2
}

/** Whether Stripe takes a single payment of this amount: with three places, the last is 0 (docs.stripe.com/currencies#three-decimal). */
export function isChargeable({ amountMinor, currency }: Money): boolean {
  return minorDigits(currency) !== 3 || amountMinor % 10 === 0
}

/** The least that a card can be charged, in minor units (docs.stripe.com/currencies#minimum-and-maximum-charge-amounts). */
const MINIMUM_CHARGE: Readonly<Record<string, number>> = {
  usd: 50,
  aed: 200,
  aud: 50,
  bgn: 100,
  brl: 50,
  cad: 50,
  chf: 50,
  czk: 1500,
  dkk: 250,
  eur: 50,
  gbp: 30,
  hkd: 400,
  huf: 17_500,
  inr: 50,
  jpy: 50,
  mxn: 1000,
  myr: 200,
  nok: 300,
  nzd: 50,
  pln: 200,
  ron: 200,
  sek: 300,
  sgd: 50,
  thb: 1000,
}

/**
 * What an invoice asks for of its total and the customer's balance before it, and the balance that it leaves: below zero is a credit. What is less than
 * can be charged is not asked for; it waits on the balance for the next one. Of a currency that Stripe's table does not have, the least is not known.
 */
export function settleInvoice({ amountMinor, currency }: Money): { readonly dueMinor: number; readonly balanceMinor: number } {
  const isAsked = amountMinor > 0 && amountMinor >= (MINIMUM_CHARGE[currency.toLowerCase()] ?? 0)
  return isAsked ? { dueMinor: amountMinor, balanceMinor: 0 } : { dueMinor: 0, balanceMinor: amountMinor }
}

/** Minor units as the decimal text of major units: 2900 usd is `29.00`. */
export function formatMajor({ amountMinor, currency }: Money): string {
  const digits = minorDigits(currency)
  const sign = amountMinor < 0 ? '-' : ''
  const text = Math.abs(amountMinor)
    .toString()
    .padStart(digits + 1, '0')
  return digits === 0 ? `${sign}${text}` : `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`
}

/** Major units as a JSON number, for the answers that name them so (OC-1: 49.00). */
export function toMajorNumber(money: Money): number {
  return Number(formatMajor(money))
}

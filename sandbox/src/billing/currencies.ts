/** Currencies: how many minor units make one, how an amount is written, and the least that can be charged. */

/** Currencies without a minor unit. Source: docs.stripe.com/currencies#zero-decimal (UGX and ISK are sent with two places). */
const ZERO_DECIMAL: ReadonlySet<string> = new Set('bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'.split(' '))

/** Currencies with three places, the last of which must be 0. Source: docs.stripe.com/currencies#three-decimal. */
const THREE_DECIMAL: ReadonlySet<string> = new Set('bhd jod kwd omr tnd'.split(' '))

/** The least that can be charged, in minor units. Source: docs.stripe.com/currencies#minimum-and-maximum-charge-amounts. */
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
  huf: 17500,
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

const SYMBOLS: Readonly<Record<string, string>> = {
  usd: '$',
  eur: '€',
  gbp: '£',
  jpy: '¥',
  inr: '₹',
  krw: '₩',
  aud: 'A$',
  cad: 'CA$',
  nzd: 'NZ$',
  hkd: 'HK$',
  mxn: 'MX$',
  brl: 'R$',
}

/** Decimal places of a currency's minor unit: 0, 2 or 3. */
export function minorUnitPlaces(currency: string): 0 | 2 | 3 {
  const code = currency.toLowerCase()
  if (ZERO_DECIMAL.has(code)) return 0
  return THREE_DECIMAL.has(code) ? 3 : 2
}

/** The least amount that a card can be charged, in minor units; 0 where Stripe's table has no row. */
export function minimumChargeAmount(currency: string): number {
  return MINIMUM_CHARGE[currency.toLowerCase()] ?? 0
}

/** Whether an amount may be sent in this currency: three-decimal amounts end in 0. */
export function isChargeableAmount(amount: number, currency: string): boolean {
  return minorUnitPlaces(currency) !== 3 || amount % 10 === 0
}

/**
 * Writes an amount the way invoice lines show it: `$29.00`, `¥500`, `CHF 5.00`.
 * @param minor digits of the amount in minor units, which may have decimals (`unit_amount_decimal`): `2900`, `0.5`.
 */
export function formatAmount(minor: string, currency: string): string {
  const places = minorUnitPlaces(currency)
  const negative = minor.startsWith('-')
  const [whole = '0', rest = ''] = (negative ? minor.slice(1) : minor).split('.')
  const padded = whole.padStart(places + 1, '0')
  const units = padded.slice(0, padded.length - places)
  const fraction = (places === 0 ? '' : padded.slice(-places)) + rest
  const grouped = units.replaceAll(/\B(?=(\d{3})+$)/g, ',')
  const code = currency.toLowerCase()
  const symbol = SYMBOLS[code] ?? `${code.toUpperCase()} `
  return `${negative ? '-' : ''}${symbol}${grouped}${fraction === '' ? '' : `.${fraction}`}`
}

/** Money and dates in words, for pages and PDFs. */

const zeroDecimal = new Set('bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'.split(' '))
const threeDecimal = new Set('bhd jod kwd omr tnd'.split(' '))

/** How many digits stand behind the point in the currency's minor unit (Stripe's list; UGX and ISK are sent ×100). */
export function minorDigits(currency: string): 0 | 2 | 3 {
  const code = currency.toLowerCase()
  return zeroDecimal.has(code) ? 0 : threeDecimal.has(code) ? 3 : 2
}

/** An integer of minor units as a decimal string, exactly: 2900 usd is "29.00". */
export function toMajor(amountMinor: number, currency: string): string {
  const digits = minorDigits(currency)
  const sign = amountMinor < 0 ? '-' : ''
  const text = String(Math.abs(amountMinor)).padStart(digits + 1, '0')
  return digits === 0 ? sign + text : `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`
}

/** An amount as a reader expects it: 2900 usd is "$29.00", -500 jpy is "-¥500". */
export function formatMoney(amountMinor: number, currency: string): string {
  const digits = minorDigits(currency)
  const format = new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency: currency.toUpperCase(),
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
  return format.format(toMajor(amountMinor, currency) as Intl.StringNumericLiteral)
}

/** A price per unit, which may be finer than the minor unit: "0.125" cents usd is "$0.00125". */
export function formatUnitPrice(unitMinor: string, currency: string): string {
  const [whole = '0', fraction = ''] = unitMinor.split('.')
  if (/^0*$/.test(fraction)) return formatMoney(Number(whole), currency)
  const digits = minorDigits(currency)
  const padded = whole.padStart(digits + 1, '0')
  const major = `${padded.slice(0, padded.length - digits)}.${digits === 0 ? '' : padded.slice(-digits)}${fraction.replace(/0+$/, '')}`
  const format = new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency: currency.toUpperCase(),
    minimumFractionDigits: digits,
    maximumFractionDigits: 14,
  })
  return format.format(major as Intl.StringNumericLiteral)
}

/** Seconds since the epoch as a date, in UTC: "November 21, 2026". */
export function formatDate(seconds: number): string {
  return new Intl.DateTimeFormat('en-US', { dateStyle: 'long', timeZone: 'UTC' }).format(seconds * 1000)
}

/** Seconds since the epoch as date and time, in UTC: "2026-11-21 01:35:00 UTC". */
export function formatInstant(seconds: number): string {
  const text = new Date(seconds * 1000).toISOString()
  return `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`
}

/** "per month", "every 3 months", "per day". */
export function formatInterval(interval: string, count: number): string {
  return count === 1 ? `per ${interval}` : `every ${count} ${interval}s`
}

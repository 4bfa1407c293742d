/** Money and dates in words, for pages and PDFs. */
import { formatAmount } from '../billing/currencies.ts'

/** An integer of minor units as a reader expects it: 2900 usd is "$29.00", -500 jpy is "-¥500". */
export function formatMoney(amountMinor: number, currency: string): string {
  return formatAmount(String(amountMinor), currency)
}

/** A price per unit, which may be finer than the minor unit: "0.125" cents usd is "$0.00125". */
export function formatUnitPrice(unitMinor: string, currency: string): string {
  return formatAmount(unitMinor.includes('.') ? unitMinor.replace(/\.?0+$/, '') : unitMinor, currency)
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

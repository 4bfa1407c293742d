/**
 * Prorations: what part of a period's amount falls on the time that is left of it, to the second.
 * Source: docs.stripe.com/billing/subscriptions/prorations.
 */
import { toSafeInteger } from './decimal.ts'
import { roundProration } from './inferred.ts'
import type { Span } from './periods.ts'

/**
 * The part of a signed amount that falls on `[at, period.end)`. An instant outside of the period counts as its nearer end;
 * a period without length has nothing left.
 */
export function prorate(amount: number, period: Span, at: number): number {
  const length = period.end - period.start
  const left = Math.min(Math.max(period.end - at, 0), Math.max(length, 0))
  if (left === 0 || amount === 0) return 0
  return toSafeInteger(roundProration(BigInt(amount) * BigInt(left), BigInt(length)))
}

/** The part of an amount for a whole period that falls on a span of it. */
export function prorateSpan(amount: number, whole: Span, span: Span): number {
  const length = Math.max(span.end - span.start, 0)
  if (whole.end <= whole.start || length === 0 || amount === 0) return 0
  return toSafeInteger(roundProration(BigInt(amount) * BigInt(length), BigInt(whole.end - whole.start)))
}

/** Something that was debited for a span and not yet credited: a line of a paid or open invoice, or a pending item. */
export interface Debit {
  /** Net of the discounts that were in it, in minor units, positive. */
  readonly amount: number
  readonly period: Span
  readonly quantity: number | null
  /** Where it was debited; null for an item that is not on an invoice yet. */
  readonly invoice: string | null
  readonly lines: readonly string[]
  readonly invoiceItem: string | null
  readonly price: string
}

/** A credit for the unused time of one debit (flexible mode). `amount` is negative. */
export interface Credit {
  readonly debit: Debit
  readonly amount: number
  readonly period: Span
}

/**
 * Credits what was debited for the time from `at` on: one credit per debit that reaches beyond it (flexible mode).
 * What was never debited is never credited.
 */
export function creditsOfDebits(debits: readonly Debit[], at: number): Credit[] {
  return debits.flatMap((debit) => {
    const amount = prorate(-debit.amount, debit.period, at)
    if (amount === 0) return []
    return [{ debit, amount, period: { start: Math.max(at, debit.period.start), end: debit.period.end } }]
  })
}

/** What is left of debits after they were credited from `at` on: each keeps the part for the time before it. */
export function debitsBefore(debits: readonly Debit[], at: number): Debit[] {
  return debits.flatMap((debit) => {
    const { period } = debit
    if (period.end <= at) return [debit]
    if (period.start >= at) return []
    return [{ ...debit, amount: debit.amount + prorate(-debit.amount, period, at), period: { start: period.start, end: at } }]
  })
}

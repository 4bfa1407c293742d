import type { Grant } from '../grants/rules.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { billingTimeOf, type BilledTime } from '../metering/late.ts'

/** A line of a statement: the time in which one price bills the use of a balance. */
export type BillingLine = BilledTime & {
  readonly id: string
  readonly invoiceId: string | null
  /** What it bills: what went beyond the plan's allowance, or all use (EM-3). */
  readonly reports: 'overage' | 'use'
}

/** What a line has billed of a grant so far. */
export type ReportedPart = {
  readonly grantId: string
  readonly lineId: string
  readonly late: boolean
  readonly quantity: Quantity
}

/** A part of what a grant counts, on the line that bills it; `late`: counted after the invoice of its own time was closed. */
export type Bill = {
  readonly lineId: string
  readonly period: { readonly start: Instant; readonly end: Instant } | null
  readonly invoiceId: string | null
  readonly late: boolean
  readonly quantity: Quantity
}

type Counted = Pick<Grant, 'id' | 'kind' | 'startsAt' | 'expiresAt' | 'used' | 'overage' | 'freeUsed' | 'freeOverage'>

/**
 * Where what a grant counts is billed: what lines have billed of it, and on which of them the rest will be. What is on none is free.
 * Pure; over all grants the bills of a line add up to what the line bills.
 * @param lines of the grant's balance, in the order of their times
 */
export function billsOf(grant: Counted, lines: readonly BillingLine[], reported: readonly ReportedPart[]): readonly Bill[] {
  const bills = new Map<string, Bill>()
  const own = reported.filter(({ grantId }) => grantId === grant.id)
  for (const { lineId, late, quantity } of own) add(bills, lines, { lineId, late, quantity })
  const isTouched = lines.some(({ startsAt, endsAt }) => startsAt < (grant.expiresAt ?? FOREVER) && endsAt > grant.startsAt)
  if (isTouched) {
    const billing = billingTimeOf(lines, grant)
    const billed = own.reduce((sum, { quantity }) => sum + quantity, 0n)
    if (billing !== null) {
      const { time, isLate: late } = billing
      add(bills, lines, { lineId: time.id, late, quantity: billableOf(grant, time.reports) - billed })
    }
  }
  return [...bills.values()].filter(({ lineId, quantity }) => lineId !== '' && quantity !== 0n)
}

/** What of a grant's count is billed at all. */
function billableOf({ kind, used, overage, freeUsed, freeOverage }: Counted, reports: BillingLine['reports']): Quantity {
  if (reports === 'use') return used - freeUsed + overage - freeOverage
  return kind === 'plan' ? overage - freeOverage : 0n
}

const FOREVER = new Date(8.64e15)

function add(
  bills: Map<string, Bill>,
  lines: readonly BillingLine[],
  { lineId, late, quantity }: Pick<Bill, 'lineId' | 'late' | 'quantity'>,
): void {
  const name = `${lineId}\n${late}`
  const line = lines.find(({ id }) => id === lineId)
  bills.set(name, {
    lineId,
    period: line ? { start: line.startsAt, end: line.endsAt } : null,
    invoiceId: line?.invoiceId ?? null,
    late,
    quantity: (bills.get(name)?.quantity ?? 0n) + quantity,
  })
}

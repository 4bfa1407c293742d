import type { Grant } from '../grants/rules.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'
import { billingTimeOf, takenBackFrom, type BilledPart, type BilledTime } from '../metering/decide/late.ts'
import type { FreeReason } from '../pricing/rules.ts'

/** A line of a statement: the time in which one price bills the use of a balance. */
export type BillingLine = BilledTime & {
  readonly id: string
  readonly invoiceId: string | null
  /** What it bills: what went beyond the plan's allowance, or all use (EM-3). */
  readonly reports: 'overage' | 'use'
  /** Whether it is for use alone that was told late of a line which a change had ended. */
  readonly isLate: boolean
}

/** What a line bills of a grant so far, and what it billed besides and was credited. */
export type ReportedPart = BilledPart & {
  readonly grantId: string
  readonly reports: BillingLine['reports']
  readonly credited: Quantity
}

/** A part of what a grant counts, on the line that bills it; `late`: counted after the invoice of its own time was closed. */
export type Bill = {
  readonly lineId: string
  readonly period: { readonly start: Instant; readonly end: Instant } | null
  readonly invoiceId: string | null
  readonly late: boolean
  /** What the line's invoice has of it, or will have. */
  readonly quantity: Quantity
  /** What of that was taken back after the invoice was closed, and comes back as a credit. */
  readonly credited: Quantity
}

type Counted = Pick<Grant, 'id' | 'kind' | 'startsAt' | 'expiresAt' | 'used' | 'overage' | 'freeUsed' | 'freeOverage'>

/**
 * Where what a grant counts is billed: what lines have billed of it, and on which of them the rest will be. What is on none is free.
 * Pure; over all grants the bills of a line add up to what the line bills, and what is credited of them to what is credited of it.
 * @param lines of the grant's balance, in the order of their times
 */
export function billsOf(grant: Counted, lines: readonly BillingLine[], reported: readonly ReportedPart[]): readonly Bill[] {
  const bills = new Map<string, Bill>()
  const own = reported.filter(({ grantId }) => grantId === grant.id)
  for (const { lineId, late, quantity, credited } of own)
    add(bills, lines, { lineId, late, quantity: quantity + credited, credited })
  // What is told late of a line that has ended is on its own line at once.
  const metered = lines.filter(({ isLate }) => !isLate)
  const isTouched = metered.some(({ startsAt, endsAt }) => startsAt < (grant.expiresAt ?? FOREVER) && endsAt > grant.startsAt)
  if (isTouched) {
    const billing = billingTimeOf(metered, grant)
    const billed = own.reduce((sum, { quantity }) => sum + quantity, 0n)
    const reports = billing?.time.reports ?? own[0]?.reports
    const rest = reports === undefined ? 0n : billableOf(grant, reports) - billed
    if (billing !== null && rest > 0n)
      add(bills, lines, { lineId: billing.time.id, late: billing.isLate, quantity: rest, credited: 0n })
    for (const { lineId, late, quantity, isClosed } of takenBackFrom(lines, own, rest < 0n ? -rest : 0n)) {
      add(
        bills,
        lines,
        isClosed ? { lineId, late, quantity: 0n, credited: quantity } : { lineId, late, quantity: -quantity, credited: 0n },
      )
    }
  }
  return [...bills.values()].filter(({ lineId, quantity }) => lineId !== '' && quantity !== 0n)
}

/** What of overage is billed nowhere, and why. */
export type FreeOverage = { readonly overage: Quantity; readonly because: FreeReason }

/**
 * How much of a grant's overage lines bill, and what is free of it: null where nothing is. Pure.
 * @param isKnown whether any line was ever there for its balance; before, the subscription says whether there will be one
 * @param because why nothing bills now; null where something does
 */
export function billedOf(
  { overage, freeOverage }: Pick<Grant, 'overage' | 'freeOverage'>,
  bills: readonly Bill[],
  { isKnown, because }: { readonly isKnown: boolean; readonly because: FreeReason | null },
): { readonly billed: Quantity; readonly free: FreeOverage | null } {
  const ahead = because === null ? overage - freeOverage : 0n
  const billed = isKnown ? bills.reduce((sum, { quantity, credited }) => sum + quantity - credited, 0n) : ahead
  return { billed, free: overage > billed ? { overage: overage - billed, because: because ?? 'unbilled_time' } : null }
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
  { lineId, late, quantity, credited }: Pick<Bill, 'lineId' | 'late' | 'quantity' | 'credited'>,
): void {
  const name = `${lineId}\n${late}`
  const line = lines.find(({ id }) => id === lineId)
  bills.set(name, {
    lineId,
    period: line ? { start: line.startsAt, end: line.endsAt } : null,
    invoiceId: line?.invoiceId ?? null,
    late,
    quantity: (bills.get(name)?.quantity ?? 0n) + quantity,
    credited: (bills.get(name)?.credited ?? 0n) + credited,
  })
}

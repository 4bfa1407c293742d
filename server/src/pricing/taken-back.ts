import type { Queryable, Transaction } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { newId } from '../lib/ids.ts'
import type { Quantity } from '../lib/quantity.ts'
import { takenBackFrom } from '../metering/decide/late.ts'
import { findUsagePrices } from '../stripe/push/push-usage-prices.ts'
import { listReportedParts } from '../usage/bills-store.ts'
import { insertCredit, listFallenGrants, sumCredits, unpriceOverage, type Credited, type FallenGrant } from './credit-store.ts'
import { creditedMinorOf } from './rules.ts'
import { listSpansById, lockSpans, markReported } from './span-store.ts'
import type { BillingSpan, Report } from './spans.ts'

/** What was taken back of what a line bills of a grant. */
type TakenBack = {
  readonly span: BillingSpan
  readonly grant: FallenGrant
  readonly late: boolean
  readonly quantity: Quantity
}

type Place = { readonly organizationId: string; readonly now: Instant }

/** What was taken back and nobody has written down: of open lines it lowers the next report, of closed ones it is a credit. */
export type Falls = {
  readonly open: readonly (Report & { readonly reports: 'overage' | 'use' })[]
  readonly closed: readonly TakenBack[]
}

const NONE: Falls = { open: [], closed: [] }

/** Finds what grants count less than lines bill of them. Nearly always there is nothing, and one query says so. */
export async function listFalls(db: Queryable, place: Place): Promise<Falls> {
  const fallen = await listFallenGrants(db, place)
  if (fallen.length === 0) return NONE
  const { organizationId } = place
  const parts = await listReportedParts(db, { organizationId, grantIds: fallen.map(({ grantId }) => grantId) })
  const spans = await listSpansById(db, { organizationId, ids: [...new Set(parts.map(({ lineId }) => lineId))] })
  const taken = fallen.flatMap((grant): (TakenBack & { isClosed: boolean })[] => {
    const own = parts.filter((part) => part.grantId === grant.grantId && part.reports === grant.reports)
    return takenBackFrom(spans, own, grant.reported - grant.counted).map(({ lineId, late, quantity, isClosed }) => {
      return { span: spans.find(({ id }) => id === lineId)!, grant, late, quantity, isClosed }
    })
  })
  return { open: taken.filter(({ isClosed }) => !isClosed).map(toReport), closed: taken.filter(({ isClosed }) => isClosed) }
}

function toReport({ span, grant, late, quantity }: TakenBack): Falls['open'][number] {
  const { reports } = grant
  return { span, late, reports, quantity: -quantity, grants: [{ ...grant, counted: grant.reported - quantity }] }
}

/** The same under the locks of the lines that it is taken back from, so that nobody writes it down meanwhile. */
export async function lockFalls(tx: Transaction, place: Place): Promise<Falls> {
  const found = await listFalls(tx, place)
  if (found.closed.length === 0) return found
  await lockSpans(tx, { organizationId: place.organizationId, ids: found.closed.map(({ span }) => span.id) })
  return listFalls(tx, place)
}

/** Writes down what comes back of closed lines, at what it cost on them. */
export async function storeCredits(
  tx: Transaction,
  { organizationId, machineNow }: { readonly organizationId: string; readonly machineNow: Instant },
  closed: Falls['closed'],
): Promise<void> {
  if (closed.length === 0) return
  const spans = closed.map(({ span }) => span)
  const before = new Map(
    await sumCredits(
      tx,
      organizationId,
      spans.map(({ id }) => id),
    ),
  )
  const prices = await findUsagePrices(
    tx,
    spans.map(({ priceId }) => priceId),
  )
  for (const { span, grant, late, quantity } of closed) {
    const known = before.get(span.id) ?? NO_CREDIT
    const whole = creditedWith(known, { price: prices.get(span.priceId)!.price, quantity: span.quantity }, quantity)
    before.set(span.id, whole)
    const { grantId, reports, reported } = grant
    const credit = { organizationId, grantId, quantity, amountMinor: whole.amountMinor - known.amountMinor }
    await insertCredit(tx, { ...credit, id: newId('ucr'), spanId: span.id, late }, machineNow)
    const less = [{ ...grant, counted: reported - quantity }]
    await markReported(tx, { organizationId, reports, spanId: span.id, late }, less)
    await unpriceOverage(tx, credit)
  }
}

export const NO_CREDIT: Credited = { quantity: 0n, amountMinor: 0 }

/** What is credited of a line when still more of it is taken back: never less than before. */
export function creditedWith(
  before: Credited,
  { price, quantity }: { readonly price: Parameters<typeof creditedMinorOf>[0]; readonly quantity: Quantity },
  more: Quantity,
): Credited {
  const credited = before.quantity + more
  return { quantity: credited, amountMinor: Math.max(before.amountMinor, creditedMinorOf(price, { quantity, credited })) }
}

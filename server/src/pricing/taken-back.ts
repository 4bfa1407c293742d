import type { Queryable, Transaction } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { newId } from '../lib/ids.ts'
import type { Quantity } from '../lib/quantity.ts'
import { takenBackFrom, type BilledPart } from '../metering/decide/late.ts'
import { listReportedParts } from '../usage/bills-store.ts'
import type { ReportedPart } from '../usage/bills.ts'
import { insertCredit, listFallenGrants, unpriceOverage, type FallenGrant } from './credit-store.ts'
import { creditedWith, readWholes, wholeIdOf } from './late-lines.ts'
import { listFallenLate, lowerLateLine, settleFallenLate, type FallenLate } from './late-lines-store.ts'
import { listSpansById, lockSpans, markReported } from './span-store.ts'
import type { BillingSpan, CountedGrant, Report } from './spans.ts'

/** What was taken back of what a line bills of a grant. */
type TakenBack = {
  readonly span: BillingSpan
  readonly grant: Pick<FallenGrant, 'grantId' | 'reports'>
  readonly late: boolean
  readonly quantity: Quantity
  /** Whether it was told late of a line that a change had ended, and so was taken off what that counts. */
  readonly isTold: boolean
}

type Place = { readonly organizationId: string; readonly now: Instant }

/** What was taken back and nobody has written down: of open lines it lowers the next report, of closed ones it is a credit. */
export type Falls = {
  readonly open: readonly (Report & { readonly reports: 'overage' | 'use' })[]
  /** Of late use whose item was not asked for yet: there will be less of it. */
  readonly unasked: readonly TakenBack[]
  readonly closed: readonly TakenBack[]
}

const NONE: Falls = { open: [], unasked: [], closed: [] }

/** Finds what grants count less than lines bill of them. Nearly always there is nothing, and two queries say so. */
export async function listFalls(db: Queryable, place: Place): Promise<Falls> {
  const fallen = await listFallenGrants(db, place)
  const told = await listFallenLate(db, place.organizationId)
  if (fallen.length + told.length === 0) return NONE
  const { organizationId } = place
  const grantIds = [...new Set([...fallen, ...told].map(({ grantId }) => grantId))]
  const parts = await listReportedParts(db, { organizationId, grantIds })
  const spans = await listSpansById(db, { organizationId, ids: [...new Set(parts.map(({ lineId }) => lineId))] })
  const taken = takenOf({ fallen, told, parts, spans })
  const isOpen = ({ span }: TakenBack): boolean => !isInvoiced(span)
  return {
    open: taken.filter((each) => isOpen(each) && each.span.kind === 'usage').map(toReport),
    unasked: taken.filter((each) => isOpen(each) && each.span.kind === 'late'),
    closed: taken.filter((each) => !isOpen(each)),
  }
}

/** Whether nothing is taken off a line any more but as a credit: of late use, from when its item is asked for. */
function isInvoiced({ kind, state }: BillingSpan): boolean {
  return state === 'closed' || (kind === 'late' && state === 'closing')
}

type Known = {
  readonly fallen: readonly FallenGrant[]
  readonly told: readonly FallenLate[]
  readonly parts: readonly ReportedPart[]
  readonly spans: readonly BillingSpan[]
}

/** What was told late of a line comes off that line's late use; whatever else off what was billed last. */
function takenOf({ fallen, told, parts, spans }: Known): readonly TakenBack[] {
  const lines = spans.map((span) => ({ ...span, state: isInvoiced(span) ? ('closed' as const) : span.state }))
  const taken: TakenBack[] = []
  const take = (grant: TakenBack['grant'], own: readonly BilledPart[], quantity: Quantity, isTold: boolean): void => {
    const left = own.map((part) => ({ ...part, quantity: part.quantity - takenFrom(taken, grant, part) }))
    for (const { lineId, late, quantity: less } of takenBackFrom(lines, left, quantity)) {
      taken.push({ span: spans.find(({ id }) => id === lineId)!, grant, late, quantity: less, isTold })
    }
  }
  for (const { spanId, grantId, quantity } of told) {
    const beside = new Set(spans.filter(({ lateOf }) => lateOf === spanId).map(({ id }) => id))
    const own = parts.filter((part) => part.grantId === grantId && beside.has(part.lineId))
    take({ grantId, reports: 'overage' }, own, quantity, true)
  }
  for (const grant of fallen) {
    const own = parts.filter((part) => part.grantId === grant.grantId && part.reports === grant.reports)
    const less = grant.reported - grant.counted - own.reduce((sum, part) => sum + takenFrom(taken, grant, part), 0n)
    if (less > 0n) take(grant, own, less, false)
  }
  return taken
}

function takenFrom(taken: readonly TakenBack[], { grantId }: TakenBack['grant'], { lineId, late }: BilledPart): Quantity {
  return taken
    .filter((each) => each.grant.grantId === grantId && each.span.id === lineId && each.late === late)
    .reduce((sum, each) => sum + each.quantity, 0n)
}

/** So much less of a grant, as a difference of counts. */
function lessOf({ grantId }: TakenBack['grant'], { balanceKey, startsAt }: BillingSpan, quantity: Quantity): CountedGrant {
  return { grantId, balanceKey: balanceKey!, startsAt, expiresAt: null, counted: 0n, reported: quantity }
}

function toReport({ span, grant, late, quantity }: TakenBack): Falls['open'][number] {
  return { span, late, reports: grant.reports, quantity: -quantity, grants: [lessOf(grant, span, quantity)] }
}

/** The same under the locks of the lines that it is taken back from, so that nobody writes it down meanwhile. */
export async function lockFalls(tx: Transaction, place: Place): Promise<Falls> {
  const found = await listFalls(tx, place)
  const spans = [...found.closed, ...found.unasked].map(({ span }) => span)
  if (spans.length === 0) return found
  await lockSpans(tx, { organizationId: place.organizationId, ids: spans.map(({ id }) => id) })
  return listFalls(tx, place)
}

/** Writes down what comes back of closed lines, at what it cost on them, and what is not asked for any more. */
export async function storeCredits(
  tx: Transaction,
  { organizationId, machineNow }: { readonly organizationId: string; readonly machineNow: Instant },
  { closed, unasked }: Pick<Falls, 'closed' | 'unasked'>,
): Promise<void> {
  if (closed.length + unasked.length === 0) return
  for (const { span, grant, late, quantity } of unasked) {
    await lowerLateLine(tx, { organizationId, spanId: span.id, quantity })
    await markReported(tx, { organizationId, reports: grant.reports, spanId: span.id, late }, [lessOf(grant, span, quantity)])
  }
  const wholes = await readWholes(tx, organizationId, { spans: closed.map(({ span }) => span) })
  for (const { span, grant, late, quantity, isTold } of closed) {
    const whole = wholes.get(wholeIdOf(span))!
    const credited = creditedWith(whole.credited, whole, quantity)
    wholes.set(wholeIdOf(span), { ...whole, credited })
    const { grantId, reports } = grant
    const credit = { organizationId, grantId, quantity, amountMinor: credited.amountMinor - whole.credited.amountMinor }
    await insertCredit(tx, { ...credit, id: newId('ucr'), spanId: span.id, late }, machineNow)
    await markReported(tx, { organizationId, reports, spanId: span.id, late }, [lessOf(grant, span, quantity)])
    // What was told late is no overage of an earlier price any more since it was taken back.
    await unpriceOverage(tx, isTold ? { ...credit, quantity: 0n } : credit)
  }
  await settleFallenLate(tx, organizationId)
}

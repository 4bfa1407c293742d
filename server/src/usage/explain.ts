import type { UsagePrice } from '../catalog/catalog.ts'
import type { GrantLine } from '../grants/book.ts'
import { compareDrawOrder, meterOf, partsOf, type Grant } from '../grants/rules.ts'
import { findGrantsAt, findGrantsById, type AccountRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { recordedAtOf } from '../lib/ids.ts'
import { DAY_MS } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import { reasonOf } from '../metering/decide/answers.ts'
import { readBalances, type BalanceReading, type OrganizationReading } from '../metering/reads.ts'
import type { UsageEvent } from '../metering/usage.ts'
import { findEventsByKey } from '../metering/write/store.ts'
import { freeReasonOf, presentOverageOf, priceParts, type PricedOverage, type PricePart } from '../pricing/rules.ts'
import { listBillingLines, listReportedParts } from './bills-store.ts'
import { billedOf, billsOf, type Bill, type BillingLine, type FreeOverage } from './bills.ts'
import { pageFrom, pageOf, readPage, type EventsInput } from './events.ts'
import { findEvent, listCorrections, listDrawnEvents, listGrantsEnded, listHolds, type OpenHold } from './explain-store.ts'
import { hoursStatement, listReportRows, type ReportRow } from './report-store.ts'
import { readSpan, type ReadingContext, type ReadSpan } from './reports.ts'

/** A page of the events behind a figure. */
type Events = { readonly events: readonly UsageEvent[]; readonly nextCursor: string | null }

export type Paging = Pick<EventsInput, 'limit' | 'cursor'>

/** One use or refusal, with what became of it since. */
export type UseExplanation = {
  readonly event: UsageEvent
  /** A refusal in words. */
  readonly reason: string | null
  readonly corrections: readonly UsageEvent[]
  /** What it counts and takes after its corrections. */
  readonly counts: Quantity
  readonly takes: Quantity
  /** The grants that it drew from, as they are now. */
  readonly grants: readonly GrantShare[]
}

/** What has become of a grant: amount − used − reserved − revoked − expired = remaining, and used + overage is what its events took. */
export type GrantShare = {
  readonly grant: Grant
  /** null is unlimited. */
  readonly amount: Quantity | null
  readonly expired: Quantity
  readonly remaining: Quantity | null
  readonly holds: readonly (Pick<OpenHold, 'id' | 'meter' | 'expiresAt'> & { readonly amount: Quantity })[]
  /** The lines of statements on which its count is billed. */
  readonly bills: readonly Bill[]
  /** What of its overage is billed nowhere, and why; null where all of it is, or there is none. */
  readonly free: FreeOverage | null
  /** What the rest of its overage costs, by the terms that it stands under; null where it has no price. */
  readonly cost: { readonly currency: string; readonly parts: readonly PricePart[] } | null
}

export type GrantsExplanation = Events & { readonly balanceKey: string; readonly grants: readonly GrantShare[] }

/** `balance` is the sum of the grants. */
export type BalanceExplanation = GrantsExplanation & { readonly balance: BalanceReading }

export type FigureExplanation = Events & ReadSpan & { readonly figure: Omit<ReportRow, 'start' | 'group' | 'labels'> }

/**
 * One use or refusal by its idempotency key, or by the id of its event.
 * @throws DomainError `not_found`, also where its key is older than keys are kept
 */
export async function explainUse(
  context: ReadingContext,
  { organizationId, name }: { organizationId: string; name: { readonly key: string } | { readonly id: string } },
): Promise<UseExplanation> {
  const event =
    'key' in name ? await findByKey(context, organizationId, name.key) : await findById(context, organizationId, name.id)
  if (!event) {
    throw new DomainError('not_found', 'No use was recorded under that name, or its key is older than keys are kept.')
  }
  const reading = await readBalances(context.db, context, organizationId)
  const corrections = await listCorrections(context.db, event)
  const drawn = await findShares(context, event, reading)
  const sum = (read: (one: UsageEvent) => Quantity): Quantity =>
    corrections.reduce((total, one) => total + read(one), read(event))
  return {
    event,
    reason: event.refusal && reasonOf(event.refusal, event.after, event),
    corrections,
    counts: sum(({ counted }) => counted),
    takes: event.verb === 'reserve' ? 0n : sum((one) => one.drawn),
    grants: drawn,
  }
}

async function findByKey({ db }: ReadingContext, organizationId: string, idempotencyKey: string): Promise<UsageEvent | null> {
  return (await findEventsByKey(db, [{ organizationId, idempotencyKey }]))[0] ?? null
}

async function findById({ db }: ReadingContext, organizationId: string, id: string): Promise<UsageEvent | null> {
  const recordedAt = recordedAtOf(id)
  return recordedAt && findEvent(db, { organizationId, id, recordedAt })
}

/** The grants that an event drew from, or of a refusal those that there were for it. */
async function findShares(
  context: ReadingContext,
  event: UsageEvent,
  reading: OrganizationReading,
): Promise<readonly GrantShare[]> {
  const { organizationId, draws, after } = event
  const lines = reading.balances.flatMap((balance) => balance.lines)
  const ids = draws.length > 0 ? draws.map(({ grantId }) => grantId) : [after.planGrantId]
  const stored = await findGrantsById(
    context.db,
    ids.map((id) => ({ organizationId, id })),
  )
  const holding = await readHolding(context, reading, after.balanceKey)
  return Promise.all(
    stored.map((grant) => {
      const line = lines.find((one) => one.grant.id === grant.id)
      return line ? shareOfLine(context, line, holding) : shareOfGrant(context, grant, holding)
    }),
  )
}

/**
 * A balance: the grants that it is the sum of, and the events that took from them.
 * @throws DomainError `not_found`
 */
export async function explainBalance(
  context: ReadingContext,
  { organizationId, balanceKey, ...paging }: Paging & { organizationId: string; balanceKey: string },
): Promise<BalanceExplanation> {
  const reading = await readBalances(context.db, context, organizationId)
  const balance = reading.balances.find((one) => one.balanceKey === balanceKey)
  if (!balance) throw new DomainError('not_found', 'The organization has no such balance.', { balance: balanceKey })
  const holding = await readHolding(context, reading, balanceKey)
  const since = balance.periodStart
  const ended = await listGrantsEnded(context.db, { organizationId, balanceKey, since, now: reading.now })
  const grants = await Promise.all([
    ...balance.lines.map((line) => shareOfLine(context, line, holding)),
    ...ended.toSorted(compareDrawOrder).map((grant) => shareOfGrant(context, grant, holding)),
  ])
  return { balanceKey, balance, grants, ...(await drawnFrom(context, reading, { grants, ...paging })) }
}

/**
 * One grant, also one that is over: of an allowance whose overage was billed, the events that made the line of the invoice.
 * @throws DomainError `not_found`
 */
export async function explainGrant(
  context: ReadingContext,
  { organizationId, grantId, ...paging }: Paging & { organizationId: string; grantId: string },
): Promise<GrantsExplanation> {
  const reading = await readBalances(context.db, context, organizationId)
  const opened = reading.balances.flatMap((balance) => balance.lines).find(({ grant }) => grant.id === grantId)
  const stored = opened ? [opened.grant] : await findGrantsById(context.db, [{ organizationId, id: grantId }])
  if (stored.length === 0) throw new DomainError('not_found', `There is no grant ${grantId}.`, { grant_id: grantId })
  return explainGrants(context, reading, { grants: stored, ...paging })
}

/**
 * Named grants, e.g. those that a line of a statement bills.
 * @throws DomainError `not_found`
 */
export async function explainGrantsOf(
  context: ReadingContext,
  { organizationId, grantIds, ...paging }: Paging & { organizationId: string; grantIds: readonly string[] },
): Promise<GrantsExplanation> {
  const reading = await readBalances(context.db, context, organizationId)
  const grants = await findGrantsById(
    context.db,
    grantIds.map((id) => ({ organizationId, id })),
  )
  if (grants.length === 0) throw new DomainError('not_found', 'There are no such grants.')
  return explainGrants(context, reading, { grants: grants.toSorted(compareDrawOrder), ...paging })
}

/**
 * The grants of a balance that counted at a moment, and so the period that it lies in.
 * @throws DomainError `not_found`
 */
export async function explainBalanceAt(
  context: ReadingContext,
  { organizationId, balanceKey, at, ...paging }: Paging & { organizationId: string; balanceKey: string; at: Instant },
): Promise<GrantsExplanation> {
  const reading = await readBalances(context.db, context, organizationId)
  const found = await findGrantsAt(context.db, [{ organizationId, at }])
  const grants = found.filter((grant) => grant.balanceKey === balanceKey).toSorted(compareDrawOrder)
  if (grants.length === 0) {
    throw new DomainError('not_found', `The organization had nothing of "${balanceKey}" at that time.`, { balance: balanceKey })
  }
  return explainGrants(context, reading, { grants, ...paging })
}

async function explainGrants(
  context: ReadingContext,
  reading: OrganizationReading,
  { grants: found, ...paging }: Paging & { grants: readonly Grant[] },
): Promise<GrantsExplanation> {
  const { balanceKey } = found[0]!
  const lines = reading.balances.flatMap((balance) => balance.lines)
  const holding = await readHolding(context, reading, balanceKey)
  const grants = await Promise.all(
    found.map((grant) => {
      const line = lines.find((one) => one.grant.id === grant.id)
      return line ? shareOfLine(context, line, holding) : shareOfGrant(context, grant, holding)
    }),
  )
  return { balanceKey, grants, ...(await drawnFrom(context, reading, { grants, ...paging })) }
}

async function drawnFrom(
  { db }: ReadingContext,
  { account }: OrganizationReading,
  { grants, ...paging }: Paging & { grants: readonly GrantShare[] },
): Promise<Events> {
  const starts = grants.map(({ grant }) => grant.startsAt.getTime())
  const found = await listDrawnEvents(db, {
    organizationId: account.organizationId,
    balanceKey: grants[0]!.grant.balanceKey,
    grantIds: grants.map(({ grant }) => grant.id),
    // Grants live on the organization's time, recording on the server's: on a test clock the one says nothing of the other.
    recordedFrom: account.testClockNow === null ? new Date(Math.min(...starts) - DAY_MS) : null,
    ...pageOf(paging),
  })
  return pageFrom(found, paging.limit)
}

/**
 * A figure of a report: one meter's use of a span, and the events that it is the sum of.
 * @throws DomainError as `readReport`
 */
export async function explainFigure(
  context: ReadingContext,
  input: EventsInput & { readonly meter: string },
): Promise<FigureExplanation> {
  const span = await readSpan(context, input)
  const { start, end, calendar, terms } = span
  const { organizationId, meter } = input
  const query = { organizationId, meter, start, end, grain: 'total', timeZone: calendar.timeZone, cycles: [] } as const
  const [row] = await listReportRows(context.db, hoursStatement({ ...query, after: null, limit: 1 }))
  const filter = [...(meterOf(terms, meter)?.filter ?? [])].map(([name, values]) => [name, [...values]] as const)
  const page = await readPage(context, input, { span, uses: Object.fromEntries(filter) })
  return { ...span, figure: row ?? { meter, events: 0n, quantity: 0n, drawn: 0n, overage: 0n }, ...page }
}

type Holding = {
  readonly now: Instant
  readonly holds: readonly OpenHold[]
  /** The lines that bill the balance. */
  readonly lines: readonly BillingLine[]
  readonly account: AccountRow
}

async function readHolding({ db }: ReadingContext, { account, now }: OrganizationReading, balanceKey: string): Promise<Holding> {
  const { organizationId } = account
  return {
    account,
    now,
    holds: await listHolds(db, { organizationId, balanceKey }),
    lines: await listBillingLines(db, { organizationId, balanceKeys: [balanceKey] }),
  }
}

/** A grant that counts now, as the balance has it: a plan's amount is the plan's own, and what overdue holds held is free. */
async function shareOfLine(context: ReadingContext, line: GrantLine, holding: Holding): Promise<GrantShare> {
  const { used, overage, reserved, granted, available } = line
  const grant = { ...line.grant, used, overage, reserved }
  const amount = granted === null ? null : granted + grant.revoked
  const share = { grant, amount, expired: 0n, remaining: available }
  return { ...share, holds: holdsOn(grant, holding), ...(await chargeOf(context, grant, holding)) }
}

async function shareOfGrant(context: ReadingContext, stored: Grant, holding: Holding): Promise<GrantShare> {
  const holds = holdsOn(stored, holding)
  const grant = { ...stored, reserved: holds.reduce((sum, { amount }) => sum + amount, 0n) }
  return { grant, amount: grant.amount, ...partsOf(grant, holding.now), holds, ...(await chargeOf(context, grant, holding)) }
}

/** What is held on a grant by reservations whose time is not over. */
function holdsOn({ id }: Grant, { now, holds }: Holding): GrantShare['holds'] {
  return holds.flatMap(({ holds: draws, ...hold }) =>
    hold.expiresAt <= now ? [] : draws.filter(({ grantId }) => grantId === id).map(({ amount }) => ({ ...hold, amount })),
  )
}

async function chargeOf(
  { db, catalogs }: ReadingContext,
  grant: Grant,
  { account, lines }: Holding,
): Promise<Pick<GrantShare, 'bills' | 'free' | 'cost'>> {
  const { organizationId, overage } = grant
  const reported = await listReportedParts(db, { organizationId, grantIds: [grant.id] })
  const bills = billsOf(grant, lines, reported)
  if (overage === 0n || grant.planKey === null || grant.catalogVersion === null) return { bills, free: null, cost: null }
  const catalog = await catalogs.get(grant.catalogVersion)
  const price: UsagePrice | null = catalog.plans.get(grant.planKey)?.allowances.get(grant.balanceKey)?.overage ?? null
  if (price === null) return { bills, free: null, cost: null }
  const { billed, free } = billedOf(grant, bills, { isKnown: lines.length > 0, because: freeReasonOf(account) })
  return {
    bills,
    free,
    cost: { currency: catalog.currency, parts: partsOfCost(price, { ...grant, overage: billed, freeOverage: 0n }) },
  }
}

/** What an earlier plan has priced is one part, as it was billed. */
function partsOfCost(price: UsagePrice, priced: PricedOverage): readonly PricePart[] {
  const { pricedOverage: quantity, pricedMinor } = priced
  const before = { quantity, amountMinor: Number(pricedMinor), tier: null, flat: false }
  const parts = priceParts(price, presentOverageOf(priced))
  return quantity === 0n || priced.overage === 0n ? parts : [before, ...parts]
}

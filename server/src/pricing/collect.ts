import { createHash } from 'node:crypto'
import type { Transaction } from '../db/database.ts'
import { lockAccount } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization, timeOf, type BilledOrganization } from '../stripe/organizations.ts'
import { findUsagePrices, type UsagePriceRow } from '../stripe/push/push-usage-prices.ts'
import { sharesOf } from '../metering/decide/told-late.ts'
import { markCorrectionsLookedAt } from './credit-store.ts'
import { insertMeterEvent, moveEvent, moveReported, takeUnsentOfClosedSpans } from './event-store.ts'
import { insertChangedLines, listChangedLines, listStandingAllowances } from './late-lines-store.ts'
import {
  closeSettledSpans,
  freeCounted,
  linkInvoices,
  listBillingItems,
  listCountedGrants,
  lockUnfinishedSpans,
  markReported,
  readEndedUntil,
  saveSpans,
} from './span-store.ts'
import { assignCounts, followItems, reportTime, type BillingSpan, type Report } from './spans.ts'
import { readIncluded } from './statement-store.ts'
import { lockFalls, storeCredits } from './taken-back.ts'
import { recordSettledUsage } from './use-store.ts'

type Collecting = {
  readonly context: BillingContext
  readonly organization: BilledOrganization
  /** The organization's time. */
  readonly now: Instant
  /** Whether nothing can change in this second any more: a test clock that is about to move. */
  readonly isStanding: boolean
}

/**
 * Takes what has been counted since the last time into reports for Stripe: stored here, sent by `send.ts`. What a report holds
 * is the difference of what the grants have counted and what was reported of them, in one transaction with writing that down;
 * so every count is in exactly one report, however often and wherever this runs. What was taken back of lines whose invoice is closed
 * becomes a credit.
 */
export async function collectUse(
  context: BillingContext,
  organizationId: string,
  { isStanding = false }: { readonly isStanding?: boolean } = {},
): Promise<void> {
  const organization = await readOrganization(context.db, organizationId)
  const now = timeOf(organization, context.clock)
  await context.db.transaction(async (tx) => {
    const collecting = { context, organization, now, isStanding }
    // Credits write to grants; and who follows Stripe locks in this order too.
    await lockAccount(tx, organizationId)
    await markCorrectionsLookedAt(tx, organizationId)
    await collect(tx, collecting)
    await carryOver(tx, collecting)
  })
}

/**
 * Follows what the mirror has just learned of subscriptions and invoices; called in the transaction that wrote it, which holds
 * the account's lock. What a span that ends has counted so far is reported before it does.
 */
export async function followBilling(
  tx: Transaction,
  context: BillingContext,
  { organizationId, now }: { readonly organizationId: string; readonly now: Instant },
): Promise<void> {
  const organization = await readOrganization(tx, organizationId)
  const collecting = { context, organization, now, isStanding: false }
  const spans = await collect(tx, collecting)
  const machineNow = context.clock.now()
  const place = { organizationId, now: machineNow }
  const items = await listBillingItems(tx, organizationId)
  const { ended, opened } = followItems({
    spans: spans.filter(({ state }) => state === 'open'),
    ended: await readEndedUntil(tx, organizationId),
    items,
    now,
  })
  const changed = await withIncluded(tx, organizationId, ended)
  await saveSpans(tx, place, [...changed, ...opened])
  await keepRoomFor(tx, { organizationId, now }, changed)
  await forgiveUnbilled(tx, collecting, { spans, opened })
  await recordSettledUsage(tx, organizationId, machineNow)
  const closed = await closeSettledSpans(tx, organizationId, now)
  await linkInvoices(tx, organizationId, new Date(now.getTime() - 70 * DAY_MS))
  if (closed.length + ended.length > 0) await carryOver(tx, collecting)
}

/** What a change ends keeps what was included until then: the grant goes on, under other terms. */
async function withIncluded(
  tx: Transaction,
  organizationId: string,
  ended: readonly BillingSpan[],
): Promise<readonly BillingSpan[]> {
  const spans: BillingSpan[] = []
  for (const span of ended) {
    const { kind, state, balanceKey, startsAt: start, endsAt: end } = span
    const isChanged = kind === 'usage' && state === 'closed' && balanceKey !== null
    const included = isChanged ? await readIncluded(tx, { organizationId, balanceKey, period: { start, end } }) : null
    spans.push({ ...span, included })
  }
  return spans
}

/** What is told late of lines that a change ends, and what that leaves of their allowances: these go on under other terms. */
async function keepRoomFor(
  tx: Transaction,
  { organizationId, now }: { readonly organizationId: string; readonly now: Instant },
  ended: readonly BillingSpan[],
): Promise<void> {
  const changed = ended.filter(({ included }) => included !== null)
  if (changed.length === 0) return
  const standing = await listStandingAllowances(tx, { organizationId, balanceKeys: balancesOf(changed), now })
  const known = await listChangedLines(tx, { organizationId, grantIds: standing.map(({ grantId }) => grantId) })
  const lines = changed.flatMap(({ id: spanId, balanceKey }) => {
    const allowance = standing.find((each) => each.balanceKey === balanceKey)
    if (allowance === undefined) return []
    const { passed } = sharesOf(known.filter(({ grantId }) => grantId === allowance.grantId))
    return [{ ...allowance, spanId, passed: passed.plan, passedElsewhere: passed.others }]
  })
  if (lines.length > 0) await insertChangedLines(tx, organizationId, lines)
}

async function collect(tx: Transaction, collecting: Collecting): Promise<readonly BillingSpan[]> {
  const { context, organization, now } = collecting
  const spans = await lockUnfinishedSpans(tx, organization.id)
  if (organization.customerId === null) return spans
  const falls = await lockFalls(tx, { organizationId: organization.id, now })
  await storeCredits(tx, { organizationId: organization.id, machineNow: context.clock.now() }, falls)
  const billing = spans.filter(({ kind }) => kind === 'usage')
  if (billing.length === 0) return spans
  const prices = await findUsagePrices(
    tx,
    billing.map(({ priceId }) => priceId),
  )
  const current = new Map(spans.map((span) => [span.id, { ...span }]))
  for (const reports of ['overage', 'use'] as const) {
    const own = billing.filter(({ priceId }) => prices.get(priceId)?.reports === reports)
    if (own.length === 0) continue
    const query = { organizationId: organization.id, balanceKeys: balancesOf(own), reports, now }
    const rises = assignCounts(own, await listCountedGrants(tx, query))
    for (const report of [...rises, ...falls.open.filter((fall) => fall.reports === reports)]) {
      const before = current.get(report.span.id)!
      const at = reportTime(before, now, collecting)
      if (at === null) continue
      const price = prices.get(before.priceId)!
      current.set(before.id, await storeReport(tx, collecting, { ...report, span: before, at, price }))
      const { late } = report
      await markReported(tx, { organizationId: organization.id, reports, spanId: before.id, late }, report.grants)
    }
  }
  const collected = [...current.values()]
  await saveSpans(
    tx,
    { organizationId: organization.id, now: context.clock.now() },
    collected.filter(({ kind }) => kind === 'usage'),
  )
  return collected
}

/** Answers the span with the report in it. What cancels out (a use and its correction) needs no report. */
async function storeReport(
  tx: Transaction,
  { context, organization }: Collecting,
  { span, quantity, late, grants, at, price }: Report & { readonly at: Instant; readonly price: UsagePriceRow },
): Promise<BillingSpan> {
  if (quantity === 0n) return span
  const { eventName, formula } = price
  const reported = { ...span, quantity: span.quantity + quantity, reports: span.reports + 1, lastReportAt: at }
  await insertMeterEvent(
    tx,
    {
      organizationId: organization.id,
      identifier: identifierOf(organization.id, reported),
      spanId: span.id,
      eventName,
      formula,
      customerId: organization.customerId!,
      quantity,
      value: formula === 'last' ? reported.quantity : quantity,
      at,
      late,
      parts: grants.map(({ grantId, counted, reported: before }) => [grantId, (counted - before).toString()]),
    },
    context.clock.now(),
  )
  return reported
}

/** The name by which Stripe knows a report again: made of whose it is, the span, and the how-manieth of it. */
function identifierOf(organizationId: string, { id, reports }: BillingSpan): string {
  return `tg_${createHash('sha256').update(`${organizationId}\n${id}\n${reports}`).digest('hex').slice(0, 48)}`
}

/**
 * What was counted while nothing billed it (before a subscription, in a trial, under a plan without a price for it) is free: when
 * the first span of a balance begins, its count begins too. What was taken back of what an earlier span had billed is forgotten.
 */
async function forgiveUnbilled(
  tx: Transaction,
  { organization, now }: Collecting,
  { spans, opened }: { readonly spans: readonly BillingSpan[]; readonly opened: readonly BillingSpan[] },
): Promise<void> {
  const billed = new Set(balancesOf(spans))
  const fresh = opened.filter(({ balanceKey }) => balanceKey !== null && !billed.has(balanceKey))
  if (fresh.length === 0) return
  const prices = await findUsagePrices(
    tx,
    fresh.map(({ priceId }) => priceId),
  )
  for (const reports of ['overage', 'use'] as const) {
    const own = fresh.filter(({ priceId }) => prices.get(priceId)?.reports === reports)
    if (own.length === 0) continue
    const query = { organizationId: organization.id, balanceKeys: balancesOf(own), reports, now }
    const counted = await listCountedGrants(tx, query)
    const place = { organizationId: organization.id, reports }
    await freeCounted(
      tx,
      place,
      counted.filter((grant) => grant.counted > grant.reported),
    )
    await markReported(
      tx,
      { ...place, spanId: '', late: false },
      counted.filter((grant) => grant.counted < grant.reported),
    )
  }
}

/** Reports that were stored but not sent before their span was closed come on the next invoice. */
async function carryOver(tx: Transaction, { context, organization, now }: Collecting): Promise<void> {
  const unsent = await takeUnsentOfClosedSpans(tx, organization.id)
  if (unsent.length === 0) return
  const spans = new Map((await lockUnfinishedSpans(tx, organization.id)).map((span) => [span.id, span]))
  for (const event of unsent) {
    const next = [...spans.values()].findLast(({ balanceKey }) => balanceKey === event.balanceKey)
    context.log.warn(
      { event: 'billing.late_use', organization_id: organization.id, identifier: event.identifier, carried: next !== undefined },
      'use could not be reported before its invoice was closed',
    )
    if (next === undefined) continue
    const at = reportTime(next, now) ?? next.startsAt
    const moved = { ...next, quantity: next.quantity + event.quantity, lastReportAt: at }
    spans.set(next.id, moved)
    await moveReported(tx, event, next.id)
    await moveEvent(tx, { ...event, spanId: next.id, value: event.formula === 'last' ? moved.quantity : event.quantity, at })
    await tx.query('update billing_spans set quantity = quantity - $3 where organization_id = $1 and id = $2', [
      organization.id,
      event.spanId,
      event.quantity,
    ])
  }
  await saveSpans(
    tx,
    { organizationId: organization.id, now: context.clock.now() },
    [...spans.values()].filter(({ kind }) => kind === 'usage'),
  )
}

function balancesOf(spans: readonly BillingSpan[]): string[] {
  return [...new Set(spans.flatMap(({ balanceKey }) => (balanceKey === null ? [] : [balanceKey])))]
}

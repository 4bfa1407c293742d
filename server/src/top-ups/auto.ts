import { insertAuditEntry } from '../audit/store.ts'
import type { Session } from '../db/database.ts'
import { publishEvent } from '../events/actions.ts'
import { insertMissingAccounts, lockAccount } from '../grants/store.ts'
import { DomainError } from '../lib/errors.ts'
import { newIdempotencyKey } from '../lib/ids.ts'
import { calendarMonthOf, MINUTE_MS } from '../lib/period.ts'
import { quantityToJson, type Quantity } from '../lib/quantity.ts'
import { readBalances } from '../metering/reads.ts'
import { readStanding } from '../standing/actions.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { runExclusively, type Asker } from '../subscriptions/actions.ts'
import { findUsableTopUp, payPurchase, resumePurchase, storePurchase } from './actions.ts'
import {
  deleteAutoTopUp,
  deleteRequest,
  insertRequest,
  listAutoTopUps,
  postponeRequest,
  refreshLowMarks,
  takeRequests,
  upsertAutoTopUp,
  type AutoTopUp,
  type AutoTopUpRequest,
} from './auto-store.ts'
import { decideAutoTopUp } from './rules.ts'
import { balanceNameOf, stopBuying } from './stopping.ts'
import { findAutomatic, findSavedMethod, isUnderWay, type Purchase } from './store.ts'

export type AutoTopUpInput = {
  readonly organizationId: string
  readonly topUpKey: string
  readonly quantity: number
  /** Less than this left of the package's balance buys it. */
  readonly below: Quantity
  readonly mostPerMonth: number
}

/**
 * Sets which package is bought by itself, and when. Setting it again starts it again after a payment that failed. A balance that is
 * under the mark already is topped up at once.
 * @throws DomainError `invalid_request`, `invalid_quantity`, `not_found`
 */
export async function setAutoTopUp(context: BillingContext, input: AutoTopUpInput, asker: Asker): Promise<AutoTopUp> {
  const { organizationId, topUpKey, quantity, below, mostPerMonth } = input
  const { catalog, version } = context.catalogs.current
  const { balanceKey } = await findUsableTopUp(context, context.db, input)
  if (below <= 0n) throw new DomainError('invalid_quantity', 'below is more than nothing.', { field: 'below' })
  const organization = await readOrganization(context.db, organizationId)
  const now = context.clock.now()
  const auto: AutoTopUp = {
    organizationId,
    balanceKey,
    topUpKey,
    quantity,
    below,
    mostPerMonth,
    stoppedAt: null,
    stoppedCode: null,
    stoppedMethod: null,
  }
  await context.db.transaction(async (tx) => {
    await insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now })
    await lockAccount(tx, organizationId)
    await upsertAutoTopUp(tx, auto, now)
    await refreshLowMarks(tx, organizationId)
    await insertRequest(tx, auto, timeOf(organization, context.clock))
    const after = { top_up: topUpKey, quantity, below: quantityToJson(below), most_per_month: mostPerMonth }
    const entry = { action: 'auto_top_up.set', target: balanceKey, before: null, after, at: now }
    await insertAuditEntry(tx, { organizationId, ...asker, ...entry })
  })
  return auto
}

/** @throws DomainError `not_found` */
export async function removeAutoTopUp(
  context: BillingContext,
  name: { readonly organizationId: string; readonly balanceKey: string },
  asker: Asker,
): Promise<void> {
  await context.db.transaction(async (tx) => {
    await lockAccount(tx, name.organizationId)
    if (!(await deleteAutoTopUp(tx, name))) throw new DomainError('not_found', 'Nothing is bought by itself for this balance.')
    await refreshLowMarks(tx, name.organizationId)
    const entry = { action: 'auto_top_up.removed', target: name.balanceKey, before: null, after: null, at: context.clock.now() }
    await insertAuditEntry(tx, { organizationId: name.organizationId, ...asker, ...entry })
  })
}

const AT_ONCE = 20
/** After so long, whoever took a request is gone. */
const ABANDONED_MS = MINUTE_MS
/** What only the next month, another payment method or the bank ends. */
const WAIT_MS = MINUTE_MS
/** A payment whose outcome is not known yet, and whatever failed. */
const UNSETTLED_MS = 10_000

/** Buys what has fallen under its mark. Answers how much was looked at. */
export async function runAutoTopUps(context: BillingContext): Promise<number> {
  if (context.gateway === null) return 0
  const now = context.clock.now()
  const later = (ms: number): Date => new Date(now.getTime() + ms)
  const requests = await takeRequests(context.db, { now, abandonedBefore: later(-ABANDONED_MS), limit: AT_ONCE })
  for (const request of requests) {
    const { organizationId } = request
    try {
      const outcome = await runExclusively(context, organizationId, (session) => topUp(context, session, request))
      if (outcome === 'enough') await deleteRequest(context.db, request)
      // With what was bought it may be enough, and may not: the next look, at once, tells.
      else if (outcome === 'bought') await postponeRequest(context.db, request, now)
      else await postponeRequest(context.db, request, later(outcome === 'waits' ? WAIT_MS : UNSETTLED_MS))
    } catch (error) {
      await postponeRequest(context.db, request, later(UNSETTLED_MS))
      context.log.warn(
        { event: 'top_up.automatic_failed', organization_id: organizationId, err: error },
        'buying by itself failed',
      )
    }
  }
  return requests.length
}

type Outcome = 'enough' | 'bought' | 'waits' | 'unsettled'

/** One look at one balance; the caller holds the organization's lock, so there is one purchase at a time. */
async function topUp(context: BillingContext, session: Session, request: AutoTopUpRequest): Promise<Outcome> {
  const { organizationId, balanceKey, requestedAt } = request
  const auto = (await listAutoTopUps(session, organizationId)).find((each) => each.balanceKey === balanceKey)
  if (!auto) return 'enough'
  const now = timeOf(await readOrganization(session, organizationId), context.clock)
  const since = calendarMonthOf(now).start
  const { bought, pending } = await findAutomatic(session, { organizationId, balanceKey, since })
  // A debit takes days, and what came of it is told by its charge.
  if (pending !== null && (await isUnderWay(session, pending))) return 'waits'
  if (pending !== null) return finish(context, session, auto, () => resumePurchase(context, session, pending, null))
  const grants = { catalogs: context.catalogs, clock: context.clock, graceDays: context.policy.graceDays }
  const standing = (await readStanding(session, grants, organizationId))?.standing
  // Who may not use has nothing to buy for.
  if (standing?.mayUse === false) return 'waits'
  const { balances } = await readBalances(session, grants, organizationId)
  const remaining = balances.find((balance) => balance.balanceKey === balanceKey)?.remaining ?? null
  const decision = decideAutoTopUp({
    remaining,
    below: auto.below,
    requestedAt,
    monthBegan: since,
    subscriptionEndedAt: standing?.reason === 'subscription_ended' ? standing.since : null,
    boughtThisMonth: bought,
    mostPerMonth: auto.mostPerMonth,
    stopped: auto.stoppedAt === null ? null : { method: auto.stoppedMethod },
    method: await findSavedMethod(session, organizationId),
  })
  if (decision === 'enough') return 'enough'
  await tellLow(context, session, auto, { remaining: remaining ?? 0n, since, now })
  if (decision === 'wait') return 'waits'
  return finish(context, session, auto, async () => {
    const { topUpKey, quantity } = auto
    const asked = {
      organizationId,
      topUpKey,
      quantity,
      idempotencyKey: newIdempotencyKey(),
      payWith: 'saved' as const,
      automatic: true,
    }
    await refuseOtherBalance(context, session, auto)
    const purchase = await storePurchase(context, session, asked, { actor: 'system:top-ups', requestId: null })
    return payPurchase(context, session, purchase, null)
  })
}

/** A package that has come to fill another balance would be bought again and again: this one stays under its mark. */
async function refuseOtherBalance(context: BillingContext, session: Session, auto: AutoTopUp): Promise<void> {
  const { balanceKey, name } = await findUsableTopUp(context, session, auto)
  if (balanceKey === auto.balanceKey) return
  const sentence = `The package ${name} adds to "${balanceKey}" now, and no more to "${auto.balanceKey}".`
  throw new DomainError('invalid_request', sentence, { field: 'top_up' })
}

/** A payment that failed stops buying until another method is there, or somebody sets it anew. */
async function finish(
  context: BillingContext,
  session: Session,
  auto: AutoTopUp,
  buy: () => Promise<Purchase>,
): Promise<Outcome> {
  const stop = async (code: string): Promise<Outcome> => {
    const method = await findSavedMethod(session, auto.organizationId)
    await stopBuying(session, context.catalogs, auto, { at: context.clock.now(), code, method })
    return 'waits'
  }
  try {
    const purchase = await buy()
    if (purchase.status === 'failed') return await stop(purchase.failureCode ?? 'payment_failed')
    return purchase.status === 'paid' ? 'bought' : 'unsettled'
  } catch (error) {
    const final = error instanceof DomainError && (!(error instanceof StripeCallError) || error.outcome === 'refused')
    // When it is unknown what came of the payment, the purchase is pending, and looked at again.
    if (!final) throw error
    return stop(error.code)
  }
}

/** Told once a month and mark. */
async function tellLow(
  context: BillingContext,
  session: Session,
  { organizationId, balanceKey, below }: AutoTopUp,
  { remaining, since, now }: { remaining: Quantity; since: Date; now: Date },
): Promise<void> {
  const data = {
    balance: balanceKey,
    balance_name: balanceNameOf(context.catalogs, balanceKey),
    remaining: quantityToJson(remaining),
    threshold: quantityToJson(below),
  }
  const key = `usage.balance_low:${balanceKey}:${below}:${since.toISOString()}`
  await publishEvent(session, { organizationId, type: 'usage.balance_low', key, data, occurredAt: now })
}

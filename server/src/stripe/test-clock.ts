import { setTimeout as delay } from 'node:timers/promises'
import type { Queryable, Session } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { addMonths, DAY_MS, parseDuration, SECOND_MS } from '../lib/period.ts'
import { requireGateway, type BillingContext } from './context.ts'
import { toUnix } from './gateway/wire.ts'
import { markCovered } from './inbox/inbox-store.ts'
import { handleDueEvents } from './inbox/inbox.ts'
import { ensureCustomer } from './intents/customers.ts'
import { finishPendingIntents } from './intents/finish-intents.ts'
import { performIntent } from './intents/intents.ts'
import { withOrganizationLock } from './intents/lock.ts'
import type { DerivedAccount } from './mirror/derive-account.ts'
import { COMPLETE_SCOPE } from './mirror/fetch.ts'
import { syncOrganization } from './mirror/sync.ts'
import { readOrganization, setTestClock, type BilledOrganization } from './organizations.ts'

/** How far a clock is to move: by a duration (`31d`) or to a time. */
export type ClockMove = { readonly by: string } | { readonly to: Instant }

/** Where an organization stands after its clock has moved and all that follows has been handled. */
export type MovedClock = {
  readonly organizationId: string
  readonly testClockId: string
  readonly now: Instant
  readonly account: DerivedAccount
}

type ClockedOrganization = BilledOrganization & { readonly testClockId: string; readonly testClockNow: Instant }

const READY_WITHIN_MS = 120_000
const LONGEST_POLL_MS = 500
// The organization is locked on the way, and each period of its subscription is a step that asks Stripe for all of it.
const MOST_YEARS = 10

/** Puts an organization onto a Stripe test clock of its own, with a customer on it. The clock starts at this server's time. */
export async function startTestClock(context: BillingContext, organizationId: string): Promise<void> {
  await withOrganizationLock(context, organizationId, async (session) => {
    await finishPendingIntents(context, session, organizationId)
    const organization = await readOrganization(session, organizationId)
    if (organization.testClockId === null) {
      const nowUnix = toUnix(context.clock.now())
      const params = { name: organization.name, nowUnix }
      const { id } = await performIntent(context, session, { organizationId, kind: 'create_test_clock', params })
      await setTestClock(session, { organizationId, testClockId: id, now: new Date(nowUnix * 1_000) })
    }
    await ensureCustomer(context, session, organizationId)
  })
}

/**
 * Moves an organization's test clock, in steps that Stripe permits, and answers when everything that follows is handled: the
 * organization is refetched whole after each step, its own time set, its account and grants derived, its inbox drained.
 * @throws DomainError `test_clock_missing`, `invalid_request` when the time would not move forward or by more than ten years, and those of Stripe
 */
export async function advanceTestClock(context: BillingContext, organizationId: string, move: ClockMove): Promise<MovedClock> {
  const moved = await withOrganizationLock(context, organizationId, async (session) => {
    await finishPendingIntents(context, session, organizationId)
    const organization = requireClock(await readOrganization(session, organizationId))
    const target = targetOf(organization.testClockNow, move)
    return advanceTo(context, session, organization, target)
  })
  // What arrives after the refetch changes nothing more; it is handled here if it is there already.
  while ((await handleDueEvents(context)) > 0);
  return moved
}

function requireClock(organization: BilledOrganization): ClockedOrganization {
  const { testClockId, testClockNow } = organization
  if (testClockId === null || testClockNow === null) {
    throw new DomainError('test_clock_missing', 'This organization lives in real time; create one with test_clock: true.')
  }
  return { ...organization, testClockId, testClockNow }
}

/** Whole seconds, as Stripe's clocks count. */
function targetOf(now: Instant, move: ClockMove): Instant {
  const target = 'to' in move ? move.to : new Date(now.getTime() + parseDuration(move.by))
  const whole = new Date(Math.floor(target.getTime() / 1_000) * 1_000)
  const field = 'to' in move ? 'to' : 'by'
  const stands = `it stands at ${now.toISOString()}.`
  if (whole <= now) throw new DomainError('invalid_request', `A clock moves forward only; ${stands}`, { field })
  if (whole > addMonths(now, 12 * MOST_YEARS)) {
    throw new DomainError('invalid_request', `A clock moves ${MOST_YEARS} years at most at once; ${stands}`, { field })
  }
  return whole
}

async function advanceTo(
  context: BillingContext,
  session: Session,
  organization: ClockedOrganization,
  target: Instant,
): Promise<MovedClock> {
  const { id: organizationId, testClockId } = organization
  let now = organization.testClockNow
  for (;;) {
    const furthest = furthestStep(now, await listRecurrences(session, organizationId))
    const next = furthest !== null && furthest < target ? furthest : target
    await context.onClockMoving?.(organizationId)
    const params = { testClockId, toUnix: toUnix(next) }
    await performIntent(context, session, { organizationId, kind: 'advance_test_clock', params })
    now = await waitUntilReady(context, testClockId)
    await setTestClock(session, { organizationId, testClockId, now })
    const account = await syncCompletely(context, session, organizationId)
    if (now >= target) return { organizationId, testClockId, now, account }
  }
}

/** A complete refetch covers every event that had come before it, so those are handled with it. */
function syncCompletely(context: BillingContext, session: Session, organizationId: string): Promise<DerivedAccount> {
  const until = context.clock.now()
  return syncOrganization(context, session, organizationId, {
    scope: COMPLETE_SCOPE,
    priority: 'interactive',
    alsoWrite: async (tx, fetched) => {
      if (fetched !== null) await markCovered(tx, { organizationId, customerId: fetched.customerId, until }, context.clock.now())
    },
  })
}

/** Stripe answers at once and works on; the work of a month takes it seconds, the sandbox milliseconds. */
async function waitUntilReady(context: BillingContext, testClockId: string): Promise<Instant> {
  const { reads } = requireGateway(context)
  for (
    let waitedMs = 0, pauseMs = 10;
    waitedMs < READY_WITHIN_MS;
    waitedMs += pauseMs, pauseMs = Math.min(pauseMs * 2, LONGEST_POLL_MS)
  ) {
    const { status, now } = await reads.retrieveTestClock(testClockId)
    if (status === 'ready') return now
    if (status === 'internal_failure') throw new DomainError('stripe_failed', 'The test clock failed while it was moving.')
    await delay(pauseMs)
  }
  throw new DomainError('stripe_unavailable', `The test clock was not ready within ${READY_WITHIN_MS / 1_000} seconds.`)
}

/** How often a subscription renews. */
export type Recurrence = { readonly interval: string; readonly count: number }

/**
 * How far a clock moves at once: less than an interval of the shortest subscription on it, so that no period begins and ends
 * unseen; null where there is no subscription. Stripe allows two intervals.
 * Source: https://docs.stripe.com/billing/testing/test-clocks
 */
export function furthestStep(now: Instant, recurrences: readonly Recurrence[]): Instant | null {
  // Nine tenths of it: from the end of January, a month reaches over the ends of two.
  const steps = recurrences.map(
    ({ interval, count }) => ((addIntervals(now, interval, count).getTime() - now.getTime()) / 10) * 9,
  )
  return steps.length === 0 ? null : new Date(now.getTime() + Math.floor(Math.min(...steps) / SECOND_MS) * SECOND_MS)
}

function addIntervals(now: Instant, interval: string, count: number): Instant {
  switch (interval) {
    case 'day':
      return new Date(now.getTime() + count * DAY_MS)
    case 'week':
      return new Date(now.getTime() + count * 7 * DAY_MS)
    case 'year':
      return addMonths(now, 12 * count)
    default:
      return addMonths(now, count)
  }
}

async function listRecurrences(db: Queryable, organizationId: string): Promise<Recurrence[]> {
  const { rows } = await db.query<Recurrence>(
    `select distinct item.billing_interval as interval, item.interval_count as count
     from stripe_subscription_items item
     join stripe_subscriptions subscription
       on subscription.organization_id = item.organization_id and subscription.id = item.subscription_id
     where item.organization_id = $1 and subscription.ended_at is null`,
    [organizationId],
  )
  return rows
}

import { AWAY_AFTER } from '../jobs/apart.ts'
import { backoffMs, type Backoff } from '../lib/backoff.ts'
import type { Instant } from '../lib/clock.ts'
import { HOUR_MS, MINUTE_MS } from '../lib/period.ts'
import { formatQuantity, type Quantity } from '../lib/quantity.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import {
  beginAttempt,
  listEventsBetween,
  listPendingEvents,
  postponeEvents,
  settleEvent,
  type StoredEvent,
} from './event-store.ts'

/** Stripe knows an identifier again for a day at least; an hour is left for clocks that differ. */
const IDENTIFIER_LIFE_MS = 23 * HOUR_MS
const EVENTS_AT_ONCE = 200

const BACKOFF: Backoff = { firstMs: MINUTE_MS, mostMs: HOUR_MS }

/**
 * Sends what waits in the outbox, oldest first: of one organization, or what is due of all. A report that was tried before is sent again
 * under the same identifier, which Stripe counts once; when that may be forgotten there, Stripe's own count says whether it
 * arrived. One whose call fails waits, with the others of its organization, ever longer, and keeps nobody else's. Answers how many were settled.
 * @throws DomainError `stripe_unavailable` and the like; what was not sent waits
 */
export async function sendReports(
  context: BillingContext,
  { organizationId }: { readonly organizationId: string | null },
): Promise<number> {
  requireGateway(context)
  const dueAt = context.clock.now()
  const failures = new Map<string, unknown>()
  let unanswered = 0
  let settled = 0
  for (;;) {
    const pending = await listPendingEvents(context.db, { organizationId, dueAt, limit: EVENTS_AT_ONCE })
    for (const event of pending) {
      if (failures.has(event.organizationId)) continue
      try {
        if (await sendOne(context, event)) settled += 1
        unanswered = 0
      } catch (error) {
        if (organizationId !== null) throw error
        await postpone(context, event, error)
        failures.set(event.organizationId, error)
        unanswered += 1
        if (unanswered === AWAY_AFTER) throw error
      }
    }
    if (pending.length < EVENTS_AT_ONCE) break
  }
  const [failure] = failures.values()
  if (failure !== undefined) throw failure
  return settled
}

async function postpone(context: BillingContext, event: StoredEvent, error: unknown): Promise<void> {
  const { organizationId, identifier, attempts } = event
  const waitMs = backoffMs(attempts + 1, BACKOFF, organizationId)
  await postponeEvents(context.db, organizationId, new Date(context.clock.now().getTime() + waitMs))
  context.log.warn(
    { event: 'billing.report_postponed', organization_id: organizationId, identifier, retry_after_ms: waitMs, err: error },
    'a report of use could not be sent; it waits',
  )
}

async function sendOne(context: BillingContext, event: StoredEvent): Promise<boolean> {
  const gateway = requireGateway(context)
  const now = timeOf(await readOrganization(context.db, event.organizationId), context.clock)
  try {
    if (await mayBeForgotten(context, event, now)) return true
    const begun = await beginAttempt(context.db, event, now)
    if (begun === null) return false
    const { identifier, eventName, customerId, value, at } = begun
    await gateway.sendMeterEvent({ identifier, eventName, customerId, value: formatQuantity(value), at })
    await settle(context, event, 'sent', null)
  } catch (error) {
    if (!(error instanceof StripeCallError) || error.outcome !== 'refused') throw error
    await settle(context, event, 'failed', error.message)
  }
  return true
}

/**
 * A report that was tried longer ago than Stripe is sure to know its identifier: whether it arrived is asked of the meter. Of a
 * level nothing has to be asked, since telling it twice changes nothing. Answers whether the report is settled.
 */
async function mayBeForgotten(context: BillingContext, event: StoredEvent, now: Instant): Promise<boolean> {
  const { firstAttemptAt, formula } = event
  if (formula === 'last' || firstAttemptAt === null || now.getTime() - firstAttemptAt.getTime() < IDENTIFIER_LIFE_MS) return false
  const start = new Date(Math.floor(event.at.getTime() / MINUTE_MS) * MINUTE_MS)
  const end = new Date(start.getTime() + MINUTE_MS)
  const known = await listEventsBetween(context.db, { ...event, start, end })
  const found = await readMeter(context, event, { start, end })
  const arrived = findArrived(found, known)
  if (arrived === null) {
    await settle(
      context,
      event,
      'failed',
      `Stripe counts ${formatQuantity(found)} in its minute, which no set of reports explains.`,
    )
    return true
  }
  context.log.warn(
    { event: 'billing.report_looked_up', identifier: event.identifier, arrived: arrived.has(event.identifier) },
    'whether a report had arrived was looked up',
  )
  if (!arrived.has(event.identifier)) return false
  await settle(context, event, 'sent', null)
  return true
}

async function readMeter(
  context: BillingContext,
  { eventName, customerId }: StoredEvent,
  span: { readonly start: Instant; readonly end: Instant },
): Promise<Quantity> {
  const { backgroundReads } = requireGateway(context)
  const meter = (await backgroundReads.listMeters()).find((each) => each.eventName === eventName)
  if (!meter)
    throw new StripeCallError('stripe_failed', `The meter ${eventName} is not at Stripe, or is archived there.`, 'refused')
  const text = await backgroundReads.readMeter({ meterId: meter.id, customerId, ...span })
  return decimalOf(text)
}

/** Stripe's own decimal; a correction can make it negative. */
function decimalOf(text: string): Quantity {
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.')
  const micro = BigInt(whole) * 1_000_000n + BigInt(fraction.slice(0, 6).padEnd(6, '0'))
  return text.startsWith('-') ? -micro : micro
}

type KnownReport = { readonly identifier: string; readonly value: Quantity; readonly state: 'pending' | 'sent' }

/** More than these in one minute are not told apart. */
const MOST_DOUBTFUL = 12

/**
 * Which of the reports in doubt have arrived, by what the meter has counted: those that were sent for sure, and the smallest set
 * of the others that makes up the difference. null when none does. Pure.
 */
export function findArrived(counted: Quantity, reports: readonly KnownReport[]): ReadonlySet<string> | null {
  const doubtful = reports.filter(({ state }) => state === 'pending').slice(0, MOST_DOUBTFUL)
  const sure = reports.filter(({ state }) => state === 'sent').reduce((sum, { value }) => sum + value, 0n)
  let best: readonly KnownReport[] | null = null
  for (let mask = 0; mask < 2 ** doubtful.length; mask += 1) {
    const chosen = doubtful.filter((_, index) => Math.floor(mask / 2 ** index) % 2 === 1)
    const sum = chosen.reduce((total, { value }) => total + value, sure)
    if (sum === counted && (best === null || chosen.length < best.length)) best = chosen
  }
  return best === null ? null : new Set(best.map(({ identifier }) => identifier))
}

async function settle(
  context: BillingContext,
  event: StoredEvent,
  state: 'sent' | 'failed',
  error: string | null,
): Promise<void> {
  await settleEvent(context.db, event, { state, error, now: context.clock.now() })
  if (state === 'sent') return
  context.log.error(
    {
      event: 'billing.report_failed',
      organization_id: event.organizationId,
      identifier: event.identifier,
      event_name: event.eventName,
      quantity: formatQuantity(event.quantity),
      reason: error,
    },
    'Stripe did not take a report of use',
  )
}

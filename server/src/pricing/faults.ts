import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { failSentEvents } from './event-store.ts'

const MARK = 'stripe_meter_faults_seen_until'

/**
 * Asks Stripe which reports it took and then found wrong (a customer that is gone, a meter that is deactivated): it says so
 * afterwards, in events of their own. Each is logged once, and the reports it names are failed ones from then on.
 * Source: https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage#handle-meter-event-errors
 */
export async function noteMeterFaults(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  const seen = await readMark(context.db)
  const faults = (await requireGateway(context).backgroundReads.listMeterFaults()).filter(({ createdAt }) => createdAt > seen)
  for (const fault of faults.toReversed()) {
    const organizations = await failSentEvents(context.db, fault.samples)
    context.log.error(
      {
        event: 'billing.meter_error',
        stripe_event_id: fault.eventId,
        count: fault.count,
        reason: fault.summary,
        codes: [...new Set(fault.samples.map(({ code }) => code))],
        organizations,
      },
      'Stripe took reports of use and does not count them',
    )
  }
  const newest = faults[0]
  if (newest) await writeMark(context.db, newest.createdAt)
}

async function readMark(db: Queryable): Promise<Instant> {
  const { rows } = await db.query<{ value: string }>('select value from settings where name = $1', [MARK])
  return new Date(rows[0]?.value ?? 0)
}

async function writeMark(db: Queryable, at: Instant): Promise<void> {
  await db.query('insert into settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value', [
    MARK,
    at.toISOString(),
  ])
}

import type { BillingContext } from '../stripe/context.ts'
import { failSentEvents } from './event-store.ts'
import { findHandledFaults, recordFault } from './fault-store.ts'

/**
 * Asks Stripe which reports it took and then found wrong (a customer that is gone, a meter that is deactivated): it says so
 * afterwards, in thin events of their own. Each is logged once, and the reports it names are failed ones from then on. Called when a
 * webhook says that there is something, and hourly, for those that were lost. An event's data is always read from Stripe.
 * Source: https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage#handle-meter-event-errors
 */
export async function noteMeterFaults(context: BillingContext): Promise<void> {
  const { db, gateway, clock, log } = context
  if (gateway === null) return
  const faults = await gateway.backgroundReads.listMeterFaults()
  const handled = await findHandledFaults(
    db,
    faults.map(({ eventId }) => eventId),
  )
  for (const fault of faults.filter(({ eventId }) => !handled.has(eventId)).toReversed()) {
    const organizations = await db.transaction(async (tx) => {
      const failed = await failSentEvents(tx, fault.samples)
      await recordFault(tx, fault, clock.now())
      return failed
    })
    log.error(
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
}

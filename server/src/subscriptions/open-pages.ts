import type { Session } from '../db/database.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/errors.ts'
import { listResultsSince, performIntent } from '../stripe/intents.ts'

/**
 * Closes the checkout pages that are still open: each could be paid as well as what is bought now, and would start a second
 * subscription. Pages live for a day. Answers false when one could not be closed: it was paid, or closed already.
 */
export async function closeOpenPages(context: BillingContext, session: Session, organizationId: string): Promise<boolean> {
  const since = new Date(context.clock.now().getTime() - DAY_MS)
  const opened = await listResultsSince(session, { organizationId, kind: 'create_checkout_session', since })
  const closed = await listResultsSince(session, { organizationId, kind: 'expire_checkout_session', since })
  let allClosed = true
  for (const { id } of opened) {
    if (closed.some((each) => each.id === id)) continue
    try {
      await performIntent(context, session, { organizationId, kind: 'expire_checkout_session', params: { sessionId: id } })
    } catch (error) {
      if (!(error instanceof StripeCallError) || error.outcome !== 'refused') throw error
      allClosed = false
    }
  }
  return allClosed
}

import type { Queryable, Session } from '../db/database.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { listMadeSince, performIntent } from '../stripe/intents/intents.ts'

/**
 * Closes the checkout pages that are still open: each could be paid as well as what is bought now, and would start a second
 * subscription. Pages live for a day. Answers false when one could not be closed: it was paid, or closed already.
 */
export async function closeOpenPages(context: BillingContext, session: Session, organizationId: string): Promise<boolean> {
  let allClosed = true
  for (const { result } of await listOpenPages(context, session, { organizationId, kind: 'create_checkout_session' })) {
    if (!(await closePage(context, session, organizationId, result.id))) allClosed = false
  }
  return allClosed
}

type Pages = { readonly organizationId: string; readonly kind: 'create_checkout_session' | 'create_payment_page' }

/** The pages that were opened within their life of a day and that nobody has closed, newest first. */
export async function listOpenPages(context: BillingContext, db: Queryable, { organizationId, kind }: Pages) {
  const since = new Date(context.clock.now().getTime() - DAY_MS)
  const opened = await listMadeSince(db, { organizationId, kind, since })
  const closed = await listMadeSince(db, { organizationId, kind: 'expire_checkout_session', since })
  return opened.filter((page) => !closed.some(({ result }) => result.id === page.result.id))
}

/** Answers false when it could not be closed: it was paid, or closed already. */
export async function closePage(
  context: BillingContext,
  session: Session,
  organizationId: string,
  sessionId: string,
): Promise<boolean> {
  try {
    await performIntent(context, session, { organizationId, kind: 'expire_checkout_session', params: { sessionId } })
    return true
  } catch (error) {
    if (!(error instanceof StripeCallError) || error.outcome !== 'refused') throw error
    return false
  }
}

import type { Session } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { runExclusively } from '../subscriptions/actions.ts'
import type { Offer } from '../subscriptions/plan-change.ts'
import { purchasablePlans } from '../subscriptions/state.ts'
import { listOffers } from '../subscriptions/store.ts'

/** The customer of a tenant at Stripe, with its mirror. */
export function makeCustomer(context: BillingContext, organizationId: string): Promise<string> {
  return runExclusively(context, organizationId, (session) => makeCustomerIn(context, session, organizationId))
}

/** The same for a caller who holds the organization's lock. */
export async function makeCustomerIn(context: BillingContext, session: Session, organizationId: string): Promise<string> {
  const customerId = await ensureCustomer(context, session, organizationId)
  await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
  return customerId
}

/** @throws DomainError `unknown_price` */
export async function findOfferByPrice(context: BillingContext, priceId: string): Promise<Offer> {
  const offers = await listOffers(context.db, purchasablePlans(context.catalogs.current.catalog))
  const offer = offers.find((each) => each.priceId === priceId)
  if (!offer) throw new DomainError('unknown_price', `No plan can be bought at the price "${priceId}".`, { price_id: priceId })
  return offer
}

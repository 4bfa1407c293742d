import { isDeepStrictEqual } from 'node:util'
import type { Queryable } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { DISPUTE_METADATA, listLostDisputes } from '../stripe/mirror/dispute-store.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { ORGANIZATION_METADATA } from '../stripe/organizations.ts'
import { runExclusively } from '../subscriptions/actions.ts'
import { closePage, listOpenPages } from '../subscriptions/open-pages.ts'
import { checkPages } from '../subscriptions/redirects.ts'

export type DisputePayment = {
  readonly organizationId: string
  readonly disputeId: string
  readonly successUrl: string | undefined
  readonly cancelUrl: string | undefined
}

/**
 * Answers the page where a payment that was charged back is made again: its invoice stays paid at Stripe, so that it cannot be paid there.
 * That it is paid is told by the charge, which names the dispute; the standing follows from that. There is one page of a dispute: asked for
 * again it is the same for its day, and where it is to lead elsewhere the former is closed first.
 * @throws DomainError `not_found` where no dispute of that id is lost and unsettled, and those of Stripe
 */
export async function openDisputePayment(context: BillingContext, request: DisputePayment): Promise<{ id: string; url: string }> {
  const pages = checkPages(context.policy, request)
  return runExclusively(context, request.organizationId, async (session) => {
    const { organizationId, disputeId } = request
    const dispute = await findUnsettled(session, request)
    const params = {
      customerId: await ensureCustomer(context, session, organizationId),
      price: { name: 'A payment that was charged back', currency: dispute.currency, unitAmountMinor: dispute.amountMinor },
      quantity: 1,
      ...pages,
      reference: organizationId,
      metadata: { [ORGANIZATION_METADATA]: organizationId, [DISPUTE_METADATA]: disputeId },
    }
    const open = await listOpenPages(context, session, { organizationId, kind: 'create_payment_page' })
    const own = open.filter((page) => page.params.metadata[DISPUTE_METADATA] === disputeId)
    const same = own.find((page) => isDeepStrictEqual(page.params, params))
    if (same?.result.url != null) return { id: same.result.id, url: same.result.url }
    for (const { result } of own) {
      if (await closePage(context, session, organizationId, result.id)) continue
      // It was paid, perhaps a moment ago.
      await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'interactive' })
      await findUnsettled(session, request)
    }
    const { id, url } = await performIntent(context, session, { organizationId, kind: 'create_payment_page', params })
    if (url === null) throw new DomainError('stripe_failed', 'Stripe opened a payment without a page.')
    return { id, url }
  })
}

/** @throws DomainError `not_found` */
async function findUnsettled(db: Queryable, { organizationId, disputeId }: DisputePayment) {
  const dispute = (await listLostDisputes(db, [organizationId])).find(({ id }) => id === disputeId)
  if (dispute === undefined) throw new DomainError('not_found', 'There is no such dispute that is lost and not settled.')
  return dispute
}

import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/customers.ts'
import { DISPUTE_METADATA, listLostDisputes } from '../stripe/dispute-store.ts'
import { ORGANIZATION_METADATA } from '../stripe/inbox.ts'
import { performIntent } from '../stripe/intents.ts'
import { runExclusively } from '../subscriptions/actions.ts'
import { checkPages } from '../subscriptions/redirects.ts'

export type DisputePayment = {
  readonly organizationId: string
  readonly disputeId: string
  readonly successUrl: string | undefined
  readonly cancelUrl: string | undefined
}

/**
 * Opens a page where a payment that was charged back is made again: its invoice stays paid at Stripe, so that it cannot be paid there.
 * That it is paid is told by the charge, which names the dispute; the standing follows from that.
 * @throws DomainError `not_found` where no dispute of that id is lost and unsettled, and those of Stripe
 */
export async function openDisputePayment(context: BillingContext, request: DisputePayment): Promise<{ id: string; url: string }> {
  const { successUrl, cancelUrl } = checkPages(context.policy, request)
  return runExclusively(context, request.organizationId, async (session) => {
    const { organizationId, disputeId } = request
    const dispute = (await listLostDisputes(session, [organizationId])).find(({ id }) => id === disputeId)
    if (dispute === undefined) throw new DomainError('not_found', 'There is no such dispute that is lost and not settled.')
    const { id, url } = await performIntent(context, session, {
      organizationId,
      kind: 'create_payment_page',
      params: {
        customerId: await ensureCustomer(context, session, organizationId),
        price: { name: 'A payment that was charged back', currency: dispute.currency, unitAmountMinor: dispute.amountMinor },
        quantity: 1,
        successUrl,
        cancelUrl,
        reference: organizationId,
        metadata: { [ORGANIZATION_METADATA]: organizationId, [DISPUTE_METADATA]: disputeId },
      },
    })
    if (url === null) throw new DomainError('stripe_failed', 'Stripe opened a payment without a page.')
    return { id, url }
  })
}

import type { Queryable } from '../db/database.ts'
import type { BillingContext } from '../stripe/context.ts'
import { ensureCustomer } from '../stripe/intents/customers.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { followChange, runExclusively, wasHeard, type Asker } from '../subscriptions/actions.ts'
import { resumeAutoTopUps } from '../top-ups/auto-store.ts'
import { TAX_LOCATION_MISSING } from '../top-ups/stopping.ts'
import { stepsTo, type BillingDetails, type DetailsRequest } from './details.ts'
import { findBillingDetails } from './store.ts'

/** Before anything was bought, what the organization is called. @throws DomainError `not_found` */
export async function readBillingDetails(db: Queryable, organizationId: string): Promise<BillingDetails> {
  const { name, email } = await readOrganization(db, organizationId)
  return (await findBillingDetails(db, organizationId)) ?? { name, email, address: null, taxIds: [] }
}

/**
 * Changes what invoices say from now on, and where their tax is due.
 * @throws DomainError `invalid_request` for a tax id that is none, and those of Stripe: then nothing was changed
 */
export async function changeBillingDetails(
  context: BillingContext,
  { organizationId, wanted }: { readonly organizationId: string; readonly wanted: DetailsRequest },
  asker: Asker,
): Promise<BillingDetails> {
  return runExclusively(context, organizationId, async (session) => {
    const customerId = await ensureCustomer(context, session, organizationId)
    // What was changed at Stripe a moment ago is known by now.
    await followChange(context, session, organizationId)
    if (await wasHeard(session, organizationId, asker)) return readBillingDetails(session, organizationId)
    const [first, ...rest] = stepsTo(customerId, await readBillingDetails(session, organizationId), wanted)
    if (first !== undefined) {
      const audit = {
        ...asker,
        action: 'billing_details.changed',
        target: customerId,
        before: null,
        after: { changed: Object.keys(wanted).map((name) => (name === 'taxId' ? 'tax_id' : name)) },
      }
      await performIntent(context, session, { organizationId, ...first, afterwards: rest, audit })
      await finishPendingIntents(context, session, organizationId)
      await followChange(context, session, organizationId)
      if (wanted.address !== undefined) await resumeAutoTopUps(session, organizationId, TAX_LOCATION_MISSING)
    }
    return readBillingDetails(session, organizationId)
  })
}

import type { Session } from '../../db/database.ts'
import type { BillingContext } from '../context.ts'
import { ORGANIZATION_METADATA, readOrganization } from '../organizations.ts'
import { performIntent } from './intents.ts'

/**
 * The organization's customer at Stripe, made when it is needed for the first time. The caller holds the organization's lock and
 * has settled what earlier requests left open.
 */
export async function ensureCustomer(context: BillingContext, session: Session, organizationId: string): Promise<string> {
  const organization = await readOrganization(session, organizationId)
  if (organization.customerId !== null) return organization.customerId
  const { id } = await performIntent(context, session, {
    organizationId,
    kind: 'create_customer',
    params: {
      email: organization.email,
      name: organization.name,
      testClockId: organization.testClockId,
      metadata: { [ORGANIZATION_METADATA]: organizationId },
    },
  })
  return id
}

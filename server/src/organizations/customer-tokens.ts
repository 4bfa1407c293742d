import { insertAuditEntry } from '../audit/store.ts'
import { digestOf } from '../auth/api-keys.ts'
import { CUSTOMER_TOKEN_PREFIX } from '../auth/customer-tokens.ts'
import { insertCustomerToken, listCustomerTokens, revokeCustomerToken, type CustomerToken } from '../auth/customer-token-store.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, randomBase62, type CustomerTokenId, type OrganizationId } from '../lib/ids.ts'
import { readOrganization, type Asker, type OrganizationsContext } from './actions.ts'

/** Longest life of a token that lies in a browser, in seconds. */
export const MOST_SECONDS = 3_600

/**
 * Makes a token with which a customer's browser opens the billing pages that an application embeds. The answer's `token` exists
 * nowhere else afterwards.
 * @throws DomainError `not_found`
 */
export async function createCustomerToken(
  context: OrganizationsContext,
  { organizationId, seconds }: { readonly organizationId: OrganizationId; readonly seconds: number },
  asker: Asker,
): Promise<CustomerToken & { readonly token: string }> {
  await readOrganization(context.db, organizationId)
  const now = context.clock.now()
  const token = `${CUSTOMER_TOKEN_PREFIX}${randomBase62(43)}`
  const row = {
    organizationId,
    id: newId<CustomerTokenId>('ctok'),
    createdBy: asker.actor,
    createdAt: now,
    expiresAt: new Date(now.getTime() + Math.min(seconds, MOST_SECONDS) * 1_000),
  }
  await context.db.transaction(async (tx) => {
    await insertCustomerToken(tx, { ...row, digest: digestOf(context.keySecret, token) })
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'customer_token.created',
      target: row.id,
      before: null,
      after: { expires_at: row.expiresAt },
      at: now,
    })
  })
  return { ...row, revokedAt: null, token }
}

/** @throws DomainError `not_found` */
export async function readCustomerTokens(
  context: OrganizationsContext,
  organizationId: OrganizationId,
): Promise<readonly CustomerToken[]> {
  await readOrganization(context.db, organizationId)
  return listCustomerTokens(context.db, organizationId)
}

/** @throws DomainError `not_found` when there is none that could be revoked */
export async function endCustomerToken(
  context: OrganizationsContext,
  token: { readonly organizationId: OrganizationId; readonly id: CustomerTokenId },
  asker: Asker,
): Promise<void> {
  const now = context.clock.now()
  await context.db.transaction(async (tx) => {
    if (!(await revokeCustomerToken(tx, token, now))) throw new DomainError('not_found', 'There is no such token.')
    await insertAuditEntry(tx, {
      organizationId: token.organizationId,
      ...asker,
      action: 'customer_token.revoked',
      target: token.id,
      before: null,
      after: null,
      at: now,
    })
  })
}

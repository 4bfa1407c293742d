import { insertAuditEntry } from '../audit/store.ts'
import type { Db, Transaction } from '../db/database.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { derivedOrganizationId, newOrganizationId, type OrganizationId } from '../lib/ids.ts'
import { readTimeZone } from '../lib/period.ts'
import { refuseAnother } from '../lib/sent-request.ts'
import { findOrganization, insertOrganization, type Organization } from './store.ts'

export type OrganizationsContext = {
  readonly db: Db
  readonly clock: Clock
  /** The secret behind the digests of API keys. */
  readonly keySecret: string
  /** What a new id begins with (KF-2). */
  readonly tenantPrefix: string
  /** Called in the transaction that creates an organization: opens its account. */
  readonly onCreated: (tx: Transaction, created: { organizationId: OrganizationId; now: Instant }) => Promise<void>
  /** Puts an organization onto a test clock of its own, unless it is on one; null when there is no Stripe to make one. */
  readonly attachTestClock: ((organizationId: OrganizationId) => Promise<void>) | null
  /** By which browsers reach this server: links in mails begin with it. */
  readonly publicUrl: string
}

/** Who asks, for the audit log. `requestId` is null where no single request is what asks. */
export type Asker = { readonly actor: string; readonly requestId: string | null }

export type OrganizationInput = {
  /** Made with the configured prefix when missing. */
  readonly id?: string | undefined
  /** The caller's Idempotency-Key: without an id of its own, the organization's follows from it. */
  readonly requestKey?: string | undefined
  readonly name: string
  readonly email: string
  readonly testClock: boolean
  /** The IANA name of its calendar periods' zone; without it, the catalog's. */
  readonly timeZone?: string | undefined
}

/**
 * Creates an organization with its account. With the id, or under the key, of one that has the same name and e-mail it answers that one,
 * so a creation can be repeated; the test clock is then made where it is still missing.
 * @throws DomainError `conflict` when the id is taken by another, `idempotency_conflict` for the key; `billing_not_configured` when a test clock is asked for
 * and no Stripe is there
 */
export async function createOrganization(
  context: OrganizationsContext,
  input: OrganizationInput,
  asker: Asker,
): Promise<{ readonly organization: Organization; readonly created: boolean }> {
  const { attachTestClock } = context
  if (input.testClock && attachTestClock === null) {
    throw new DomainError('billing_not_configured', 'A test clock needs Stripe, and no Stripe key is set.')
  }
  const id = idOf(context, input)
  const created = await context.db.transaction((tx) => insertWithAccount(tx, context, { ...input, id }, asker))
  if (!created) {
    const existing = await readOrganization(context.db, id)
    const { name, email, requestKey: key } = input
    if (input.id === undefined && key !== undefined) {
      const operation = 'organizations'
      refuseAnother(
        { operation, body: { name: existing.name, email: existing.email } },
        { operation, body: { name, email }, key },
      )
    } else if (existing.name !== name || existing.email !== email) {
      throw new DomainError('conflict', `There is an organization with the id ${id} already.`, { field: 'id' })
    }
  }
  // After the commit: no call to Stripe inside a transaction. A failure here is mended by repeating the request with the id.
  if (input.testClock) await attachTestClock?.(id)
  return { organization: await readOrganization(context.db, id), created }
}

function idOf({ tenantPrefix }: OrganizationsContext, { id, requestKey }: OrganizationInput): OrganizationId {
  if (id !== undefined) return id as OrganizationId
  // Apart from what else makes an organization under a key (`onboarding/`).
  return requestKey === undefined
    ? newOrganizationId(tenantPrefix)
    : derivedOrganizationId(tenantPrefix, `organizations\n${requestKey}`)
}

/** An organization with its account, within a transaction; answers false when the id is taken. */
export async function insertWithAccount(
  tx: Transaction,
  context: OrganizationsContext,
  input: OrganizationInput & { readonly id: OrganizationId },
  asker: Asker,
): Promise<boolean> {
  const now = context.clock.now()
  const { id, name, email } = input
  const timeZone = input.timeZone === undefined ? null : readTimeZone(input.timeZone)
  if (!(await insertOrganization(tx, { id, name, email, timeZone, createdAt: now }))) return false
  await context.onCreated(tx, { organizationId: id, now })
  await insertAuditEntry(tx, {
    organizationId: id,
    ...asker,
    action: 'organization.created',
    target: id,
    before: null,
    after: { name, email, test_clock: input.testClock, time_zone: timeZone },
    at: now,
  })
  return true
}

/** @throws DomainError `not_found` */
export async function readOrganization(db: Db, id: OrganizationId): Promise<Organization> {
  const organization = await findOrganization(db, id)
  if (organization === null) throw new DomainError('not_found', 'There is no such organization.')
  return organization
}

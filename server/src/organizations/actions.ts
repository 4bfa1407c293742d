import { insertAuditEntry } from '../audit/store.ts'
import { createApiKey, type ApiKeyInput } from '../auth/api-keys.ts'
import { actorOf, type Principal } from '../auth/principal.ts'
import { listApiKeys, revokeApiKey, type ApiKey } from '../auth/store.ts'
import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Db } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { newOrganizationId, type ApiKeyId, type OrganizationId } from '../lib/ids.ts'
import { findOrganizationById, insertAccount, insertOrganization, type Organization } from './store.ts'

export type OrganizationsContext = {
  readonly db: Db
  readonly clock: Clock
  readonly catalogs: CatalogRegistry
  /** What the id of an organization begins with when the caller names none (KF-2). */
  readonly tenantPrefix: string
  /** The secret behind the digests of API keys. */
  readonly digestSecret: string
  /** Puts a new organization onto a Stripe test clock of its own; null when no Stripe is configured. */
  readonly startTestClock: ((organizationId: OrganizationId) => Promise<void>) | null
}

/** Who asked, for the audit log. */
export type Caller = { readonly principal: Principal; readonly requestId: string }

export type OrganizationInput = {
  readonly id?: OrganizationId | undefined
  readonly name: string
  readonly email: string
  /** Whether it is to live on a Stripe test clock, so that its time can be moved. */
  readonly testClock: boolean
}

/**
 * Makes an organization with its account on the default plan.
 * @throws DomainError `conflict` when the id is taken, `billing_not_configured` for a test clock without Stripe
 */
export async function createOrganization(
  context: OrganizationsContext,
  caller: Caller,
  input: OrganizationInput,
): Promise<Organization> {
  const { db, catalogs } = context
  if (input.testClock && context.startTestClock === null) {
    throw new DomainError('billing_not_configured', 'A test clock lives in Stripe, and no Stripe is configured.')
  }
  const now = context.clock.now()
  const id = input.id ?? newOrganizationId(context.tenantPrefix)
  await db.transaction(async (tx) => {
    if (!(await insertOrganization(tx, { id, name: input.name, email: input.email, createdAt: now }))) {
      throw new DomainError('conflict', `There is an organization ${id} already.`, { field: 'id' })
    }
    const { version, catalog } = catalogs.current
    await insertAccount(tx, { organizationId: id, planKey: catalog.defaultPlanKey, catalogVersion: version, now })
    await insertAuditEntry(tx, {
      organizationId: id,
      actor: actorOf(caller.principal),
      action: 'organization.created',
      target: id,
      after: { name: input.name, email: input.email, test_clock: input.testClock },
      requestId: caller.requestId,
      at: now,
    })
  })
  if (input.testClock) await context.startTestClock!(id)
  return readOrganization(context, id)
}

/** @throws DomainError `not_found` */
export async function readOrganization({ db }: Pick<OrganizationsContext, 'db'>, id: OrganizationId): Promise<Organization> {
  const organization = await findOrganizationById(db, id)
  if (!organization) throw new DomainError('not_found', 'There is no such organization.')
  return organization
}

/** Makes a key for an organization; the answer is the only place where it is ever shown. */
export async function issueApiKey(
  context: OrganizationsContext,
  caller: Caller,
  input: ApiKeyInput,
): Promise<ApiKey & { readonly key: string }> {
  await readOrganization(context, input.organizationId)
  const now = context.clock.now()
  return context.db.transaction(async (tx) => {
    const created = await createApiKey(tx, context.digestSecret, input, now)
    await insertAuditEntry(tx, {
      organizationId: input.organizationId,
      actor: actorOf(caller.principal),
      action: 'api_key.created',
      target: created.id,
      after: { name: created.name, scopes: created.scopes, display_prefix: created.displayPrefix },
      requestId: caller.requestId,
      at: now,
    })
    return created
  })
}

/** The keys of an organization, revoked ones too, without anything secret. */
export async function readApiKeys(context: OrganizationsContext, organizationId: OrganizationId): Promise<readonly ApiKey[]> {
  await readOrganization(context, organizationId)
  return listApiKeys(context.db, organizationId)
}

/**
 * Revokes a key; within a second no process accepts it any more.
 * @throws DomainError `not_found` when the organization has no such live key
 */
export async function withdrawApiKey(
  context: OrganizationsContext,
  caller: Caller,
  key: { organizationId: OrganizationId; id: ApiKeyId },
): Promise<void> {
  const now = context.clock.now()
  await context.db.transaction(async (tx) => {
    if (!(await revokeApiKey(tx, key, now))) throw new DomainError('not_found', 'There is no such API key.')
    await insertAuditEntry(tx, {
      organizationId: key.organizationId,
      actor: actorOf(caller.principal),
      action: 'api_key.revoked',
      target: key.id,
      requestId: caller.requestId,
      at: now,
    })
  })
}

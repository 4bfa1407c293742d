import { insertAuditEntry } from '../audit/store.ts'
import { insertMissingAccounts } from '../grants/store.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from '../stripe/context.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import type { StandingOverride } from './rules.ts'
import { lockOverride, updateOverride } from './store.ts'

/** What an operator changes; a field that is left out stays, null takes the override back. */
export type OverrideChange = { readonly [Field in keyof StandingOverride]?: StandingOverride[Field] | undefined }

const NOTHING: StandingOverride = { planKey: null, status: null, trialEndsAt: null, expiresAt: null }

/**
 * Sets by hand what an organization has (MR-6): plan, billing status, end of trial, expiry. It counts at once, for grants too, and
 * the audit log keeps who, what, before, after and why.
 * @throws DomainError `not_found`, `unknown_plan`
 */
export async function overrideStanding(
  context: BillingContext,
  request: { organizationId: string; change: OverrideChange; reason: string | null },
  asker: { actor: string; requestId: string },
): Promise<StandingOverride> {
  const { organizationId, change, reason } = request
  const { catalog, version } = context.catalogs.current
  if (change.planKey != null && !catalog.plans.has(change.planKey)) {
    throw new DomainError('unknown_plan', `There is no plan "${change.planKey}".`, { plan: change.planKey })
  }
  const organization = await readOrganization(context.db, organizationId)
  const now = context.clock.now()
  return context.db.transaction(async (tx) => {
    await insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now })
    const before = (await lockOverride(tx, organizationId)) ?? NOTHING
    const after: StandingOverride = {
      planKey: change.planKey === undefined ? before.planKey : change.planKey,
      status: change.status === undefined ? before.status : change.status,
      trialEndsAt: change.trialEndsAt === undefined ? before.trialEndsAt : change.trialEndsAt,
      expiresAt: change.expiresAt === undefined ? before.expiresAt : change.expiresAt,
    }
    await updateOverride(tx, organizationId, after, now)
    await context.onAccountDerived(tx, { organizationId, now: timeOf(organization, context.clock) })
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'standing.overridden',
      target: organizationId,
      before,
      after: { ...after, reason },
      at: now,
    })
    return after
  })
}

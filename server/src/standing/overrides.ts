import { insertAuditEntry } from '../audit/store.ts'
import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Db, Transaction } from '../db/database.ts'
import { insertMissingAccounts } from '../grants/store.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { StandingOverride } from './rules.ts'
import { findClockTime, lockOverride, updateOverride } from './store.ts'

/** What overriding needs from outside. */
export type OverrideContext = {
  readonly db: Db
  readonly clock: Clock
  readonly catalogs: CatalogRegistry
  /** Days of use after a payment failed (EM-7). */
  readonly graceDays: number
  /** Called in the transaction that changed what an account has: adjusts its grants. */
  readonly onAccountDerived: (tx: Transaction, derived: { organizationId: string; now: Instant }) => Promise<void>
}

/** What an operator changes; a field that is left out stays, null takes the override back. */
export type OverrideChange = { readonly [Field in keyof StandingOverride]?: StandingOverride[Field] | undefined }

const NOTHING: StandingOverride = { planKey: null, status: null, trialEndsAt: null, expiresAt: null }

/**
 * Sets by hand what an organization has (MR-6): plan, billing status, end of trial, expiry. It counts at once, for grants too, and
 * the audit log keeps who, what, before, after and why.
 * @throws DomainError `not_found`, `unknown_plan`
 */
export async function overrideStanding(
  context: OverrideContext,
  request: { organizationId: string; change: OverrideChange; reason: string | null },
  asker: { actor: string; requestId: string },
): Promise<StandingOverride> {
  const { organizationId, change, reason } = request
  const { catalog, version } = context.catalogs.current
  if (change.planKey != null && !catalog.plans.has(change.planKey)) {
    throw new DomainError('unknown_plan', `There is no plan "${change.planKey}".`, { plan: change.planKey })
  }
  const clockNow = await findClockTime(context.db, organizationId)
  if (clockNow === undefined) throw new DomainError('not_found', 'There is no such organization.')
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
    await context.onAccountDerived(tx, { organizationId, now: clockNow ?? now })
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

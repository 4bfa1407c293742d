import { insertAuditEntry } from '../audit/store.ts'
import type { CatalogRegistry } from '../catalog/registry.ts'
import { planKeyOf } from '../catalog/tiers.ts'
import type { Db, Transaction } from '../db/database.ts'
import { insertMissingAccounts } from '../grants/store.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { overrideAt, type StandingOverride } from './rules.ts'
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

const NOTHING: StandingOverride = { planKey: null, status: null, trialEndsAt: null, expiresAt: null, endsAt: null }
const NO_NOTE = { reason: null, setBy: null, setAt: null }

/**
 * Sets by hand what an organization has (MR-6): plan, billing status, end of trial, expiry, for good or until a time. It counts at
 * once, for grants too, and the audit log keeps who, what, before, after and why. When its time is over it counts no more, by the
 * organization's clock alone.
 * @throws DomainError `not_found`, `unknown_plan`, `invalid_request` when it would have ended already
 */
export async function overrideStanding(
  context: OverrideContext,
  request: { organizationId: string; change: OverrideChange; reason: string },
  asker: { actor: string; requestId: string },
): Promise<StandingOverride> {
  const { organizationId, change, reason } = request
  const { catalog, version } = context.catalogs.current
  const planKey = change.planKey == null ? change.planKey : planKeyOf(catalog, change.planKey)
  if (planKey != null && !catalog.plans.has(planKey)) {
    throw new DomainError('unknown_plan', `There is no plan "${planKey}".`, { plan: planKey })
  }
  const clockNow = await findClockTime(context.db, organizationId)
  if (clockNow === undefined) throw new DomainError('not_found', 'There is no such organization.')
  const now = context.clock.now()
  const ownNow = clockNow ?? now
  if (change.endsAt != null && change.endsAt <= ownNow) {
    throw new DomainError('invalid_request', 'An override ends in the future.', { field: 'override_expires_at' })
  }
  return context.db.transaction(async (tx) => {
    await insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now })
    // One that has ended is not taken up again.
    const before = overrideAt(await lockOverride(tx, organizationId), ownNow) ?? NOTHING
    const changed: StandingOverride = {
      planKey: planKey === undefined ? before.planKey : planKey,
      status: change.status === undefined ? before.status : change.status,
      trialEndsAt: change.trialEndsAt === undefined ? before.trialEndsAt : change.trialEndsAt,
      expiresAt: change.expiresAt === undefined ? before.expiresAt : change.expiresAt,
      endsAt: change.endsAt === undefined ? before.endsAt : change.endsAt,
    }
    const standing = overrideAt(changed, ownNow)
    const after = standing ?? NOTHING
    const note = { reason, setBy: asker.actor, setAt: now }
    await updateOverride(tx, organizationId, { ...after, ...(standing === null ? NO_NOTE : note) }, now)
    await context.onAccountDerived(tx, { organizationId, now: ownNow })
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

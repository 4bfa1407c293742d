import type { Queryable } from '../db/database.ts'
import { rowsTogether } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { FeatureOverride } from './rules.ts'

/** Who set it, when and why. */
export type OverrideNote = { readonly reason: string; readonly setBy: string; readonly setAt: Instant }

export type StoredOverride = FeatureOverride & OverrideNote & { readonly organizationId: string }

/** What operators set for organizations, ended ones too. */
export const listFeatureOverrides = rowsTogether(async (db: Queryable, organizationIds: readonly string[]) => {
  const { rows } = await db.query<StoredOverride>({
    name: 'list_feature_overrides',
    text: `select organization_id as "organizationId", feature_key as "featureKey", value, ends_at as "endsAt", reason,
        set_by as "setBy", set_at as "setAt"
      from feature_overrides where organization_id = any($1) order by organization_id, feature_key`,
    values: [organizationIds],
  })
  return rows
})

export async function upsertFeatureOverride(tx: Queryable, override: StoredOverride): Promise<void> {
  const { organizationId, featureKey, value, endsAt, reason, setBy, setAt } = override
  await tx.query(
    `insert into feature_overrides (organization_id, feature_key, value, ends_at, reason, set_by, set_at)
     values ($1, $2, $3, $4, $5, $6, $7)
     on conflict (organization_id, feature_key) do update set (value, ends_at, reason, set_by, set_at) =
       (excluded.value, excluded.ends_at, excluded.reason, excluded.set_by, excluded.set_at)`,
    [organizationId, featureKey, JSON.stringify(value), endsAt, reason, setBy, setAt],
  )
}

export async function deleteFeatureOverride(tx: Queryable, organizationId: string, featureKey: string): Promise<void> {
  await tx.query('delete from feature_overrides where organization_id = $1 and feature_key = $2', [organizationId, featureKey])
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { PastTerms } from './history.ts'

type TermsRow = Omit<PastTerms, 'cycle'> & {
  readonly organizationId: string
  readonly cycleStart: Instant | null
  readonly cycleEnd: Instant | null
}

const COLUMNS = `t.organization_id as "organizationId", t.since, t.plan_key as "planKey", t.catalog_version as "catalogVersion",
  t.cycle_start as "cycleStart", t.cycle_end as "cycleEnd", t.add_ons as "addOns"`

/** What organizations had, by organization, the oldest first. */
export async function findPastTerms(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, readonly PastTerms[]>> {
  const { rows } = await db.query<TermsRow>(
    `select ${COLUMNS} from account_terms t where t.organization_id = any ($1) order by t.since`,
    [organizationIds],
  )
  return Map.groupBy(rows.map(termsOf), ({ organizationId }) => organizationId)
}

export async function findLastTerms(tx: Queryable, organizationId: string): Promise<PastTerms | null> {
  const { rows } = await tx.query<TermsRow>(
    `select ${COLUMNS} from account_terms t where t.organization_id = $1 order by t.since desc limit 1`,
    [organizationId],
  )
  return rows[0] ? termsOf(rows[0]) : null
}

function termsOf({ cycleStart, cycleEnd, ...row }: TermsRow): PastTerms & { readonly organizationId: string } {
  return { ...row, cycle: cycleStart === null || cycleEnd === null ? null : { start: cycleStart, end: cycleEnd } }
}

/** Adds terms to a history, and forgets those that ended before a time. The caller holds the account's lock. */
export async function insertTerms(
  tx: Queryable,
  organizationId: string,
  { since, planKey, catalogVersion, cycle, addOns }: PastTerms,
  { forgetBefore }: { readonly forgetBefore: Instant },
): Promise<void> {
  await tx.query(
    `insert into account_terms (organization_id, since, plan_key, catalog_version, cycle_start, cycle_end, add_ons)
     values ($1, $2, $3, $4, $5, $6, $7)
     on conflict (organization_id, since) do update set (plan_key, catalog_version, cycle_start, cycle_end, add_ons) =
       (excluded.plan_key, excluded.catalog_version, excluded.cycle_start, excluded.cycle_end, excluded.add_ons)`,
    [organizationId, since, planKey, catalogVersion, cycle?.start ?? null, cycle?.end ?? null, JSON.stringify(addOns)],
  )
  await tx.query('update accounts set terms_since = $2 where organization_id = $1', [organizationId, since])
  await tx.query(
    `delete from account_terms t where t.organization_id = $1 and exists (
       select from account_terms later where later.organization_id = $1 and later.since > t.since and later.since < $2
     )`,
    [organizationId, forgetBefore],
  )
}

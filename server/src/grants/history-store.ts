import type { Queryable } from '../db/database.ts'
import { rowsTogether, together } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { PastTerms } from './history.ts'

type Owned = { readonly organizationId: string }

type TermsRow = Omit<PastTerms, 'cycle'> & {
  readonly organizationId: string
  readonly cycleStart: Instant | null
  readonly cycleEnd: Instant | null
  readonly cycleAnchor: Instant | null
}

const COLUMNS = `t.organization_id as "organizationId", t.since, t.plan_key as "planKey", t.catalog_version as "catalogVersion",
  t.cycle_start as "cycleStart", t.cycle_end as "cycleEnd", t.cycle_anchor as "cycleAnchor", t.add_ons as "addOns"`

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
  const [last] = await listLastTerms(tx, organizationId)
  return last ? termsOf(last) : null
}

const listLastTerms = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<TermsRow>(
    `select t.* from unnest($1::text[]) as asked (id) cross join lateral (
       select ${COLUMNS} from account_terms t where t.organization_id = asked.id order by t.since desc limit 1
     ) t`,
    [organizationIds],
  )
  return rows
})

function termsOf({ cycleStart: start, cycleEnd: end, cycleAnchor: anchor, ...row }: TermsRow): PastTerms & Owned {
  return { ...row, cycle: start === null || end === null ? null : { start, end, anchor } }
}

/** Adds terms to a history, and forgets those that ended before a time. The caller holds the account's lock. */
export async function insertTerms(
  tx: Queryable,
  organizationId: string,
  terms: PastTerms,
  { forgetBefore }: { readonly forgetBefore: Instant },
): Promise<void> {
  await insertTogether(tx, { organizationId, terms, forgetBefore })
}

type NewTerms = { readonly organizationId: string; readonly terms: PastTerms; readonly forgetBefore: Instant }

/** Terms of different organizations. */
const insertTogether = together(async (tx, asked: readonly NewTerms[]) => {
  const ids = asked.map(({ organizationId }) => organizationId)
  const column = <Value>(read: (terms: PastTerms) => Value): Value[] => asked.map(({ terms }) => read(terms))
  await tx.query(
    `insert into account_terms (organization_id, since, plan_key, catalog_version, cycle_start, cycle_end, add_ons, cycle_anchor)
     select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::integer[], $5::timestamptz[], $6::timestamptz[], $7::jsonb[],
       $8::timestamptz[])
     on conflict (organization_id, since) do update set (plan_key, catalog_version, cycle_start, cycle_end, add_ons, cycle_anchor) =
       (excluded.plan_key, excluded.catalog_version, excluded.cycle_start, excluded.cycle_end, excluded.add_ons, excluded.cycle_anchor)`,
    [
      ids,
      column(({ since }) => since),
      column(({ planKey }) => planKey),
      column(({ catalogVersion }) => catalogVersion),
      column(({ cycle }) => cycle?.start ?? null),
      column(({ cycle }) => cycle?.end ?? null),
      column(({ addOns }) => JSON.stringify(addOns)),
      column(({ cycle }) => cycle?.anchor ?? null),
    ],
  )
  await tx.query(
    `update accounts account set terms_since = news.since from unnest($1::text[], $2::timestamptz[]) as news (id, since)
     where account.organization_id = news.id`,
    [ids, column(({ since }) => since)],
  )
  await tx.query(
    `delete from account_terms t using unnest($1::text[], $2::timestamptz[]) as asked (id, forget_before)
     where t.organization_id = asked.id and exists (
       select from account_terms later where later.organization_id = asked.id and later.since > t.since and later.since < asked.forget_before
     )`,
    [ids, asked.map(({ forgetBefore }) => forgetBefore)],
  )
  return asked.map(() => undefined)
})

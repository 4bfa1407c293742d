import type { Queryable } from '../db/database.ts'
import { together } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { SubscriptionStatus } from '../standing/rules.ts'
import type { Grant, GrantChange, GrantKind, GrantName } from './rules.ts'

/** One `accounts` row with what the organization itself adds: whatever decides standing, plan and periods. */
export type AccountRow = {
  readonly organizationId: string
  readonly organizationCreatedAt: Instant
  readonly testClockNow: Instant | null
  /** null is the catalog's. */
  readonly timeZone: string | null
  readonly planKey: string
  readonly catalogVersion: number
  readonly subscriptionStatus: SubscriptionStatus | null
  readonly currentPeriodStart: Instant | null
  readonly currentPeriodEnd: Instant | null
  readonly cycleAnchor: Instant | null
  readonly trialEndsAt: Instant | null
  readonly paymentFailedAt: Instant | null
  /** When the subscription ended. */
  readonly endedAt: Instant | null
  readonly overridePlanKey: string | null
  readonly overrideStatus: SubscriptionStatus | null
  readonly overrideTrialEndsAt: Instant | null
  readonly overrideExpiresAt: Instant | null
  readonly overrideEndsAt: Instant | null
  /** How many of each add-on the subscription has; null where there is no account yet. */
  readonly addOns: Readonly<Record<string, number>> | null
  /** By balance: less than this many millionths left is told (top-ups). */
  readonly lowMarks: Readonly<Record<string, string>> | null
  /** Since when plan and cycle are as they are (`history.ts`); null is ever since. */
  readonly termsSince: Instant | null
}

/** What an organization has that nobody opened an account for yet. */
export type DefaultTerms = { readonly planKey: string; readonly catalogVersion: number }

const ACCOUNT_FIELDS = `o.id as "organizationId", o.created_at as "organizationCreatedAt", o.test_clock_now as "testClockNow",
  o.time_zone as "timeZone",   a.subscription_status as "subscriptionStatus", a.current_period_start as "currentPeriodStart",
  a.current_period_end as "currentPeriodEnd", a.cycle_anchor as "cycleAnchor", a.trial_ends_at as "trialEndsAt", a.payment_failed_at as "paymentFailedAt",
  a.ended_at as "endedAt",
  a.override_plan_key as "overridePlanKey", a.override_status as "overrideStatus",
  a.override_trial_ends_at as "overrideTrialEndsAt", a.override_expires_at as "overrideExpiresAt",
  a.override_ends_at as "overrideEndsAt", a.low_marks as "lowMarks",
  a.add_ons as "addOns", a.terms_since as "termsSince"`

// Statements of the write path look their rows up one by one: `lateral` leaves the planner no other way, where a join of 250
// wanted rows with a table of 10,000 was planned as a scan of all of it (measured: 200 µs of PostgreSQL per use, now 40).

/**
 * Locks rows of accounts, one by one. They are read by a statement of its own behind it: one that had to wait reads the row that it has locked anew,
 * but not what it is joined with (https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED).
 */
export const LOCK_ACCOUNTS = {
  name: 'lock_accounts',
  text: `select 1 from unnest($1::text[]) as asked (id) cross join lateral (
    select 1 from accounts a where a.organization_id = asked.id for no key update
  ) as account`,
}

/** What is selected of accounts `a` and organizations `o`, by the ids `$1`, one by one; the caller holds their locks. */
export const lockedAccounts = (
  fields: string,
): string => `select account.* from unnest($1::text[]) as asked (id) cross join lateral (
    select ${ACCOUNT_FIELDS}, a.plan_key as "planKey", a.catalog_version as "catalogVersion"${fields}
    from accounts a join organizations o on o.id = a.organization_id where a.organization_id = asked.id offset 0
  ) as account`

/**
 * Locks the accounts of organizations, in one order everywhere. Whoever changes an organization's grants, keys or counters
 * holds this lock; so nothing below it is ever changed by two transactions at once.
 */
export async function lockAccounts(tx: Queryable, organizationIds: readonly string[]): Promise<readonly AccountRow[]> {
  const values = [organizationIds.toSorted()]
  await tx.query({ ...LOCK_ACCOUNTS, values })
  const found = await tx.query<AccountRow>({ name: 'read_locked_accounts', text: lockedAccounts(''), values })
  return found.rows
}

/** The same for one. */
export const lockAccount = together(async (tx, organizationIds: readonly string[]) => {
  const accounts = await lockAccounts(tx, [...new Set(organizationIds)])
  const byId = new Map(accounts.map((account) => [account.organizationId, account]))
  return organizationIds.map((id) => byId.get(id) ?? null)
})

/** The same without a lock, for reading. */
export async function findAccounts(
  db: Queryable,
  organizationIds: readonly string[],
  { planKey, catalogVersion }: DefaultTerms,
): Promise<readonly AccountRow[]> {
  const found = await db.query<AccountRow>({
    name: 'find_accounts',
    text: `select ${ACCOUNT_FIELDS}, coalesce(a.plan_key, $2) as "planKey", coalesce(a.catalog_version, $3) as "catalogVersion"
      from organizations o left join accounts a on a.organization_id = o.id where o.id = any ($1)`,
    values: [organizationIds, planKey, catalogVersion],
  })
  return found.rows
}

/** Gives organizations that have no account yet one on the default plan; answers nothing for ids that do not exist. */
export async function insertMissingAccounts(
  tx: Queryable,
  organizationIds: readonly string[],
  terms: DefaultTerms & { readonly now: Instant },
): Promise<void> {
  await tx.query(
    `insert into accounts (organization_id, plan_key, catalog_version, updated_at)
     select id, $2, $3, $4 from organizations where id = any ($1) order by id
     on conflict (organization_id) do nothing`,
    [organizationIds, terms.planKey, terms.catalogVersion, terms.now],
  )
}

/** The caller holds the account's lock. */
export async function updateTimeZone(tx: Queryable, organizationId: string, timeZone: string | null): Promise<void> {
  await tx.query('update organizations set time_zone = $2 where id = $1', [organizationId, timeZone])
}

export const GRANT_COLUMNS = `g.organization_id as "organizationId", g.id, g.balance as "balanceKey", g.kind, g.plan_key as "planKey",
  g.catalog_version as "catalogVersion", g.amount, g.limit_kind as "limit", g.used, g.overage, g.reserved,
  g.held_overage as "heldOverage", g.free_used as "freeUsed", g.free_overage as "freeOverage", g.used_elsewhere as "usedElsewhere",
  g.priced_overage as "pricedOverage", g.priced_minor as "pricedMinor", g.revoked, g.priority,
  g.meters, g.starts_at as "startsAt", g.expires_at as "expiresAt", g.reason, g.created_at as "createdAt"`

export type GrantRow = Omit<Grant, 'expiresAt' | Rare> & {
  readonly expiresAt: Instant | number
} & { readonly [Name in Rare]: bigint | null }

/** What hardly any grant has: null where it has none. */
type Rare = 'freeUsed' | 'freeOverage' | 'usedElsewhere' | 'pricedOverage' | 'pricedMinor'

/** A grant as it was read; pg reads 'infinity' as the number Infinity. */
export function grantOf(row: GrantRow): Grant {
  // Written out: a copy by `...` costs a microsecond for each of the grants that every use reads.
  return {
    organizationId: row.organizationId,
    id: row.id,
    balanceKey: row.balanceKey,
    kind: row.kind,
    planKey: row.planKey,
    catalogVersion: row.catalogVersion,
    amount: row.amount,
    limit: row.limit,
    used: row.used,
    overage: row.overage,
    reserved: row.reserved,
    heldOverage: row.heldOverage,
    freeUsed: row.freeUsed ?? 0n,
    freeOverage: row.freeOverage ?? 0n,
    usedElsewhere: row.usedElsewhere ?? 0n,
    pricedOverage: row.pricedOverage ?? 0n,
    pricedMinor: row.pricedMinor ?? 0n,
    revoked: row.revoked,
    priority: row.priority,
    meters: row.meters,
    startsAt: row.startsAt,
    expiresAt: row.expiresAt instanceof Date ? row.expiresAt : null,
    reason: row.reason,
    createdAt: row.createdAt,
  }
}

/**
 * The grants of `asked` organizations that count now, as a subquery `g`: at their own time, or at `$2` where they have none. A plan's
 * allowance counts from when it was opened: Stripe may begin a cycle a moment before our clock does, and what is held on it must
 * be found meanwhile; so must what it left over, when a clock has gone back.
 * Test clocks are looked up in an index of their own, which is next to empty: each organization's row cost 2 µs more.
 */
const ACTIVE_GRANTS = `unnest($1::text[]) as asked (id)
  left join (select o.id, o.test_clock_now as at from organizations o where o.test_clock_now is not null and o.id = any ($1)) as clock
    on clock.id = asked.id
  cross join lateral (
    select * from grants g where g.organization_id = asked.id and g.expires_at > coalesce(clock.at, $2)
      and (g.starts_at <= coalesce(clock.at, $2) or g.kind in ('plan', 'rollover')) offset 0
  ) as g`

/** The grants that count now. */
export async function findActiveGrants(
  tx: Queryable,
  organizationIds: readonly string[],
  now: Instant,
): Promise<readonly Grant[]> {
  if (organizationIds.length === 1) return findActiveGrantsOfOne(tx, organizationIds[0]!, now)
  const found = await tx.query<GrantRow>({
    name: 'find_active_grants',
    text: `select ${GRANT_COLUMNS} from ${ACTIVE_GRANTS}`,
    values: [organizationIds, now],
  })
  return found.rows.map(grantOf)
}

/** The same of one organization, as of a busy one: without joins it costs 35 µs instead of 60, all of it under the lock. */
async function findActiveGrantsOfOne(tx: Queryable, organizationId: string, now: Instant): Promise<readonly Grant[]> {
  const found = await tx.query<GrantRow>({
    name: 'find_active_grants_of_one',
    text: `select ${GRANT_COLUMNS} from grants g where g.organization_id = $1 and g.expires_at > ${TIME_OF_ONE}
      and (g.kind in ('plan', 'rollover') or g.starts_at <= ${TIME_OF_ONE})`,
    values: [organizationId, now],
  })
  return found.rows.map(grantOf)
}

const TIME_OF_ONE = `coalesce((select o.test_clock_now from organizations o where o.test_clock_now is not null and o.id = $1), $2)`

/** The same for one; `at` is this server's time, as above. */
export const findActiveGrantsOf = together(async (tx, asked: readonly Moment[]) => {
  const grants = new Map<Moment, readonly Grant[]>()
  for (const moments of Map.groupBy(asked, ({ at }) => at.getTime()).values()) {
    const found = await findActiveGrants(tx, [...new Set(moments.map(({ organizationId }) => organizationId))], moments[0]!.at)
    const byId = Map.groupBy(found, ({ organizationId }) => organizationId)
    for (const moment of moments) grants.set(moment, byId.get(moment.organizationId) ?? [])
  }
  return asked.map((moment) => grants.get(moment)!)
})

/** A moment in an organization's time. */
export type Moment = { readonly organizationId: string; readonly at: Instant }

/** The grants that counted at moments of the past. */
export async function findGrantsAt(tx: Queryable, moments: readonly Moment[]): Promise<readonly Grant[]> {
  const found = await tx.query<GrantRow>(
    `select distinct on (g.organization_id, g.id) ${GRANT_COLUMNS}
     from unnest($1::text[], $2::timestamptz[]) as m (organization_id, at)
     join grants g on g.organization_id = m.organization_id and g.expires_at > m.at and g.starts_at <= m.at`,
    [moments.map((moment) => moment.organizationId), moments.map((moment) => moment.at)],
  )
  return found.rows.map(grantOf)
}

/** Named grants, expired or not. */
export async function findGrantsById(tx: Queryable, names: readonly GrantName[]): Promise<readonly Grant[]> {
  const found = await tx.query<GrantRow>(
    `select ${GRANT_COLUMNS} from unnest($1::text[], $2::text[]) as n (organization_id, id)
     join grants g on g.organization_id = n.organization_id and g.id = n.id`,
    [names.map((name) => name.organizationId), names.map((name) => name.id)],
  )
  return found.rows.map(grantOf)
}

/** Every grant of an organization, newest first. */
export async function listGrants(db: Queryable, organizationId: string): Promise<readonly Grant[]> {
  const found = await db.query<GrantRow>(
    `select ${GRANT_COLUMNS} from grants g where g.organization_id = $1 order by g.created_at desc, g.id`,
    [organizationId],
  )
  return found.rows.map(grantOf)
}

/** The plan's allowance of a balance that stood last besides the one named, of each that has one. */
export async function findLastPlanGrants(
  tx: Queryable,
  named: readonly (GrantName & { readonly balanceKey: string })[],
): Promise<readonly Grant[]> {
  const found = await tx.query<GrantRow>(
    `select ${GRANT_COLUMNS} from unnest($1::text[], $2::text[], $3::text[]) as n (organization_id, balance, id)
     cross join lateral (
       select * from grants g where g.organization_id = n.organization_id and g.balance = n.balance and g.kind = 'plan' and g.id <> n.id
       order by g.expires_at desc, g.starts_at desc limit 1
     ) as g`,
    [named.map((name) => name.organizationId), named.map((name) => name.balanceKey), named.map((name) => name.id)],
  )
  return found.rows.map(grantOf)
}

/** Stores new grants and answers which were new; one whose id is there already stays as it is. */
export async function insertGrants(tx: Queryable, grants: readonly Grant[]): Promise<readonly GrantName[]> {
  const inserted = await tx.query<GrantName>(
    `insert into grants (organization_id, id, balance, kind, plan_key, catalog_version, amount, limit_kind, used, overage, reserved,
       revoked, priority, meters, starts_at, expires_at, reason, created_at)
     select organization_id, id, balance, kind, plan_key, catalog_version, amount, limit_kind, used, overage, reserved,
       revoked, priority, meters, starts_at, coalesce(expires_at, 'infinity'), reason, created_at
     from json_to_recordset($1) as g (organization_id text, id text, balance text, kind text, plan_key text, catalog_version integer,
       amount bigint, limit_kind text, used bigint, overage bigint, reserved bigint, revoked bigint, priority integer, meters text[],
       starts_at timestamptz, expires_at timestamptz, reason text, created_at timestamptz)
     order by organization_id, id
     on conflict (organization_id, id) do nothing returning organization_id as "organizationId", id`,
    [JSON.stringify(grants.map(toRow))],
  )
  return inserted.rows
}

/** Writes new terms and what follows from them; the caller holds the account's lock. */
export async function updateGrants(tx: Queryable, grants: readonly Grant[]): Promise<void> {
  await tx.query(
    `update grants g set plan_key = n.plan_key, catalog_version = n.catalog_version, amount = n.amount, limit_kind = n.limit_kind,
       used = n.used, overage = n.overage, revoked = n.revoked, starts_at = n.starts_at,
       expires_at = coalesce(n.expires_at, 'infinity'),
       free_used = nullif(n.free_used, 0), free_overage = nullif(n.free_overage, 0),
       priced_overage = nullif(n.priced_overage, 0), priced_minor = nullif(n.priced_minor, 0)
     from json_to_recordset($1) as n (organization_id text, id text, plan_key text, catalog_version integer, amount bigint,
       limit_kind text, used bigint, overage bigint, revoked bigint, starts_at timestamptz, expires_at timestamptz,
       free_used bigint, free_overage bigint, priced_overage bigint, priced_minor bigint)
     where g.organization_id = n.organization_id and g.id = n.id`,
    [JSON.stringify(grants.map(toRow))],
  )
}

function toRow(grant: Grant): Record<string, unknown> {
  return {
    organization_id: grant.organizationId,
    id: grant.id,
    balance: grant.balanceKey,
    kind: grant.kind satisfies GrantKind,
    plan_key: grant.planKey,
    catalog_version: grant.catalogVersion,
    amount: grant.amount?.toString() ?? null,
    limit_kind: grant.limit,
    used: grant.used.toString(),
    overage: grant.overage.toString(),
    reserved: grant.reserved.toString(),
    free_used: grant.freeUsed.toString(),
    free_overage: grant.freeOverage.toString(),
    priced_overage: grant.pricedOverage.toString(),
    priced_minor: grant.pricedMinor.toString(),
    revoked: grant.revoked.toString(),
    priority: grant.priority,
    meters: grant.meters,
    starts_at: grant.startsAt,
    expires_at: grant.expiresAt,
    reason: grant.reason,
    created_at: grant.createdAt,
  }
}

/** An update of counters, as the text of a statement whose `$1` to `$7` are the columns of `grantChangeColumns`. */
export const ADD_TO_GRANTS = `update grants g set used = g.used + f.used, overage = g.overage + coalesce(f.overage, 0),
    reserved = g.reserved + coalesce(f.reserved, 0), held_overage = g.held_overage + coalesce(f.held, 0),
    amount = g.amount + coalesce(f.amount, 0)
  from (
    select row.ctid, c.used, c.overage, c.reserved, c.held, c.amount
    from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
      as c (o, i, used, overage, reserved, held, amount)
    cross join lateral (select g.ctid from grants g where g.organization_id = c.o and g.id = c.i offset 0) as row
  ) as f
  where g.ctid = f.ctid`

/** Adds to what hardly any use changes: what is free (late use, corrections of what was free), what was drawn from other grants. */
export async function addRareCounts(tx: Queryable, changes: readonly GrantChange[]): Promise<void> {
  await tx.query(
    `update grants g set free_used = nullif(coalesce(g.free_used, 0) + c.used, 0),
       free_overage = nullif(coalesce(g.free_overage, 0) + c.overage, 0),
       used_elsewhere = nullif(coalesce(g.used_elsewhere, 0) + c.elsewhere, 0)
     from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) as c (organization_id, id, used, overage, elsewhere)
     where g.organization_id = c.organization_id and g.id = c.id`,
    [
      changes.map(({ organizationId }) => organizationId),
      changes.map(({ id }) => id),
      changes.map(({ freeUsed }) => freeUsed),
      changes.map(({ freeOverage }) => freeOverage),
      changes.map(({ usedElsewhere }) => usedElsewhere),
    ],
  )
}

/** Columns, which PostgreSQL reads in half the time that it takes for JSON; those that change nothing are left out. */
export function grantChangeColumns(changes: readonly GrantChange[]): (readonly unknown[] | null)[] {
  return [
    changes.map(({ organizationId }) => organizationId),
    changes.map(({ id }) => id),
    changes.map(({ used }) => used),
    changes.every(({ overage }) => overage === 0n) ? null : changes.map(({ overage }) => overage),
    changes.every(({ reserved }) => reserved === 0n) ? null : changes.map(({ reserved }) => reserved),
    changes.every(({ heldOverage }) => heldOverage === 0n) ? null : changes.map(({ heldOverage }) => heldOverage),
    changes.every(({ amount }) => amount === 0n) ? null : changes.map(({ amount }) => amount),
  ]
}

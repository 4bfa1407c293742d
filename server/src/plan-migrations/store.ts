import type { Queryable, Transaction } from '../db/database.ts'
import type { PriceInterval } from '../catalog/define.ts'
import type { Instant } from '../lib/clock.ts'
import type { Candidate, Move } from './rules.ts'

export type CandidateFilter = {
  readonly toVersion: number
  readonly currency: string
  readonly planKey: string | null
  readonly fromVersion: number | null
  readonly organizationIds: readonly string[] | null
}

/**
 * Everybody who has other terms than those of `toVersion` and is in no open migration, by organization, so many at a time. Of one moment, through a
 * cursor: asked page by page, of 100,000 it takes three times as long.
 */
export async function* readCandidates(
  tx: Transaction,
  filter: CandidateFilter,
  atOnce: number,
): AsyncGenerator<readonly Candidate[]> {
  await tx.query(
    `declare candidates no scroll cursor for
     select organization.id as "organizationId", organization.name, account.plan_key as "planKey",
       account.catalog_version as "catalogVersion",
       case item.billing_interval when 'year' then 'yearly' when 'month' then 'monthly' end as "interval",
       coalesce(item.quantity, 1) as quantity, item.price_id as "priceId", coalesce(item.unit_amount_minor, 0) as "amountMinor",
       coalesce(item.currency, $2) as currency, account.current_period_end as "currentPeriodEnd"
     from accounts account
     join organizations organization on organization.id = account.organization_id
     left join stripe_subscription_items item
       on item.organization_id = account.organization_id and item.subscription_id = account.subscription_id
       and item.price_id = account.stripe_price_id and account.subscription_status not in ('canceled', 'incomplete_expired')
     where account.catalog_version <> $1
       and ($3::text is null or account.plan_key = $3)
       and ($4::integer is null or account.catalog_version = $4)
       and ($5::text[] is null or account.organization_id = any($5))
       and not exists (
         select from plan_migration_moves move
         where move.organization_id = account.organization_id and move.state in ('pending', 'scheduled'))
     order by organization.id`,
    [filter.toVersion, filter.currency, filter.planKey, filter.fromVersion, filter.organizationIds],
  )
  for (;;) {
    const { rows } = await tx.query<CandidateRow>(`fetch ${atOnce} from candidates`)
    if (rows.length === 0) break
    yield rows.map((row) => ({ ...row, quantity: Number(row.quantity), amountMinor: Number(row.amountMinor) }))
  }
  await tx.query('close candidates')
}

type CandidateRow = Omit<Candidate, 'quantity' | 'amountMinor'> & { readonly quantity: bigint; readonly amountMinor: bigint }

/** Which of these ids no organization has. */
export async function listUnknownOrganizations(db: Queryable, ids: readonly string[]): Promise<readonly string[]> {
  if (ids.length === 0) return []
  const { rows } = await db.query<{ id: string }>(
    'select id from unnest($1::text[]) as named (id) where not exists (select from organizations o where o.id = named.id)',
    [ids],
  )
  return rows.map(({ id }) => id)
}

export type Migration = {
  readonly id: string
  readonly toVersion: number
  readonly at: 'now' | 'period_end'
  readonly reason: string | null
  readonly actor: string
  readonly createdAt: Instant
}

export async function insertMigration(tx: Queryable, migration: Migration): Promise<void> {
  const { id, toVersion, at, reason, actor, createdAt } = migration
  await tx.query('insert into plan_migrations (id, to_version, at, reason, actor, created_at) values ($1, $2, $3, $4, $5, $6)', [
    id,
    toVersion,
    at,
    reason,
    actor,
    createdAt,
  ])
}

/** Moves of a migration. An organization that another migration took meanwhile is left out. */
export async function insertMoves(
  tx: Queryable,
  { id, createdAt }: Pick<Migration, 'id' | 'createdAt'>,
  moves: readonly Move[],
): Promise<void> {
  const rows = moves.map((move) => ({
    organization_id: move.organizationId,
    plan_key: move.planKey,
    from_version: move.catalogVersion,
    price_key: move.interval,
    quantity: move.quantity,
    currency: move.currency,
    from_price_id: move.priceId,
    from_amount_minor: move.amountMinor,
    to_price_id: move.toPriceId,
    to_amount_minor: move.toAmountMinor,
  }))
  await tx.query(
    `insert into plan_migration_moves (migration_id, updated_at, state, organization_id, plan_key, from_version, price_key, quantity,
       currency, from_price_id, from_amount_minor, to_price_id, to_amount_minor)
     select $1, $2, 'pending', organization_id, plan_key, from_version, price_key, quantity, currency, from_price_id,
       from_amount_minor, to_price_id, to_amount_minor
     from json_to_recordset($3) as move (organization_id text, plan_key text, from_version integer, price_key text, quantity integer,
       currency text, from_price_id text, from_amount_minor bigint, to_price_id text, to_amount_minor bigint)
     on conflict (organization_id) where state in ('pending', 'scheduled') do nothing`,
    [id, createdAt, JSON.stringify(rows)],
  )
}

export type MoveState = 'pending' | 'scheduled' | 'done' | 'skipped' | 'failed'

export type StoredMove = {
  readonly organizationId: string
  readonly migrationId: string
  readonly planKey: string
  readonly fromVersion: number
  readonly toVersion: number
  readonly at: 'now' | 'period_end'
  readonly actor: string
  readonly interval: PriceInterval | null
  readonly quantity: number
  readonly currency: string
  readonly fromPriceId: string | null
  readonly fromAmountMinor: number
  readonly toPriceId: string | null
  readonly toAmountMinor: number
  readonly state: MoveState
  readonly effectiveAt: Instant | null
  readonly detail: string | null
}

const MOVE = `move.organization_id as "organizationId", move.migration_id as "migrationId", move.plan_key as "planKey",
  move.from_version as "fromVersion", migration.to_version as "toVersion", migration.at, migration.actor,
  move.price_key as "interval", move.quantity, move.currency, move.from_price_id as "fromPriceId",
  move.from_amount_minor as "fromAmountMinor", move.to_price_id as "toPriceId", move.to_amount_minor as "toAmountMinor",
  move.state, move.effective_at as "effectiveAt", move.detail`

type MoveRow = Omit<StoredMove, 'fromAmountMinor' | 'toAmountMinor'> & { fromAmountMinor: bigint; toAmountMinor: bigint }

function toMove(row: MoveRow): StoredMove {
  return { ...row, fromAmountMinor: Number(row.fromAmountMinor), toAmountMinor: Number(row.toAmountMinor) }
}

/** Of an account and its subscription: a change that the customer asked for waits to be paid. Another one would call it off. */
const HAS_CHANGE_WAITING = `subscription.pending_update_expires_at is not null`

/** Of an account and its subscription: Stripe takes another price for it, it goes on, and takes nothing away. */
const MAY_BE_REPRICED = `subscription.status in ('active', 'trialing', 'past_due') and account.cancel_at is null and not ${HAS_CHANGE_WAITING}`

/**
 * Moves that can be worked on now; a scheduled one when its organization's own time has come, or when nothing stands in its way any more and it has
 * no schedule: that was released, or the customer's own change is decided.
 */
export async function listDueMoves(db: Queryable, now: Instant, limit: number): Promise<StoredMove[]> {
  const { rows } = await db.query<MoveRow>(
    `select ${MOVE} from plan_migration_moves move
     join plan_migrations migration on migration.id = move.migration_id
     join organizations organization on organization.id = move.organization_id
     where move.state = 'pending' or (move.state = 'scheduled' and (move.effective_at <= coalesce(organization.test_clock_now, $1) or exists (
       select from accounts account join stripe_subscriptions subscription
         on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
       where account.organization_id = move.organization_id and ${MAY_BE_REPRICED} and subscription.schedule_id is null
         and account.stripe_price_id = move.from_price_id and (move.to_price_id <> move.from_price_id or move.reprices_use))))
     order by move.updated_at, move.organization_id limit $2`,
    [now, limit],
  )
  return rows.map(toMove)
}

export async function findMigration(db: Queryable, id: string): Promise<Migration | null> {
  const { rows } = await db.query<Migration>(
    `select id, to_version as "toVersion", at, reason, actor, created_at as "createdAt" from plan_migrations where id = $1`,
    [id],
  )
  return rows[0] ?? null
}

/** Moves of a migration, by organization. */
export async function listMoves(
  db: Queryable,
  { migrationId, after, limit }: { migrationId: string; after: string | null; limit: number },
): Promise<StoredMove[]> {
  const { rows } = await db.query<MoveRow>(
    `select ${MOVE} from plan_migration_moves move join plan_migrations migration on migration.id = move.migration_id
     where move.migration_id = $1 and move.organization_id > coalesce($2, '') order by move.organization_id limit $3`,
    [migrationId, after, limit],
  )
  return rows.map(toMove)
}

export async function findMove(
  db: Queryable,
  { migrationId, organizationId }: { readonly migrationId: string; readonly organizationId: string },
): Promise<StoredMove | null> {
  const { rows } = await db.query<MoveRow>(
    `select ${MOVE} from plan_migration_moves move join plan_migrations migration on migration.id = move.migration_id
     where move.migration_id = $1 and move.organization_id = $2`,
    [migrationId, organizationId],
  )
  return rows[0] === undefined ? null : toMove(rows[0])
}

export async function countMoves(db: Queryable, migrationId: string): Promise<Readonly<Record<MoveState, number>>> {
  const { rows } = await db.query<{ state: MoveState; count: bigint }>(
    'select state, count(*) from plan_migration_moves where migration_id = $1 group by state',
    [migrationId],
  )
  const counts = { pending: 0, scheduled: 0, done: 0, skipped: 0, failed: 0 }
  for (const { state, count } of rows) counts[state] = Number(count)
  return counts
}

export type MoveResult = {
  readonly state: MoveState
  readonly effectiveAt?: Instant | null
  readonly detail?: string | null
  /** Whether the move changes what use costs; left out where that was said before. */
  readonly repricesUse?: boolean
}

export async function updateMove(
  db: Queryable,
  { organizationId, migrationId }: Pick<StoredMove, 'organizationId' | 'migrationId'>,
  { state, effectiveAt = null, detail = null, repricesUse }: MoveResult,
  now: Instant,
): Promise<void> {
  await db.query(
    `update plan_migration_moves set state = $3, effective_at = coalesce($4, effective_at), detail = $5, attempts = attempts + 1,
       updated_at = $6, reprices_use = coalesce($7, reprices_use) where organization_id = $1 and migration_id = $2`,
    [organizationId, migrationId, state, effectiveAt, detail, now, repricesUse ?? null],
  )
}

/** Puts a move behind the others. */
export async function noteMoveAttempt(
  db: Queryable,
  { organizationId, migrationId }: Pick<StoredMove, 'organizationId' | 'migrationId'>,
  now: Instant,
): Promise<void> {
  await db.query(
    'update plan_migration_moves set attempts = attempts + 1, updated_at = $3 where organization_id = $1 and migration_id = $2',
    [organizationId, migrationId, now],
  )
}

export type MovedAccount = {
  readonly planKey: string
  readonly catalogVersion: number
  readonly priceId: string | null
  readonly subscribed: boolean
  readonly currentPeriodEnd: Instant | null
  readonly scheduleId: string | null
  /** What the subscription's schedule sells next, and from when; null in its last phase. */
  readonly scheduledPriceId: string | null
  readonly scheduledAt: Instant | null
  readonly mayBeRepriced: boolean
  readonly hasChangeWaiting: boolean
}

export async function findMovedAccount(db: Queryable, organizationId: string): Promise<MovedAccount | null> {
  const { rows } = await db.query<MovedAccount>(
    `select account.plan_key as "planKey", account.catalog_version as "catalogVersion", account.stripe_price_id as "priceId",
       account.subscription_status is not null and account.subscription_status not in ('canceled', 'incomplete_expired')
         as subscribed,
       account.current_period_end as "currentPeriodEnd", subscription.schedule_id as "scheduleId",
       subscription.scheduled_price_id as "scheduledPriceId",
       subscription.scheduled_at as "scheduledAt", coalesce(${MAY_BE_REPRICED}, false) as "mayBeRepriced",
       ${HAS_CHANGE_WAITING} as "hasChangeWaiting"
     from accounts account
     left join stripe_subscriptions subscription
       on subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
     where account.organization_id = $1`,
    [organizationId],
  )
  return rows[0] ?? null
}

export async function setTerms(
  tx: Queryable,
  organizationId: string,
  { planKey, catalogVersion }: { readonly planKey: string; readonly catalogVersion: number },
  now: Instant,
): Promise<void> {
  await tx.query('update accounts set plan_key = $2, catalog_version = $3, updated_at = $4 where organization_id = $1', [
    organizationId,
    planKey,
    catalogVersion,
    now,
  ])
}

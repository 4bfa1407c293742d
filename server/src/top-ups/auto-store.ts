import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { Quantity } from '../lib/quantity.ts'

export type AutoTopUp = {
  readonly organizationId: string
  readonly balanceKey: string
  readonly topUpKey: string
  readonly quantity: number
  readonly below: Quantity
  readonly mostPerMonth: number
  readonly stoppedAt: Instant | null
  readonly stoppedCode: string | null
  readonly stoppedMethod: string | null
}

type BalanceName = { readonly organizationId: string; readonly balanceKey: string }

const COLUMNS = `organization_id as "organizationId", balance as "balanceKey", top_up as "topUpKey", quantity, below,
  most_per_month as "mostPerMonth", stopped_at as "stoppedAt", stopped_code as "stoppedCode", stopped_method as "stoppedMethod"`

/** Sets it anew: what had stopped it is forgotten. */
export async function upsertAutoTopUp(tx: Queryable, auto: AutoTopUp, now: Instant): Promise<void> {
  await tx.query(
    `insert into auto_top_ups (organization_id, balance, top_up, quantity, below, most_per_month, updated_at)
     values ($1, $2, $3, $4, $5, $6, $7)
     on conflict (organization_id, balance) do update set top_up = excluded.top_up, quantity = excluded.quantity,
       below = excluded.below, most_per_month = excluded.most_per_month, stopped_at = null, stopped_code = null,
       stopped_method = null, updated_at = excluded.updated_at`,
    [auto.organizationId, auto.balanceKey, auto.topUpKey, auto.quantity, auto.below, auto.mostPerMonth, now],
  )
}

export async function deleteAutoTopUp(tx: Queryable, { organizationId, balanceKey }: BalanceName): Promise<boolean> {
  const deleted = await tx.query('delete from auto_top_ups where organization_id = $1 and balance = $2', [
    organizationId,
    balanceKey,
  ])
  return deleted.rowCount === 1
}

/** Writes the marks where use is decided: on the account, whose lock the caller holds, so that two who set marks see each other's. */
export async function refreshLowMarks(tx: Queryable, organizationId: string): Promise<void> {
  await tx.query(
    `update accounts set low_marks = (
       select jsonb_object_agg(balance, below::text) from auto_top_ups where organization_id = $1
     ) where organization_id = $1`,
    [organizationId],
  )
}

export async function listAutoTopUps(db: Queryable, organizationId: string): Promise<readonly AutoTopUp[]> {
  const { rows } = await db.query<AutoTopUp>(`select ${COLUMNS} from auto_top_ups where organization_id = $1 order by balance`, [
    organizationId,
  ])
  return rows
}

export async function stopAutoTopUp(
  db: Queryable,
  { organizationId, balanceKey }: BalanceName,
  { at, code, method }: { readonly at: Instant; readonly code: string; readonly method: string | null },
): Promise<void> {
  await db.query(
    `update auto_top_ups set stopped_at = $3, stopped_code = $4, stopped_method = $5
     where organization_id = $1 and balance = $2`,
    [organizationId, balanceKey, at, code, method],
  )
}

/** Goes on at once with what had stopped for a reason that is no more. */
export async function resumeAutoTopUps(db: Queryable, organizationId: string, stoppedCode: string): Promise<void> {
  await db.query(
    `with resumed as (
       update auto_top_ups set stopped_at = null, stopped_code = null, stopped_method = null
       where organization_id = $1 and stopped_code = $2 returning balance)
     update auto_top_up_requests set looked_at = null, wait_until = null
     where organization_id = $1 and balance in (select balance from resumed)`,
    [organizationId, stoppedCode],
  )
}

/** Word of a balance under its mark, as it was taken. It was asked for by the last use under the mark, or by the setting. */
export type AutoTopUpRequest = BalanceName & { readonly lookedAt: Instant; readonly requestedAt: Instant }

/**
 * Takes requests that nobody has looked at, and notes that they are being looked at; those whose taker has said nothing more since
 * `abandonedBefore` too. What waits is left alone.
 */
export async function takeRequests(
  db: Queryable,
  { now, abandonedBefore, limit }: { readonly now: Instant; readonly abandonedBefore: Instant; readonly limit: number },
): Promise<readonly AutoTopUpRequest[]> {
  const { rows } = await db.query<AutoTopUpRequest>(
    `update auto_top_up_requests r set looked_at = $1, wait_until = null
     from (select organization_id, balance from auto_top_up_requests
       where (looked_at is null or looked_at < $2) and (wait_until is null or wait_until <= $1)
       order by looked_at nulls first limit $3 for update skip locked) as due
     where r.organization_id = due.organization_id and r.balance = due.balance
     returning r.organization_id as "organizationId", r.balance as "balanceKey", r.looked_at as "lookedAt",
       r.requested_at as "requestedAt"`,
    [now, abandonedBefore, limit],
  )
  return rows
}

/** Asks for a look at once, whatever it waited for. */
export async function insertRequest(tx: Queryable, { organizationId, balanceKey }: BalanceName, now: Instant): Promise<void> {
  await tx.query(
    `insert into auto_top_up_requests (organization_id, balance, requested_at) values ($1, $2, $3)
     on conflict (organization_id, balance) do update
       set requested_at = excluded.requested_at, looked_at = null, wait_until = null`,
    [organizationId, balanceKey, now],
  )
}

/** Leaves a request for a look later on; uses in the meantime do not hasten it. */
export async function postponeRequest(db: Queryable, { organizationId, balanceKey }: BalanceName, until: Instant): Promise<void> {
  await db.query(
    'update auto_top_up_requests set looked_at = null, wait_until = $3 where organization_id = $1 and balance = $2',
    [organizationId, balanceKey, until],
  )
}

/** Takes a request away, unless a use has made it anew since it was taken. */
export async function deleteRequest(db: Queryable, { organizationId, balanceKey, lookedAt }: AutoTopUpRequest): Promise<void> {
  await db.query('delete from auto_top_up_requests where organization_id = $1 and balance = $2 and looked_at = $3', [
    organizationId,
    balanceKey,
    lookedAt,
  ])
}

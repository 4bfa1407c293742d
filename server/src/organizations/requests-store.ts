import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { refuseAnother, type KeyedRequest, type SentRequest } from '../lib/sent-request.ts'

export type RememberedRequest = {
  /** Whether it was asked for the first time. */
  readonly isNew: boolean
  /** What was answered; null where it is not done, or its answer is not kept. */
  readonly answer: object | null
}

/**
 * Stores what is asked under a key of the caller's, unless it was before. In a transaction with what is asked for, it is stored if and only if
 * that is done, and one that comes at the same time waits for it.
 * @throws DomainError `idempotency_conflict` when the key was used for another request
 */
export async function rememberRequest(
  db: Queryable,
  organizationId: string,
  request: KeyedRequest,
  now: Instant,
): Promise<RememberedRequest> {
  const { key, operation, body } = request
  const { rowCount } = await db.query(
    `insert into billing_requests (organization_id, key, operation, body, created_at) values ($1, $2, $3, $4, $5)
     on conflict do nothing`,
    [organizationId, key, operation, JSON.stringify(body), now],
  )
  const { rows } = await db.query<SentRequest & { answer: object | null }>(
    'select operation, body, answer from billing_requests where organization_id = $1 and key = $2',
    [organizationId, key],
  )
  const known = rows[0]!
  refuseAnother(known, request)
  return { isNew: rowCount === 1, answer: known.answer }
}

export async function keepAnswer(db: Queryable, organizationId: string, key: string, answer: object): Promise<void> {
  await db.query('update billing_requests set answer = $3 where organization_id = $1 and key = $2 and answer is null', [
    organizationId,
    key,
    JSON.stringify(answer),
  ])
}

/** Deletes up to `limit` requests from before `before`; answers how many. */
export async function deleteOldRequests(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    'delete from billing_requests where ctid = any(array(select ctid from billing_requests where created_at < $1 limit $2))',
    [before, limit],
  )
  return rowCount ?? 0
}

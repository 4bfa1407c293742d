import type { Queryable } from '../db/database.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { refuseAnother, type SentRequest } from '../lib/sent-request.ts'
import { readOrganization } from '../stripe/organizations.ts'
import type { Asker } from './actions.ts'

/** Who calls, on which organization they act, and their Idempotency-Key; null without one. */
export type KeyedCaller = { readonly organizationId: string; readonly asker: Asker; readonly key: string | null }

/**
 * Answers a request under a key of the caller's (Idempotency-Key) once: a repeat gets the first answer, whatever has been changed since.
 * A refusal is not kept: the repeat tries again. The change itself is told from its intents, which carry the key, so it is made once
 * also when the process dies before the answer is kept.
 * @throws DomainError `idempotency_conflict` when the key was used for another request; it names the field
 */
export async function answerOnce<Answer extends object>(
  { db, clock }: { readonly db: Queryable; readonly clock: Clock },
  { organizationId, asker, key }: KeyedCaller,
  request: SentRequest,
  work: (asker: Asker) => Promise<Answer>,
): Promise<Answer> {
  if (key === null) return work(asker)
  await readOrganization(db, organizationId)
  const keyed = { ...request, organizationId, key }
  const known = await rememberRequest(db, keyed, clock.now())
  refuseAnother(known, keyed)
  if (known.answer !== null) return known.answer as Answer
  const answer = await work({ ...asker, requestKey: key })
  await keepAnswer(db, keyed, answer)
  return answer
}

type Keyed = SentRequest & { readonly organizationId: string; readonly key: string }
type Known = Pick<Keyed, 'operation' | 'body'> & { readonly answer: object | null }

/** Stores what is asked, unless it was before; answers what is stored. */
async function rememberRequest(db: Queryable, { organizationId, key, operation, body }: Keyed, now: Instant): Promise<Known> {
  await db.query(
    `insert into billing_requests (organization_id, key, operation, body, created_at) values ($1, $2, $3, $4, $5)
     on conflict do nothing`,
    [organizationId, key, operation, JSON.stringify(body), now],
  )
  const { rows } = await db.query<Known>(
    'select operation, body, answer from billing_requests where organization_id = $1 and key = $2',
    [organizationId, key],
  )
  return rows[0]!
}

async function keepAnswer(db: Queryable, { organizationId, key }: Keyed, answer: object): Promise<void> {
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

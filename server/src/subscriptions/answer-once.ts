import type { Queryable } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import type { SentRequest } from '../lib/sent-request.ts'
import { keepAnswer, rememberRequest } from '../organizations/requests-store.ts'
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
  const known = await rememberRequest(db, organizationId, { ...request, key }, clock.now())
  if (known.answer !== null) return known.answer as Answer
  const answer = await work({ ...asker, requestKey: key })
  await keepAnswer(db, organizationId, key, answer)
  return answer
}

import { insertAuditEntry } from '../../audit/store.ts'
import type { Queryable, Session } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { newId, newIdempotencyKey } from '../../lib/ids.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { isMissingAtStripe, StripeCallError } from '../gateway/errors.ts'
import type { CallPriority } from '../gateway/limiter.ts'
import type { MutationKind, MutationResult, StripeMutations } from '../gateway/mutations.ts'
import { linkCustomer } from '../organizations.ts'
import type { FollowUp, Intent, IntentAudit } from './intent.ts'

/** The metadata by which an object at Stripe names the intent that made it. */
export const INTENT_METADATA = 'tollgate_intent'

/** Stripe keeps a key for at least 24 hours; an hour is left for clocks that differ. */
export const KEY_LIFE_MS = 23 * HOUR_MS

/** How long after we gave up on a call Stripe may still carry it out; three times as long as we wait for an answer. */
const IN_DOUBT_MS = MINUTE_MS
/** The same, since it was stored, where whoever was to make it did not live to write down how it went: all its repeats come before. */
const UNWRITTEN_MS = 2 * MINUTE_MS

export type IntentRequest<Kind extends MutationKind> = {
  /** null for what belongs to no organization, such as a product. */
  readonly organizationId: string | null
  readonly kind: Kind
  readonly params: StripeMutations[Kind]
  readonly priority?: CallPriority
  readonly audit?: IntentAudit | null
  /** Left pending by the call's end, for `finishPendingIntents`. */
  readonly afterwards?: readonly FollowUp[]
}

/** Where intents are kept: each statement by itself, and their end with what follows from it. */
export type IntentDb = Pick<Session, 'query' | 'transaction'>

/**
 * Carries out one change at Stripe. Never call it inside a transaction.
 * Its end, and what the audit log tells of it, are committed together: whatever fails afterwards, it is told, and told once.
 * A refusal is final: the intent failed. When it is unknown whether the call arrived, the intent stays pending, the caller is
 * told so, and `finishPendingIntents` settles it before anything else of that organization is changed.
 */
export async function performIntent<Kind extends MutationKind>(
  context: BillingContext,
  db: IntentDb,
  request: IntentRequest<Kind>,
): Promise<MutationResult> {
  requireGateway(context)
  const intent = newIntent(request, context.clock.now(), false)
  await insertIntent(db, intent)
  const result = await carryOut(context, db, intent, request.priority ?? 'interactive')
  await db.transaction((tx) => settleDone(tx, { intent, result }, context.clock.now()))
  return result
}

function newIntent<Kind extends MutationKind>(request: IntentRequest<Kind>, now: Instant, isDuty: boolean): Intent<Kind> {
  const { organizationId, kind, params, audit = null, afterwards = [] } = request
  return {
    id: newId('int'),
    organizationId,
    kind,
    params,
    idempotencyKey: newIdempotencyKey(),
    attempts: 0,
    createdAt: now,
    audit,
    afterwards,
    isDuty,
    inDoubtUntil: new Date(now.getTime() + UNWRITTEN_MS),
  }
}

/** An intent, and what came of it. */
export type FinishedIntent = { readonly intent: Intent; readonly result: MutationResult }

/** Writes that an intent is done with what follows from it beside the mirror; when another has written it already, nothing. */
export async function settleDone(tx: Queryable, { intent, result }: FinishedIntent, now: Instant): Promise<void> {
  const { organizationId, audit } = intent
  if (!(await settleIntent(tx, intent.id, { state: 'succeeded', result }, now))) return
  if (intent.kind === 'create_customer' && organizationId !== null) {
    await linkCustomer(tx, { organizationId, customerId: result.id })
  }
  if (audit !== null) await insertAuditEntry(tx, { ...audit, organizationId, at: now })
  for (const each of intent.afterwards) await insertIntent(tx, newIntent({ ...each, organizationId }, now, true))
}

/** Leaves it at an intent that was not made; what has to be done is asked for under another key, unless it is given up. */
export async function settleNotMade(
  tx: Queryable,
  intent: Intent,
  { now, isGivenUp }: { readonly now: Instant; readonly isGivenUp: boolean },
): Promise<void> {
  await settleIntent(tx, intent.id, { state: 'abandoned' }, now)
  if (intent.isDuty && !isGivenUp) await insertIntent(tx, newIntent(intent, now, true))
}

/** Makes (or repeats) the call of an intent. Writes down that it failed; that it succeeded is written by the caller. */
export async function carryOut<Kind extends MutationKind>(
  context: BillingContext,
  db: Queryable,
  intent: Intent<Kind>,
  priority: CallPriority,
): Promise<MutationResult> {
  const gateway = requireGateway(context)
  const params = withIntentMetadata(intent)
  try {
    return await gateway.perform(intent.kind, params, { idempotencyKey: intent.idempotencyKey, priority })
  } catch (error) {
    const ended = endedAlready(intent, error)
    if (ended !== null) return ended
    // Only Stripe's answer about the wish itself ends it. What is said of this attempt says nothing of one before it, which may have been the
    // library's own: forgotten here, the wish could come true twice.
    if (error instanceof StripeCallError && error.outcome === 'refused') {
      await settleIntent(db, intent.id, { state: 'failed', errorCode: error.code }, context.clock.now())
    } else {
      const isAnswered = error instanceof StripeCallError && error.outcome !== 'unanswered'
      await noteAttempt(db, intent.id, { now: context.clock.now(), inDoubtMs: isAnswered ? 0 : IN_DOUBT_MS })
    }
    throw error
  }
}

/**
 * A cancellation is a DELETE, of which Stripe keeps no key: the repeat of one whose answer was lost finds nothing there, as does
 * one of a subscription that was cancelled elsewhere. Either way what was wished is so.
 */
function endedAlready({ kind, params }: Intent, error: unknown): MutationResult | null {
  if (kind !== 'cancel_subscription' || !('subscriptionId' in params) || !isMissingAtStripe(error)) return null
  return { id: params.subscriptionId, status: 'canceled', url: null, clientSecret: null }
}

/** What carries metadata names its intent, so that it can be found at Stripe after the key has expired. */
function withIntentMetadata<Kind extends MutationKind>(intent: Intent<Kind>): StripeMutations[Kind] {
  const { params } = intent
  if (!('metadata' in params)) return params
  return { ...params, metadata: { ...(params.metadata as Record<string, string>), [INTENT_METADATA]: intent.id } }
}

async function insertIntent(db: Queryable, intent: Intent): Promise<void> {
  await db.query(
    `insert into stripe_intents (organization_id, id, kind, params, idempotency_key, state, created_at, audit, afterwards, is_duty, in_doubt_until)
     values ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9, $10)`,
    [
      intent.organizationId,
      intent.id,
      intent.kind,
      JSON.stringify(intent.params),
      intent.idempotencyKey,
      intent.createdAt,
      intent.audit === null ? null : JSON.stringify(intent.audit),
      intent.afterwards.length === 0 ? null : JSON.stringify(intent.afterwards),
      intent.isDuty,
      intent.inDoubtUntil,
    ],
  )
}

export type Settlement =
  | { readonly state: 'succeeded'; readonly result: MutationResult }
  | { readonly state: 'failed'; readonly errorCode: string }
  | { readonly state: 'abandoned' }

/**
 * Writes the end of an intent; a client secret is for the browser that asked and is not kept. Answers whether it was open until now.
 */
export async function settleIntent(db: Queryable, id: string, settlement: Settlement, now: Instant): Promise<boolean> {
  const kept = settlement.state === 'succeeded' ? { ...settlement.result, clientSecret: null } : null
  const { rowCount } = await db.query(
    `update stripe_intents set state = $2, result = $3, error_code = $4, attempts = attempts + 1, last_attempt_at = $5,
       finished_at = $5, database_finished_at = clock_timestamp() where id = $1 and state = 'pending'`,
    [
      id,
      settlement.state,
      kept === null ? null : JSON.stringify(kept),
      settlement.state === 'failed' ? settlement.errorCode : null,
      now,
    ],
  )
  return rowCount === 1
}

/** What an attempt before this one left in doubt stays so for as long. */
async function noteAttempt(db: Queryable, id: string, { now, inDoubtMs }: { now: Instant; inDoubtMs: number }): Promise<void> {
  await db.query(
    `update stripe_intents set attempts = attempts + 1, last_attempt_at = $2,
       in_doubt_until = case when attempts = 0 then $3 else greatest(in_doubt_until, $3) end where id = $1`,
    [id, now, new Date(now.getTime() + inDoubtMs)],
  )
}

const COLUMNS = `id, organization_id as "organizationId", kind, params, idempotency_key as "idempotencyKey", attempts,
  created_at as "createdAt", audit, coalesce(afterwards, '[]') as afterwards, is_duty as "isDuty",
  coalesce(in_doubt_until, created_at + interval '2 minutes') as "inDoubtUntil"`

/** Intents of an organization whose end is not known, oldest first; null is those of none. */
export async function listPendingIntents(db: Queryable, organizationId: string | null): Promise<Intent[]> {
  const { rows } = await db.query<Intent>(
    `select ${COLUMNS} from stripe_intents where state = 'pending' and organization_id is not distinct from $1 order by created_at, id`,
    [organizationId],
  )
  return rows
}

/**
 * Whose intents nobody has come back for: last tried before `until`, and not in doubt any more. In no order, so that a few that keep failing
 * do not end each run before the others; null stands for those of no organization.
 */
export async function listStranded(
  db: Queryable,
  { until, now, limit }: { until: Instant; now: Instant; limit: number },
): Promise<readonly (string | null)[]> {
  const { rows } = await db.query<{ id: string | null }>(
    `select organization_id as id from stripe_intents
     where state = 'pending' and coalesce(last_attempt_at, created_at) < $1 and coalesce(in_doubt_until, created_at) <= $2
     group by organization_id order by random() limit $3`,
    [until, now, limit],
  )
  return rows.map(({ id }) => id)
}

/** How long the repeat of a request that heard nothing is taken for one. */
const UNHEARD_MS = DAY_MS

/** Changes that are done, but of which whoever asked for them was never told, oldest first. What jobs do by themselves is asked for by nobody. */
export async function listUnheard(db: Queryable, organizationId: string, now: Instant): Promise<FinishedIntent[]> {
  const { rows } = await db.query<Intent & { result: MutationResult }>(
    `select ${COLUMNS}, result from stripe_intents
     where organization_id = $1 and state = 'succeeded' and audit is not null and heard_at is null and created_at > $2
       and audit ->> 'requestId' is not null
     order by created_at, id`,
    [organizationId, new Date(now.getTime() - UNHEARD_MS)],
  )
  return rows.map(({ result, ...intent }) => ({ intent, result }))
}

/** What changes a subscription or what is scheduled of it: what the next change is worked out from. */
const SHAPING: readonly MutationKind[] = [
  'create_subscription',
  'update_subscription',
  'cancel_subscription',
  'pause_subscription',
  'resume_subscription',
  'create_schedule',
  'schedule_switch',
  'schedule_end',
  'release_schedule',
]

/**
 * Whether something was done to a subscription that the mirror has not followed: whoever did it did not live to see to that. Which was first is told by the
 * database's clock; of before it was kept, by those of the servers.
 */
export async function isAheadOfMirror(db: Queryable, organizationId: string, now: Instant): Promise<boolean> {
  const { rowCount } = await db.query(
    `select from stripe_intents intent left join stripe_syncs sync on sync.organization_id = intent.organization_id
     where intent.organization_id = $1 and intent.created_at > $2 and intent.state = 'succeeded' and intent.kind = any($3)
       and case when intent.database_finished_at is null then intent.finished_at > coalesce(sync.synced_at, '-infinity')
         else intent.database_finished_at > coalesce(sync.database_asked_at, '-infinity') end limit 1`,
    [organizationId, new Date(now.getTime() - UNHEARD_MS), SHAPING],
  )
  return rowCount === 1
}

/** Notes that a request for the organization came to its end: a later one is a wish of its own. */
export async function markHeard(tx: Queryable, organizationId: string, now: Instant): Promise<void> {
  await tx.query(
    `update stripe_intents set heard_at = $2
     where organization_id = $1 and state = 'succeeded' and audit is not null and heard_at is null`,
    [organizationId, now],
  )
}

/** Whether the change that was asked for under a key of the caller's is done, and its request came to an end or a later one did. */
export async function isHeard(db: Queryable, organizationId: string, requestKey: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `select from stripe_intents
     where organization_id = $1 and state = 'succeeded' and audit ->> 'requestKey' = $2 and heard_at is not null limit 1`,
    [organizationId, requestKey],
  )
  return rowCount === 1
}

/** What intents of a kind made for an organization since a time, and with what, newest first. */
export async function listMadeSince<Kind extends MutationKind>(
  db: Queryable,
  query: { organizationId: string; kind: Kind; since: Instant },
): Promise<readonly { readonly params: StripeMutations[Kind]; readonly result: MutationResult }[]> {
  const { rows } = await db.query<{ params: StripeMutations[Kind]; result: MutationResult }>(
    `select params, result from stripe_intents
     where organization_id = $1 and created_at >= $3 and kind = $2 and state = 'succeeded' order by created_at desc, id`,
    [query.organizationId, query.kind, query.since],
  )
  return rows
}

/** Deletes up to `limit` intents that came to their end before `before`; answers how many. */
export async function deleteFinishedIntents(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    'delete from stripe_intents where ctid = any(array(select ctid from stripe_intents where finished_at < $1 limit $2))',
    [before, limit],
  )
  return rowCount ?? 0
}

/** With what an object was made by us; null when it was not, or when that is forgotten. */
export async function findParamsThatMade<Kind extends MutationKind>(
  db: Queryable,
  { organizationId, kind, resultId }: { readonly organizationId: string; readonly kind: Kind; readonly resultId: string },
): Promise<StripeMutations[Kind] | null> {
  const { rows } = await db.query<{ params: StripeMutations[Kind] }>(
    `select params from stripe_intents
     where organization_id = $1 and kind = $2 and state = 'succeeded' and result ->> 'id' = $3
     order by created_at desc limit 1`,
    [organizationId, kind, resultId],
  )
  return rows[0]?.params ?? null
}

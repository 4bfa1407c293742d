import type { Queryable } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { HOUR_MS } from '../../lib/period.ts'
import type { BillingContext } from '../context.ts'
import { leaveToOperators } from '../left-to-operators.ts'
import type { Intent } from './intent.ts'
import type { IntentDb } from './intents.ts'

/** For how long what has to follow on a change is asked for anew, under one key after the other: it keeps all else of its organization waiting. */
const DUTY_LIFE_MS = HOUR_MS

/** Since when what an intent has to do is asked for; each key that Stripe answered with its own failure is an intent of its own. */
async function askedSince(db: Queryable, { organizationId, kind, params, createdAt }: Intent): Promise<Instant> {
  const { rows } = await db.query<{ since: Instant | null }>(
    `select min(created_at) as since from stripe_intents
     where organization_id = $1 and kind = $2 and params = $3 and is_duty and state = 'abandoned'
       and created_at > coalesce((
         select max(done.created_at) from stripe_intents done
         where done.organization_id = $1 and done.kind = $2 and done.params = $3 and done.state = 'succeeded'), '-infinity')`,
    [organizationId, kind, JSON.stringify(params)],
  )
  return rows[0]?.since ?? createdAt
}

/** Whether what has to follow on a change was asked for so long that it is not asked for again. */
export async function isHopeless(db: Queryable, intent: Intent, now: Instant): Promise<boolean> {
  return intent.isDuty && now.getTime() - (await askedSince(db, intent)).getTime() >= DUTY_LIFE_MS
}

/** Of what a call speaks; what else is in it may be of people. */
const IDS = ['subscriptionId', 'scheduleId', 'invoiceId', 'customerId'] as const

/** Tells operators that it is not known, or not so, what was wished: nobody asks Stripe for it any more. */
export async function tellGivenUp(
  context: BillingContext,
  session: IntentDb,
  { id, organizationId, kind, params, isDuty }: Intent,
  error?: unknown,
): Promise<void> {
  const named: Readonly<Record<string, unknown>> = params
  const target = IDS.map((each) => named[each]).find((value) => typeof value === 'string') ?? id
  const words = isDuty
    ? 'what has to follow on a change was not carried out by Stripe, and is not asked for any more'
    : 'what became of a call to Stripe could not be found out for as long as Stripe keeps its key'
  // What belongs to no organization has no timeline.
  if (organizationId === null) {
    context.log.error({ event: 'billing.stripe_call_given_up', intent_id: id, call: kind, err: error }, words)
    return
  }
  const data = { intent_id: id, call: kind, target, outcome: error === undefined ? 'not_made' : 'unknown' }
  await leaveToOperators(
    { context, session, organizationId },
    { kind: 'stripe_call.given_up', about: id, target, data, words, error },
  )
}

import type { Queryable } from '../db/database.ts'
import type { GrantsContext } from '../grants/actions.ts'
import { timeOf } from '../grants/actions.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS } from '../lib/period.ts'
import type { Log } from '../stripe/log.ts'
import { readStanding, type AccountStanding } from './actions.ts'

export type GateContext = GrantsContext & { readonly db: Queryable; readonly log: Log }

/** What somebody wants to do that only trial and subscription permit. */
export type GateRequest = {
  readonly organizationId: string
  /** In words, for the sentence: `ingestion`. */
  readonly activity: string
  /** Whom it is for, for the log; null where the host does not say. */
  readonly workspaceId: string | null
  readonly user: string | null
  readonly requestId: string
}

export type GateAnswer = {
  readonly allowed: boolean
  /** MR-12's word: an operator's override before Stripe's status; `none` without a subscription. */
  readonly billingStatus: string
  /** Why not, as the answer of 402 says it; null when allowed. */
  readonly detail: string | null
  /** Until when it is allowed, where that is known. */
  readonly until: Instant | null
}

/**
 * MR-13: permits what is for those who try or pay: `trialing` before its trial ends, `active` before the subscription expires.
 * A payment that failed does not, even within its grace. A refusal is logged as `billing.blocked`.
 * @throws DomainError `not_found`
 */
export async function passGate(context: GateContext, request: GateRequest): Promise<GateAnswer> {
  const found = await readStanding(context.db, context, request.organizationId)
  if (found === null) throw new DomainError('not_found', 'There is no such organization.')
  const now = timeOf(found.account, context.clock.now())
  const { billingStatus } = found
  if (mayPass(found, context.graceDays, now)) return { allowed: true, billingStatus, detail: null, until: found.standing.until }
  const detail = `Workspace billing status '${billingStatus}' does not permit ${request.activity}.`
  context.log.warn(
    {
      event: 'billing.blocked',
      organization_id: request.organizationId,
      workspace_id: request.workspaceId ?? request.organizationId,
      user: request.user,
      activity: request.activity,
      billing_status: billingStatus,
      reason: found.standing.reason,
      request_id: request.requestId,
    },
    detail,
  )
  return { allowed: false, billingStatus, detail, until: null }
}

/**
 * A trial ends on the minute. A paid period that our clock has seen end while Stripe still says `active` is most likely renewed
 * and not yet heard of: it counts for as long as a failed payment would be waited for, unless an operator named the end.
 */
function mayPass({ standing, override }: AccountStanding, graceDays: number, now: Instant): boolean {
  const { state, until } = standing
  if (state === 'trialing') return until === null || now < until
  if (state !== 'active') return false
  if (until === null || (override?.expiresAt ?? null) !== null) return until === null || now < until
  return now.getTime() < until.getTime() + graceDays * DAY_MS
}

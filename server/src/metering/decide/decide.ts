import { meterOf, planGrantOf, type PlanGrant, type PlanTerms } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import type { UsageAnswer, UsageRequest } from '../usage.ts'
import { correct } from './correcting.ts'
import type { Decision, DecisionInput, Outcome } from './decision.ts'
import { check, record, repeatedAnswer } from './recording.ts'
import { expireReservations, release, reserve, settle } from './reserving.ts'
import { rollupsOf } from './rollups.ts'
import { DecisionSession } from './session.ts'

/**
 * Decides requests in their order, each seeing what the ones before it took. Pure: it only says what is to be written.
 * What a caller got wrong is that request's own error and touches no other.
 */
export function decide(input: DecisionInput): Decision {
  const session = new DecisionSession(input)
  expireReservations(session)
  const outcomes = input.requests.map((request) => outcomeOf(session, request))
  const { hourly, grouped } = rollupsOf(session.events, session.rollupTerms)
  return {
    outcomes,
    events: session.events,
    grantChanges: session.grantChanges,
    lateChanges: session.lateChanges,
    hourlyChanges: hourly,
    groupedChanges: grouped,
    newReservations: session.newReservations,
    closedReservations: session.closedReservations,
    corrections: [...session.corrections.values()],
    readings: session.readings.changed,
    newValues: session.readings.newValues,
    goneValues: session.readings.goneValues,
    windows: session.windows.changed,
    notices: session.notices,
    lowBalances: session.lowBalances,
  }
}

function outcomeOf(session: DecisionSession, request: UsageRequest): Outcome {
  try {
    return { kind: 'answer', answer: decideOne(session, request) }
  } catch (error) {
    if (error instanceof DomainError) return { kind: 'error', error }
    throw error
  }
}

function decideOne(session: DecisionSession, request: UsageRequest): UsageAnswer {
  switch (request.verb) {
    case 'check':
      return check(session, request)
    case 'track':
    case 'consume':
      return repeatedAnswer(session, request) ?? record(session, request)
    case 'reserve':
      return repeatedAnswer(session, request) ?? reserve(session, request)
    case 'correct':
      return repeatedAnswer(session, request) ?? correct(session, request)
    case 'settle':
      return settle(session, request)
    case 'release':
      return release(session, request)
  }
}

/** The plan allowances that the meters draw from now; each is opened, or given the plan's present terms, before `decide`. */
export function planGrantsNeeded(terms: PlanTerms, now: Instant, meterKeys: Iterable<string>): PlanGrant[] {
  const needed = new Map<string, PlanGrant>()
  for (const meterKey of meterKeys) {
    const balanceKey = meterOf(terms, meterKey)?.balanceKey
    if (balanceKey !== undefined && !needed.has(balanceKey)) needed.set(balanceKey, planGrantOf(terms, balanceKey, now))
  }
  return [...needed.values()]
}

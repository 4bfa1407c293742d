import pg from 'pg'
import { asSystem } from '../db/scope.ts'
import type { GrantsContext } from '../grants/actions.ts'
import { AccountsChanged } from '../grants/known-accounts.ts'
import { DomainError } from '../lib/errors.ts'
import { isCarried } from './decide/carried.ts'
import type { Outcome } from './decide/decision.ts'
import { tooMuch } from './decide/session.ts'
import { decideChecks } from './reads.ts'
import type { CheckRequest, UsageAnswer, UsageRequest } from './usage.ts'
import { createBatcher, type FailurePlan } from './write/batcher.ts'
import { commitUsage } from './write/commit.ts'
import { KeyLooks, KeysWanted } from './write/key-looks.ts'
import type { UsageConnections } from './write/pipeline.ts'
import { isRepeatedKey } from './write/store.ts'

export type MeteringOptions = GrantsContext & {
  readonly connections: UsageConnections
  /** Requests that may wait for the next group; beyond it callers get `overloaded`. Default 10,000. */
  readonly queueSize?: number
  /** Called for every request that failed by itself, which is a fault of ours. */
  readonly onFault?: (error: unknown) => void
  /** Called with what was decided, after it was committed. */
  readonly onAnswers?: (outcomes: readonly Outcome[]) => void
}

/** Metering as the rest of the server sees it: requests in, answers out. */
export type Metering = {
  /**
   * Decides and stores requests, in order and together with what else arrives; an answer means that it is durable.
   * @throws DomainError `overloaded`, `stopping`, `database_unavailable`; all of them safe to repeat with the same keys
   */
  submit(requests: readonly UsageRequest[]): Promise<readonly Outcome[]>
  /**
   * The answer of one request.
   * @throws DomainError what the caller got wrong
   */
  ask(request: UsageRequest): Promise<UsageAnswer>
  pending(): number
  stop(): Promise<void>
}

// Groups of about 500 carry the most per second. A second one is sent while the first is committed, once as much waits again.
// All organizations share them: in two lanes of their own (so that groups of different lanes never wait for each other's locks) groups
// were a quarter as large, and over 10,000 organizations a use cost this process 48 µs instead of 37, PostgreSQL 65 instead of 52.
const GROUP_SIZE = 500
const FLUSHES = 2
const READS = 2
const QUEUE_SIZE = 10_000
// 25 + 50 + … + 400 ms: long enough for a failover of a connection, short enough that callers still listen.
const ATTEMPTS = 6
const FIRST_RETRY_MS = 25
// Where each attempt waits for an answer that does not come, callers are told sooner: a single one more, which may find the successor.
const PATIENCE_MS = 5_000

// Deadlock, serialization failure: the same again is the cure. https://www.postgresql.org/docs/current/errcodes-appendix.html
// So it is for a statement that was prepared before a migration changed its tables.
const TRANSIENT = new Set(['40P01', '40001', '0A000', '26000'])
// A row that its table must not have; without the name of a check it is one whose partition was made meanwhile (partitions.ts).
const NOT_ALLOWED = '23514'
// A sum that its column cannot hold.
const OUT_OF_RANGE = '22003'
// Lock or statement timeout: one organization is held by somebody; its neighbours need not wait for it.
const TIMED_OUT = new Set(['55P03', '57014'])

export function createMetering(options: MeteringOptions): Metering {
  const { connections, queueSize = QUEUE_SIZE } = options
  const looks = new KeyLooks()
  const commit = (requests: readonly UsageRequest[], looksForKeys: boolean): Promise<readonly Outcome[]> =>
    // A group spans organizations, whoever's request began it.
    asSystem(() => connections.transaction((tx) => commitUsage(tx, options, requests, { looksForKeys })))

  async function carryOut(requests: readonly UsageRequest[]): Promise<readonly Outcome[]> {
    // At the turn of a period several servers carry the same levels: they would wait for each other's keys and locks in a circle.
    if (!looks.wanted && !requests.some(isCarried)) {
      try {
        return await commit(requests, false)
      } catch (error) {
        if (!(error instanceof KeysWanted || isRepeatedKey(error))) throw error
        looks.needed()
      }
    }
    const outcomes = await commit(requests, true)
    looks.learn(requests, outcomes)
    return outcomes
  }

  const shared = {
    groupSize: GROUP_SIZE,
    queueSize,
    onFailure: planFailure,
    answerFailure: (error: unknown): Outcome => ({ kind: 'error', error: faultOf(error, options.onFault) }),
  }
  const uses = createBatcher<UsageRequest, Outcome>({
    ...shared,
    flushes: FLUSHES,
    async flush(requests) {
      const outcomes = await carryOut(requests)
      options.onAnswers?.(outcomes)
      return outcomes
    },
  })
  const checks = createBatcher<CheckRequest, Outcome>({
    ...shared,
    flushes: READS,
    flush: (requests) => asSystem(() => connections.read((client) => decideChecks(client, options, requests))),
  })

  function submit(requests: readonly UsageRequest[]): Promise<readonly Outcome[]> {
    if (requests.length === 0) return Promise.resolve([])
    return requests.every(isCheck) ? checks.submit(requests) : uses.submit(requests)
  }

  return {
    submit,
    async ask(request) {
      const [outcome] = await submit([request])
      if (outcome!.kind === 'error') throw outcome!.error
      return outcome!.answer
    },
    pending: () => uses.pending() + checks.pending(),
    async stop() {
      await Promise.all([uses.stop(), checks.stop()])
    },
  }
}

function isCheck(request: UsageRequest): request is CheckRequest {
  return request.verb === 'check'
}

function planFailure(error: unknown, attempt: number, passedMs: number): FailurePlan {
  const away = error instanceof DomainError && error.code === 'database_unavailable'
  if (error instanceof AccountsChanged && attempt < ATTEMPTS) return { kind: 'retry', afterMs: 0 }
  // A commit whose outcome is unknown is found again by its keys, so the same group may simply be tried again.
  const isLeft = attempt < ATTEMPTS && (attempt === 1 || passedMs < PATIENCE_MS)
  if ((away || TRANSIENT.has(codeOf(error)) || isPartitioned(error)) && isLeft) {
    return { kind: 'retry', afterMs: FIRST_RETRY_MS * 2 ** (attempt - 1) }
  }
  return away ? { kind: 'fail' } : { kind: 'split' }
}

/** Whether a row went to the default partition while its own was made: the same again goes there. */
function isPartitioned(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === NOT_ALLOWED && error.constraint === undefined
}

function faultOf(error: unknown, onFault: ((error: unknown) => void) | undefined): Error {
  if (TIMED_OUT.has(codeOf(error))) {
    return new DomainError('overloaded', 'The organization is busy; try again shortly.', {}, { cause: error })
  }
  if (codeOf(error) === OUT_OF_RANGE) return tooMuch(undefined, error)
  onFault?.(error)
  return error instanceof Error ? error : new Error(String(error))
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

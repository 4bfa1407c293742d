/** A problem document (RFC 9457) as Tollgate answers it; further fields depend on the code. */
export type Problem = {
  readonly title: string
  /** What went wrong, as a stable word, e.g. `unknown_meter`. */
  readonly code: string
  /** What went wrong, as a sentence. */
  readonly detail?: string
  readonly request_id?: string
  readonly [field: string]: unknown
}

/** The server answered, and the answer was no. */
export class TollgateError extends Error {
  readonly status: number
  readonly code: string
  readonly problem: Problem

  constructor(status: number, problem: Problem) {
    super(problem.detail ?? problem.title)
    this.name = 'TollgateError'
    this.status = status
    this.code = problem.code
    this.problem = problem
  }
}

/** No answer arrived. The call may have been carried out: repeat it with the same idempotency key to find out. */
export class TollgateUnreachableError extends Error {
  /** False where no connection came about, so that the server cannot have seen the call. */
  readonly mayHaveArrived: boolean

  constructor(message: string, { mayHaveArrived = true, ...options }: ErrorOptions & { mayHaveArrived?: boolean } = {}) {
    super(message, options)
    this.name = 'TollgateUnreachableError'
    this.mayHaveArrived = mayHaveArrived
  }
}

/** The code by which it is told that Tollgate is away. */
export const UNREACHABLE = 'tollgate_unreachable'

/** Whether Tollgate is away: no answer came, or one that says "not now". The same may be asked again, under the same key. */
export function isAway(error: unknown): boolean {
  if (error instanceof TollgateUnreachableError) return true
  return error instanceof TollgateError && isPassing(error.status)
}

/** Whether a use that failed so may be counted later: Tollgate is away, or does not know our key any more, which somebody mends. */
export function isStillToCount(error: unknown): boolean {
  return isAway(error) || (error instanceof TollgateError && (error.status === 401 || error.status === 403))
}

/** Statuses that say nothing of what was asked: too much at once, or a failure of the server or of what stands before it. */
export function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status >= 500
}

/** What an item's problem says, as the error that it would have been alone. */
export function errorOf(problem: Problem): TollgateError {
  return new TollgateError(statusOf(problem), problem)
}

/** The status of an item's problem; of one that names none, that of a request that is wrong in itself. */
export function statusOf(problem: Problem): number {
  return typeof problem['status'] === 'number' ? problem['status'] : 422
}

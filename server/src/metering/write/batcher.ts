import { DomainError } from '../../lib/errors.ts'

export type BatcherOptions<Request, Answer> = {
  /** Carries a group out and answers each request, in order. May be called again with a part of a group that failed. */
  readonly flush: (requests: readonly Request[]) => Promise<readonly Answer[]>
  /** How many requests a group holds at most; a submission is never split, so a group may be larger by one submission. */
  readonly groupSize: number
  /** How many groups are carried out at once. */
  readonly flushes: number
  /** How many requests may wait; beyond it submissions are refused. */
  readonly queueSize: number
  /** What whoever is refused then is told; default: that too many uses wait. */
  readonly whenFull?: string
  /** What to do about a group that failed for the so-manieth time, so long after it was first tried. */
  readonly onFailure: (error: unknown, attempt: number, passedMs: number) => FailurePlan
  /** The answer of a request that failed by itself. */
  readonly answerFailure: (error: unknown) => Answer
}

/** `retry` runs the same group again, `split` halves it to find the request at fault, `fail` rejects every submission. */
export type FailurePlan =
  | { readonly kind: 'retry'; readonly afterMs: number }
  | { readonly kind: 'split' }
  | { readonly kind: 'fail' }

export type Batcher<Request, Answer> = {
  /**
   * Queues requests, which are carried out together and in order.
   * @throws DomainError `overloaded` when too many wait, `stopping` after `stop`; whatever the group failed with
   */
  submit(requests: readonly Request[]): Promise<readonly Answer[]>
  /** How many requests wait or are being carried out. */
  pending(): number
  /** Refuses what comes from now on, and resolves when everything accepted is answered. */
  stop(): Promise<void>
}

type Submission<Request, Answer> = {
  readonly requests: readonly Request[]
  readonly resolve: (answers: readonly Answer[]) => void
  readonly reject: (error: unknown) => void
}

/**
 * Group commit: requests that arrive while a group is on its way form the next one, so a group grows with the load and no
 * request waits for a timer.
 */
export function createBatcher<Request, Answer>(options: BatcherOptions<Request, Answer>): Batcher<Request, Answer> {
  let queue: Submission<Request, Answer>[] = []
  let waiting = 0
  let carried = 0
  let running = 0
  let stopping = false
  let scheduled = false
  let drained: (() => void) | undefined

  function takeGroup(): Submission<Request, Answer>[] {
    let size = 0
    let count = 0
    while (count < queue.length && (count === 0 || size + queue[count]!.requests.length <= options.groupSize)) {
      size += queue[count]!.requests.length
      count += 1
    }
    const group = queue.slice(0, count)
    queue = queue.slice(count)
    waiting -= size
    carried += size
    return group
  }

  function start(): void {
    scheduled = false
    while (running < options.flushes && queue.length > 0 && (running === 0 || waiting >= carried)) {
      running += 1
      const group = takeGroup()
      void carryOut(group).finally(() => {
        running -= 1
        carried -= group.reduce((sum, submission) => sum + submission.requests.length, 0)
        if (queue.length > 0) start()
        else if (running === 0) drained?.()
      })
    }
  }

  async function carryOut(group: readonly Submission<Request, Answer>[]): Promise<void> {
    try {
      const answers = await settle(group.flatMap((submission) => submission.requests))
      let from = 0
      for (const { requests, resolve } of group) resolve(answers.slice(from, (from += requests.length)))
    } catch (error) {
      for (const { reject } of group) reject(error)
    }
  }

  async function settle(requests: readonly Request[]): Promise<readonly Answer[]> {
    const began = performance.now()
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await options.flush(requests)
      } catch (error) {
        const plan = options.onFailure(error, attempt, performance.now() - began)
        if (plan.kind === 'fail') throw error
        if (plan.kind === 'split') return settleApart(requests, error)
        await new Promise((resolve) => setTimeout(resolve, plan.afterMs))
      }
    }
  }

  /** Halves a group until the request at fault stands alone: its neighbours are answered as if it had not been there. */
  async function settleApart(requests: readonly Request[], error: unknown): Promise<readonly Answer[]> {
    if (requests.length === 1) return [options.answerFailure(error)]
    const middle = Math.ceil(requests.length / 2)
    const first = await settle(requests.slice(0, middle))
    return [...first, ...(await settle(requests.slice(middle)))]
  }

  return {
    submit(requests) {
      if (stopping)
        return Promise.reject(new DomainError('stopping', 'The server is stopping; ask another or try again shortly.'))
      if (waiting + requests.length > options.queueSize) {
        return Promise.reject(
          new DomainError('overloaded', options.whenFull ?? 'Too many uses wait to be counted; try again shortly.'),
        )
      }
      return new Promise((resolve, reject) => {
        queue.push({ requests, resolve, reject })
        waiting += requests.length
        if (scheduled || running >= options.flushes || (running > 0 && waiting < carried)) return
        scheduled = true
        // What arrives in the same turn of the event loop goes into the same group.
        setImmediate(start)
      })
    },
    pending: () => waiting + carried,
    async stop() {
      stopping = true
      if (waiting + carried === 0) return
      await new Promise<void>((resolve) => {
        drained = resolve
      })
    },
  }
}

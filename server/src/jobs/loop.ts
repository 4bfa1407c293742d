import { setTimeout as delay } from 'node:timers/promises'

/** Work that goes on in the background for as long as the server runs. */
export type Loop = {
  /** Says that there is something to do now. */
  kick(): void
  /** Starts nothing more, and waits for what is under way. */
  stop(): Promise<void>
}

export type LoopOptions = {
  /** Does what is due and answers how much that was; 0 lets the loop rest until the next look. What takes long may end early once `stopping`. */
  readonly run: (stopping: AbortSignal) => Promise<number>
  /** How long it rests, in milliseconds of the machine. */
  readonly pollMs: number
  readonly onFailure: (error: unknown) => void
}

const AFTER_FAILURE_MS = 2_000

/** Runs `run` again and again: at once while there is something to do, else after a rest. A failure never ends it. */
export function startLoop({ run, pollMs, onFailure }: LoopOptions): Loop {
  const stopping = new AbortController()
  let kicked = false
  let wake = (): void => undefined

  async function rest(ms: number): Promise<void> {
    if (kicked) return
    const timer = new AbortController()
    wake = () => timer.abort()
    await delay(ms, undefined, { signal: AbortSignal.any([timer.signal, stopping.signal]) }).catch(() => undefined)
  }

  async function runOnce(): Promise<number | null> {
    try {
      return await run(stopping.signal)
    } catch (error) {
      onFailure(error)
      return null
    }
  }

  async function work(): Promise<void> {
    while (!stopping.signal.aborted) {
      kicked = false
      const done = await runOnce()
      if (done === null) await rest(AFTER_FAILURE_MS)
      else if (done === 0) await rest(pollMs)
    }
  }

  const working = work()
  return {
    kick() {
      kicked = true
      wake()
    },
    async stop() {
      stopping.abort()
      await working
    },
  }
}

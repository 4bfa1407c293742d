import { DomainError } from '../lib/errors.ts'

/**
 * Lets work of one key run one at a time within this process, and of all keys only a few at once: waiting here costs no
 * database connection, while waiting for an advisory lock does, and connections belong to the hot path.
 */
export type LockGate = {
  /** Resolves with the function that opens the gate again. */
  enter(key: string): Promise<() => void>
  /** The same without waiting; null when somebody of this process is inside, or all places are taken. */
  tryEnter(key: string): (() => void) | null
}

const MOST_WAITING = 500

export function createLockGate(places: number): LockGate {
  const inside = new Set<string>()
  const waiting: { key: string; enter: () => void }[] = []

  function leave(key: string): void {
    inside.delete(key)
    while (inside.size < places) {
      const index = waiting.findIndex((waiter) => !inside.has(waiter.key))
      if (index < 0) return
      const [next] = waiting.splice(index, 1)
      inside.add(next!.key)
      next!.enter()
    }
  }

  function tryEnter(key: string): (() => void) | null {
    if (inside.size >= places || inside.has(key)) return null
    inside.add(key)
    return () => leave(key)
  }

  return {
    tryEnter,
    async enter(key) {
      const entered = tryEnter(key)
      if (entered !== null) return entered
      if (waiting.length >= MOST_WAITING) {
        throw new DomainError('overloaded', 'Too many changes of subscriptions are waiting; please try again shortly.')
      }
      await new Promise<void>((enter) => {
        waiting.push({ key, enter })
      })
      return () => leave(key)
    },
  }
}

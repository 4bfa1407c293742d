import { DomainError } from '../../lib/errors.ts'

/**
 * Lets work of one key run one at a time within this process, and of all keys only a few at once: waiting here costs no
 * database connection, while waiting for an advisory lock does, and connections belong to the hot path.
 */
export type LockGate = {
  /** Resolves with the function that opens the gate again. */
  enter(key: string): Promise<() => void>
  /** The same without waiting; null when somebody of this process is inside, or all places are taken. */
  tryEnter(key: string): (() => void) | null
  /** Several keys at one place: those that are free; null when no place or no key is. Each is left by itself, the place with the last. */
  tryEnterAll(keys: readonly string[]): { readonly keys: readonly string[]; leave(key: string): void } | null
}

const MOST_WAITING = 500

export function createLockGate(places: number): LockGate {
  const inside = new Set<string>()
  let taken = 0
  const waiting: { key: string; enter: () => void }[] = []

  function admit(): void {
    while (taken < places) {
      const index = waiting.findIndex((waiter) => !inside.has(waiter.key))
      if (index < 0) return
      const [next] = waiting.splice(index, 1)
      taken += 1
      inside.add(next!.key)
      next!.enter()
    }
  }

  function tryEnterAll(keys: readonly string[]) {
    const free = new Set(keys.filter((key) => !inside.has(key)))
    if (taken >= places || free.size === 0) return null
    taken += 1
    for (const key of free) inside.add(key)
    const held = new Set(free)
    return {
      keys: [...free],
      leave(key: string) {
        if (!held.delete(key)) return
        inside.delete(key)
        if (held.size === 0) taken -= 1
        admit()
      },
    }
  }

  function tryEnter(key: string): (() => void) | null {
    const entered = tryEnterAll([key])
    return entered && (() => entered.leave(key))
  }

  function leave(key: string): void {
    inside.delete(key)
    taken -= 1
    admit()
  }

  return {
    tryEnter,
    tryEnterAll,
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

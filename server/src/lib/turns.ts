import { DomainError } from './errors.ts'

/** Lets a few pieces of work run at once; who waits takes turns by who asks. */
export type Turns = {
  /** @throws DomainError `overloaded` when the asker waits for as much as it may; what `work` throws */
  take<Result>(asker: string, work: () => Promise<Result>): Promise<Result>
}

export type TurnsOptions = {
  readonly atOnce: number
  /** How much of one asker may wait. */
  readonly mostWaiting: number
}

/**
 * Whoever asks for much waits for themselves: each asker who waits gets one turn before any gets another.
 */
export function createTurns({ atOnce, mostWaiting }: TurnsOptions): Turns {
  /** In the order of their turns. */
  const waiting = new Map<string, (() => void)[]>()
  let running = 0

  function next(): void {
    const [first] = waiting
    if (running >= atOnce || first === undefined) return
    const [asker, own] = first
    const begin = own.shift()!
    // The next turn of the same asker comes after those of all others.
    waiting.delete(asker)
    if (own.length > 0) waiting.set(asker, own)
    running += 1
    begin()
  }

  return {
    async take(asker, work) {
      const own = waiting.get(asker) ?? []
      if (own.length >= mostWaiting)
        throw new DomainError('overloaded', 'Too much of this is asked for at once; try again shortly.')
      await new Promise<void>((resolve) => {
        own.push(resolve)
        waiting.set(asker, own)
        next()
      })
      try {
        return await work()
      } finally {
        running -= 1
        next()
      }
    },
  }
}

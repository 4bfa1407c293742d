import type { UsageInput } from './usage.ts'

/** A use that was let through while the server was away. */
export type QueuedUse = UsageInput & {
  readonly idempotencyKey: string
  /** When it happened. */
  readonly occurredAt?: Date | string
  /** How it was sent at first, to an answer that never came; left out where it was not sent. */
  readonly sentAs?: { readonly verb: 'consume' | 'track'; readonly occurredAt?: Date | string }
}

/** A use that could not be counted and is not tried any more: somebody looks at it. */
export type ParkedUse = QueuedUse & {
  readonly parked: { readonly at: string; readonly tries: number; readonly status: number; readonly error: string }
}

/** Where such uses wait. `append` resolves when the use is as safe as this queue can make it. */
export type LocalQueue = {
  /** One that was parked waits again. */
  append(use: QueuedUse): Promise<void>
  /** In the order in which they were appended, without those that are parked. */
  list(): Promise<readonly QueuedUse[]>
  /** Forgets one that waits, or is parked. */
  remove(idempotencyKey: string): Promise<void>
  /** Puts one aside, where it is kept. */
  park(use: ParkedUse): Promise<void>
  parked(): Promise<readonly ParkedUse[]>
}

/** A queue that ends with its process: for Workers, which have no files. */
export function createMemoryQueue(): LocalQueue {
  const uses = new Map<string, QueuedUse>()
  const parked = new Map<string, ParkedUse>()
  return {
    async append(use) {
      parked.delete(use.idempotencyKey)
      uses.set(use.idempotencyKey, use)
    },
    list: async () => [...uses.values()],
    async remove(idempotencyKey) {
      uses.delete(idempotencyKey)
      parked.delete(idempotencyKey)
    },
    async park(use) {
      uses.delete(use.idempotencyKey)
      parked.set(use.idempotencyKey, use)
    },
    parked: async () => [...parked.values()],
  }
}

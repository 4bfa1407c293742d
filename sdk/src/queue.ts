import type { UsageInput } from './usage.ts'

/** A use that was let through while the server was away. */
export type QueuedUse = UsageInput & {
  readonly idempotencyKey: string
  /** When it happened. */
  readonly occurredAt?: Date | string
  /** How it was sent at first, to an answer that never came; left out where it was not sent. */
  readonly sentAs?: { readonly verb: 'consume' | 'track'; readonly occurredAt?: Date | string }
}

/** Where such uses wait. `append` resolves when the use is as safe as this queue can make it. */
export type LocalQueue = {
  append(use: QueuedUse): Promise<void>
  /** In the order in which they were appended. */
  list(): Promise<readonly QueuedUse[]>
  remove(idempotencyKey: string): Promise<void>
}

/** A queue that ends with its process: for Workers, which have no files. */
export function createMemoryQueue(): LocalQueue {
  const uses = new Map<string, QueuedUse>()
  return {
    append: async (use) => void uses.set(use.idempotencyKey, use),
    list: async () => [...uses.values()],
    remove: async (idempotencyKey) => void uses.delete(idempotencyKey),
  }
}

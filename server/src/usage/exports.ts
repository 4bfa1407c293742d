import type { Db } from '../db/database.ts'
import { streamRows, type RowStreamOptions } from '../db/row-stream.ts'
import { DomainError } from '../lib/errors.ts'

/** Streams of rows that this process has open, each of which holds a connection. */
export type Exports = {
  /**
   * @throws DomainError `overloaded` when as many are open as may be
   */
  open<Row extends object>(options: Omit<RowStreamOptions<Row>, 'signal'>): Promise<ReadableStream<Uint8Array>>
  /** How many are open. */
  running(): number
  /** Breaks off what is open; resolves when their connections are given back. */
  stop(): Promise<void>
}

const MOST_AT_ONCE = 4

export function createExports(db: Pick<Db, 'transaction'>, mostAtOnce = MOST_AT_ONCE): Exports {
  const stopping = new AbortController()
  const running = new Set<Promise<unknown>>()
  const counted: Pick<Db, 'transaction'> = {
    async transaction(work) {
      if (running.size >= mostAtOnce) {
        throw new DomainError('overloaded', `At most ${mostAtOnce} exports run at once; try again when one has ended.`)
      }
      const run = db.transaction(work)
      running.add(run)
      try {
        return await run
      } finally {
        running.delete(run)
      }
    },
  }
  return {
    open: (options) => streamRows(counted, { ...options, signal: stopping.signal }),
    running: () => running.size,
    async stop() {
      stopping.abort()
      await Promise.allSettled(running)
    },
  }
}

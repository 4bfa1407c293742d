import type { Db } from '../db/database.ts'
import { streamRows, type RowStreamOptions } from '../db/row-stream.ts'
import { DomainError } from '../lib/errors.ts'
import { MINUTE_MS } from '../lib/period.ts'

/** Streams of rows that this process has open, each of which holds a connection. */
export type Exports = {
  /**
   * @throws DomainError `overloaded` when as many are open as may be, of this organization or of all
   */
  open<Row extends object>(
    organizationId: string,
    options: Omit<RowStreamOptions<Row>, 'signal' | 'longestMs'>,
  ): Promise<ReadableStream<Uint8Array>>
  /** How many are open. */
  running(): number
  /** Breaks off what is open; resolves when their connections are given back. */
  stop(): Promise<void>
}

export type ExportLimits = {
  readonly atOnce?: number
  /** Of one organization, so that none keeps the others out. */
  readonly ofOneAtOnce?: number
  /** What is not read in this time is broken off, however steadily it is read. */
  readonly longestMs?: number
}

const AT_ONCE = 4
const OF_ONE_AT_ONCE = 2
const LONGEST_MS = 30 * MINUTE_MS

export function createExports(
  db: Pick<Db, 'transaction'>,
  { atOnce = AT_ONCE, ofOneAtOnce = OF_ONE_AT_ONCE, longestMs = LONGEST_MS }: ExportLimits = {},
): Exports {
  const stopping = new AbortController()
  /** Whose each is. */
  const running = new Map<Promise<unknown>, string>()
  function countedFor(organizationId: string): Pick<Db, 'transaction'> {
    return {
      async transaction(work) {
        const own = [...running.values()].filter((owner) => owner === organizationId).length
        if (own >= ofOneAtOnce || running.size >= atOnce) {
          const most = own >= ofOneAtOnce ? `${ofOneAtOnce} exports of an organization` : `${atOnce} exports`
          throw new DomainError('overloaded', `At most ${most} run at once; try again when one has ended.`)
        }
        const run = db.transaction(work)
        running.set(run, organizationId)
        try {
          return await run
        } finally {
          running.delete(run)
        }
      },
    }
  }
  return {
    open: (organizationId, options) => streamRows(countedFor(organizationId), { ...options, signal: stopping.signal, longestMs }),
    running: () => running.size,
    async stop() {
      stopping.abort()
      await Promise.allSettled(running.keys())
    },
  }
}

import pg from 'pg'
import { DomainError } from '../lib/errors.ts'
import type { Db, Transaction } from './database.ts'

export type Statement = { readonly text: string; readonly values: readonly unknown[] }

export type RowStreamOptions<Row> = {
  readonly statement: Statement
  /** What comes before the first row. */
  readonly head: string
  readonly textOf: (row: Row) => string
  /** Ends the stream before its end, e.g. when the server stops. */
  readonly signal: AbortSignal
  /** How long a reader may leave off before its connection is taken from it; default 60 s. */
  readonly idleMs?: number
  /** How long it may take in all, however steadily it is read: it holds a connection and a snapshot. Without it, as long as it takes. */
  readonly longestMs?: number
  readonly rowsAtOnce?: number
}

const IDLE_MS = 60_000
const ROWS_AT_ONCE = 1_000
const CHUNK_BYTES = 64 * 1_024

/**
 * The rows of a statement as a stream of text, read through a cursor of the database: one snapshot, the text of a thousand rows in
 * memory at a time, as fast as its reader reads. Each row becomes bytes as it arrives and is garbage before the next
 * (docs/decisions/0135-exports-keep-no-row.md). The connection is given back at the end, and when the reader leaves, leaves off, or
 * fails.
 * Resolves when the first rows are there, so that what is wrong until then is an answer and not a broken stream.
 * @throws DomainError `database_unavailable`, `stopping`
 */
export function streamRows<Row extends object>(
  db: Pick<Db, 'transaction'>,
  options: RowStreamOptions<Row>,
): Promise<ReadableStream<Uint8Array>> {
  const { promise, resolve, reject } = Promise.withResolvers<ReadableStream<Uint8Array>>()
  const { signal, longestMs } = options
  const over = longestMs === undefined ? null : AbortSignal.timeout(longestMs)
  const reader = createDemand({ ...options, over, signal: over === null ? signal : AbortSignal.any([signal, over]) })
  void db
    .transaction(async (tx) => {
      const { text, values } = options.statement
      await tx.query(`declare rows no scroll cursor for ${text}`, [...values])
      reader.write(options.head)
      const fetch = `fetch ${options.rowsAtOnce ?? ROWS_AT_ONCE} from rows`
      const writeRows = () => eachRow<Row>(tx, fetch, (row) => reader.write(options.textOf(row)))
      let found = await writeRows()
      resolve(reader.stream)
      reader.flush()
      while (found > 0 && (await reader.wantsMore())) {
        found = await writeRows()
        reader.flush()
      }
      reader.close()
    })
    .catch((error: unknown) => {
      reader.fail(error)
      reject(error instanceof Error ? error : new Error(String(error)))
    })
  return promise
}

/** Hands over the rows of a statement as they arrive, and keeps none; answers how many there were. */
function eachRow<Row extends object>(tx: Transaction, text: string, onRow: (row: Row) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    const query = new pg.Query<Row>(text)
    let count = 0
    let failed: { readonly error: unknown } | null = null
    query.on('row', (row) => {
      count += 1
      if (failed !== null) return
      try {
        onRow(row)
      } catch (error) {
        // Thrown on, it would end the process from within the socket's event.
        failed = { error }
      }
    })
    query.on('error', reject)
    query.on('end', () => {
      if (failed === null) resolve(count)
      else reject(failed.error instanceof Error ? failed.error : new Error(String(failed.error)))
    })
    tx.query(query)
  })
}

type Demand = {
  readonly stream: ReadableStream<Uint8Array>
  /** Keeps a text for the reader; it gets it when a chunk is full, or is flushed. */
  write(text: string): void
  flush(): void
  /** Waits until the reader has room; false once it is gone. Throws when it left off for too long, or the server stops. */
  wantsMore(): Promise<boolean>
  close(): void
  fail(error: unknown): void
}

/** A stream that is filled only as it is read. */
function createDemand({
  signal,
  over,
  idleMs = IDLE_MS,
}: Pick<RowStreamOptions<object>, 'signal' | 'idleMs'> & { readonly over: AbortSignal | null }): Demand {
  let controller: ReadableStreamDefaultController<Uint8Array>
  const reader = { gone: false }
  let wake: () => void = () => {}
  const stopping = () =>
    over?.aborted
      ? new DomainError('overloaded', 'The stream has taken longer than one may.')
      : new DomainError('stopping', 'The server is stopping.')
  function throwIfStopping(): void {
    if (signal.aborted) throw stopping()
  }
  const stream = new ReadableStream<Uint8Array>({
    start: (given) => {
      controller = given
    },
    pull: () => wake(),
    cancel: () => {
      reader.gone = true
      wake()
    },
  })
  let chunk: Buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  let begin = 0
  let end = 0
  function flush(): void {
    if (!reader.gone && end > begin) controller.enqueue(chunk.subarray(begin, end))
    begin = end
  }
  return {
    stream,
    write(text) {
      const bytes = Buffer.byteLength(text)
      if (end + bytes > chunk.length) {
        flush()
        chunk = Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, bytes))
        begin = end = 0
      }
      end += chunk.write(text, end)
    },
    flush,
    async wantsMore() {
      while (!reader.gone && (controller.desiredSize ?? 0) <= 0) {
        throwIfStopping()
        await new Promise<void>((resolve, reject) => {
          const end = (finish: () => void) => () => {
            clearTimeout(timer)
            signal.removeEventListener('abort', onAbort)
            finish()
          }
          const timer = setTimeout(
            end(() => reject(new DomainError('overloaded', 'Nobody read on for too long.'))),
            idleMs,
          )
          const onAbort = end(() => reject(stopping()))
          signal.addEventListener('abort', onAbort)
          wake = end(resolve)
        })
      }
      throwIfStopping()
      return !reader.gone
    },
    close() {
      if (!reader.gone) controller.close()
    },
    fail(error) {
      if (!reader.gone) controller.error(error)
    },
  }
}

import { DomainError } from '../lib/errors.ts'
import type { Db } from './database.ts'

export type Statement = { readonly text: string; readonly values: readonly unknown[] }

export type RowStreamOptions<Row> = {
  readonly statement: Statement
  /** What comes before the first row. */
  readonly head: string
  readonly textOf: (rows: readonly Row[]) => string
  /** Ends the stream before its end, e.g. when the server stops. */
  readonly signal: AbortSignal
  /** How long a reader may leave off before its connection is taken from it; default 60 s. */
  readonly idleMs?: number
  readonly rowsAtOnce?: number
}

const IDLE_MS = 60_000
const ROWS_AT_ONCE = 1_000

/**
 * The rows of a statement as a stream of text, read through a cursor of the database: one snapshot, a thousand rows in memory at a
 * time, as fast as its reader reads. The connection is given back at the end, and when the reader leaves, leaves off, or fails.
 * Resolves when the first rows are there, so that what is wrong until then is an answer and not a broken stream.
 * @throws DomainError `database_unavailable`, `stopping`
 */
export function streamRows<Row extends object>(
  db: Pick<Db, 'transaction'>,
  options: RowStreamOptions<Row>,
): Promise<ReadableStream<Uint8Array>> {
  const { promise, resolve, reject } = Promise.withResolvers<ReadableStream<Uint8Array>>()
  const reader = createDemand(options)
  void db
    .transaction(async (tx) => {
      const { text, values } = options.statement
      await tx.query(`declare rows no scroll cursor for ${text}`, [...values])
      const fetch = async (): Promise<readonly Row[]> =>
        (await tx.query<Row>(`fetch ${options.rowsAtOnce ?? ROWS_AT_ONCE} from rows`)).rows
      let rows = await fetch()
      resolve(reader.stream)
      reader.write(options.head)
      while (rows.length > 0 && (await reader.wantsMore())) {
        reader.write(options.textOf(rows))
        rows = await fetch()
      }
      reader.close()
    })
    .catch((error: unknown) => {
      reader.fail(error)
      reject(error instanceof Error ? error : new Error(String(error)))
    })
  return promise
}

type Demand = {
  readonly stream: ReadableStream<Uint8Array>
  write(text: string): void
  /** Waits until the reader has room; false once it is gone. Throws when it left off for too long, or the server stops. */
  wantsMore(): Promise<boolean>
  close(): void
  fail(error: unknown): void
}

/** A stream that is filled only as it is read. */
function createDemand({ signal, idleMs = IDLE_MS }: Pick<RowStreamOptions<object>, 'signal' | 'idleMs'>): Demand {
  const encoder = new TextEncoder()
  let controller: ReadableStreamDefaultController<Uint8Array>
  const reader = { gone: false }
  let wake: () => void = () => {}
  const stopping = () => new DomainError('stopping', 'The server is stopping.')
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
  return {
    stream,
    write(text) {
      if (!reader.gone && text !== '') controller.enqueue(encoder.encode(text))
    },
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

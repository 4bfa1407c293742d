import pg, { type ClientBase, type Pool, type PoolClient } from 'pg'

/** Something that SQL can be sent to: the pool, or the client of a running transaction. */
export type Queryable = Pick<Pool | ClientBase, 'query'>

/** The client of a running transaction. Statements of a store take it (or the pool) as their first argument. */
export type Transaction = PoolClient

/** The one way to the database. */
export type Db = {
  /** For single statements; each may take another connection. */
  readonly pool: Pool
  /**
   * Runs `work` in one transaction: commits when it resolves, rolls back when it rejects, and passes its error on.
   * When the connection is lost while committing, the outcome is unknown: the error is one of `isDatabaseUnavailable`.
   */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>
  close(): Promise<void>
}

export type DbOptions = {
  /** `postgres://user:password@host:port/name` */
  readonly url: string
  /** Connections at most; default 20. */
  readonly poolSize?: number
  readonly applicationName?: string
  /** Told when an idle connection breaks; the pool replaces it by itself. */
  readonly onConnectionLost?: (error: Error) => void
}

const CONNECT_TIMEOUT_MS = 3_000
const INT8 = 20

/** `bigint` columns arrive as bigint: money and quantities never pass through a float. Everything else as pg reads it. */
const types = {
  getTypeParser: ((id: number, format?: 'text' | 'binary') =>
    id === INT8 ? BigInt : pg.types.getTypeParser(id, format)) as typeof pg.types.getTypeParser,
}

/** Opens a pool; connects when first asked. */
export function openDb(options: DbOptions): Db {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.poolSize ?? 20,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    application_name: options.applicationName ?? 'tollgate',
    // Sessions think in UTC whatever the server's own zone is.
    options: '-c timezone=UTC',
    types,
  })
  pool.on('error', (error) => options.onConnectionLost?.(error))
  return { pool, transaction: (work) => runTransaction(pool, work), close: () => pool.end() }
}

async function runTransaction<T>(pool: Pool, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  const onError = (error: Error): void => {
    broken = error
  }
  // While a client is lent, its errors are ours: unheard, they would end the process.
  client.on('error', onError)
  try {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch((failure: Error) => (broken = failure))
    throw error
  } finally {
    client.off('error', onError)
    client.release(broken)
  }
}

import { Pool, type ClientBase, type PoolClient } from 'pg'
import { DomainError } from '../lib/errors.ts'

/** What runs one statement: the pool, or the client of a transaction. */
export type Queryable = Pick<Pool | ClientBase, 'query'>

/** The client of an open transaction. */
export type Transaction = PoolClient

/** PostgreSQL as the domains see it. */
export type Db = Queryable & {
  /**
   * Runs `work` in one transaction: committed when it answers, rolled back when it throws.
   * @throws DomainError `database_unavailable` when PostgreSQL is away; whether a commit in flight took effect is then unknown
   */
  transaction<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>
  close(): Promise<void>
}

export type DatabaseOptions = {
  readonly connectionString: string
  /** Connections at most; default 10. */
  readonly poolSize?: number
  /** Called for an idle connection that was lost; the pool opens another by itself. */
  readonly onError?: (error: Error) => void
}

/** Opens a pool. Connections are made when first needed, so this succeeds while PostgreSQL is away. */
export function openDatabase(options: DatabaseOptions): Db {
  const pool = new Pool({
    connectionString: options.connectionString,
    max: options.poolSize ?? 10,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
  })
  pool.on('error', options.onError ?? (() => {}))
  return {
    query: pool.query.bind(pool),
    transaction: (work) => runTransaction(pool, work),
    close: () => pool.end(),
  }
}

async function runTransaction<Result>(pool: Pool, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
  const client = await pool.connect().catch(throwUnavailable)
  let broken: Error | undefined
  // A connection that dies while it is checked out also says so here; unheard, the event would end the process.
  const onLost = (error: Error): void => {
    broken = error
  }
  client.on('error', onLost)
  try {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch((rollbackError: unknown) => {
      broken ??= rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError))
    })
    if (isConnectionError(error)) throwUnavailable(error)
    throw error
  } finally {
    client.off('error', onLost)
    client.release(broken)
  }
}

function throwUnavailable(error: unknown): never {
  throw new DomainError('database_unavailable', 'PostgreSQL does not answer; try again shortly.', {}, { cause: error })
}

// https://www.postgresql.org/docs/18/errcodes-appendix.html: class 08 connection exceptions, 57P0x shutdown and crash.
const CONNECTION_CODES = new Set([
  '57P01',
  '57P02',
  '57P03',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOENT',
  'ENOTFOUND',
])

/** Whether an error means that PostgreSQL is away, rather than that a statement was wrong. */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code = 'code' in error ? String(error.code) : ''
  return (
    CONNECTION_CODES.has(code) ||
    code.startsWith('08') ||
    /connection terminated|timeout exceeded when trying to connect|client has encountered a connection error/i.test(error.message)
  )
}

import type { Pool, QueryResult } from 'pg'
import { databaseUnavailable, isConnectionError } from '../../db/database.ts'
import { packetClient, type PacketClient } from '../../db/packet.ts'
import { openSessions } from '../../db/sessions.ts'

/** What a transaction is going to write, and what it answers once that is committed. */
export type Written<Result> = { readonly send: () => readonly Promise<unknown>[]; readonly result: Result }

/**
 * A few connections of the write path's own: statements that are asked for together travel in one packet (db/packet.ts), so a group
 * commit costs two round trips (read, write and commit) instead of one per statement.
 */
export type UsageConnections = {
  /**
   * One transaction. `work` reads, decides, and answers what is to be written; that is sent with the commit right behind it.
   * When a write fails PostgreSQL skips that commit, and this rolls back and throws.
   * @throws DomainError `database_unavailable` when PostgreSQL is away; whether the commit took effect is then unknown
   */
  transaction<Result>(work: (tx: PacketClient) => Promise<Written<Result>>): Promise<Result>
  /** Statements outside of a transaction, each with its own snapshot. */
  read<Result>(work: (client: PacketClient) => Promise<Result>): Promise<Result>
  close(): Promise<void>
}

/** What the sessions of the write path are called in `pg_stat_activity`. */
export const USAGE_APPLICATION = 'tollgate usage'

export type UsageConnectionOptions = {
  readonly connectionString: string
  readonly size: number
  /** The role that statements run under; default: the login itself. */
  readonly role?: string
  /** A lock or statement that takes longer fails, and the batch is taken apart to find whose it was. */
  readonly statementTimeoutMs?: number
  /** After how long without a word a connection that owes an answer is given up; default half as long again as a statement may take. */
  readonly silentMs?: number
}

const STATEMENT_TIMEOUT_MS = 10_000
/** Between its two packets a group is only decided: a process that stands there holds locks that others wait for. */
const IDLE_IN_TRANSACTION_MS = 10_000
// Every statement of the write path finds its rows by their keys. A plan made while a table was small would scan it, and be
// kept while it grows; these leave only look-ups (measured over 10,000 organizations: 47 µs of PostgreSQL per use, else 200 to 1,000).
// No row is looked up twice in a statement, so that remembering them (memoize) only costs.
const PLANS = { enable_seqscan: 'off', enable_memoize: 'off', plan_cache_mode: 'force_generic_plan', jit: 'off' }

export function openUsageConnections(options: UsageConnectionOptions): UsageConnections {
  const { connectionString, size, role, statementTimeoutMs = STATEMENT_TIMEOUT_MS } = options
  const pool = openSessions({
    connectionString,
    size,
    name: USAGE_APPLICATION,
    role,
    statementTimeoutMs,
    idleInTransactionMs: IDLE_IN_TRANSACTION_MS,
    silentMs: options.silentMs ?? statementTimeoutMs * 1.5,
    settings: PLANS,
  })
  // An idle connection that is lost is replaced by the pool when next needed.
  pool.on('error', () => {})
  return {
    transaction: (work) => withClient(pool, (client) => transact(client, work)),
    read: (work) => withClient(pool, work),
    close: () => pool.end(),
  }
}

async function withClient<Result>(pool: Pool, work: (client: PacketClient) => Promise<Result>): Promise<Result> {
  const client = await pool.connect().catch((error: unknown) => {
    throw databaseUnavailable(error)
  })
  let broken: Error | undefined
  const onLost = (error: Error): void => {
    broken = error
  }
  client.on('error', onLost)
  try {
    return await work(packetClient(client))
  } catch (error) {
    if (!isConnectionError(error)) throw error
    broken ??= error instanceof Error ? error : new Error(String(error))
    throw databaseUnavailable(error)
  } finally {
    client.off('error', onLost)
    client.release(broken)
  }
}

const BEGIN = { name: 'begin', text: 'begin' }
const COMMIT = { name: 'commit', text: 'commit' }
// The commit lets go of the account's lock before the log is on disk, and the next group goes on with what this one wrote. Nobody is told of it
// before the flush: that is a transaction of its own right behind, with something to write, since nothing else waits for the log. Its end also
// covers whatever was read that is not on disk yet: the log is one file, written in order (docs/decisions/0161-the-lock-before-the-disk.md).
const COMMIT_BEFORE_FLUSH = { name: 'commit_before_flush', text: 'set local synchronous_commit to off' }
const FLUSH = { name: 'flush', text: `select pg_logical_emit_message(true, 'tollgate', '')` }

async function transact<Result>(client: PacketClient, work: (tx: PacketClient) => Promise<Written<Result>>): Promise<Result> {
  // Whoever fails first is thrown below; the others must not be left unheard.
  client.query(BEGIN).catch(() => {})
  client.query(COMMIT_BEFORE_FLUSH).catch(() => {})
  try {
    const { send, result } = await work(client)
    let failed = true
    // Whatever fails by itself has failed by the next tick: a write that could not even be put into words takes the commit with it. It is
    // asked for before the writes are, and so is heard before their packet leaves.
    const committed = new Promise<QueryResult | null>((resolve) => {
      process.nextTick(() => resolve(failed ? null : commit(client)))
    })
    const writes = Promise.all(send())
    failed = false
    writes.catch(() => (failed = true))
    const [ended] = await Promise.all([committed, writes])
    if (ended?.command !== 'COMMIT') throw new Error(`The transaction ended with ${ended?.command}.`)
    return result
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}

async function commit(client: PacketClient): Promise<QueryResult> {
  const [ended] = await Promise.all([client.query(COMMIT), client.query(FLUSH)])
  return ended
}

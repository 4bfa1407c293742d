import pg, { type Pool, type PoolClient } from 'pg'
import { DomainError } from '../lib/errors.ts'
import { packetClient } from './packet.ts'
import type { Queryable } from './queryable.ts'
import { READ_ONLY } from './read-only.ts'
import { scopeStatement, TENANT_ROLE } from './row-security.ts'
import { currentScope, type Scope } from './scope.ts'
import { openSessions } from './sessions.ts'
import { letTogether } from './together.ts'

export type { Queryable }

/** The client of an open transaction. A store's statements take it (or the pool) as their first argument. */
export type Transaction = PoolClient

/** One lent connection: single statements, and transactions on it. */
export type Session = Queryable & {
  transaction<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>
  /**
   * A transaction whose statements travel in packets (packet.ts) and are prepared once per connection: for what runs often and asks
   * for much at once. A statement that fails fails those of its packet too, and the connection is not used again.
   */
  packets<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>
}

/** PostgreSQL as the domains see it. */
export type Db = Queryable & {
  /**
   * Runs `work` in one transaction: committed when it answers, rolled back when it throws.
   * @throws DomainError `database_unavailable` when PostgreSQL is away; whether a commit in flight took effect is then
   * unknown, and repeating with the same idempotency key is safe
   */
  transaction<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>
  /**
   * Lends one connection for what belongs to a session rather than to a transaction: an advisory lock that spans a call
   * to somewhere else and the transaction after it.
   * @throws DomainError `database_unavailable` when PostgreSQL is away
   */
  session<Result>(work: (session: Session) => Promise<Result>): Promise<Result>
  close(): Promise<void>
}

export type DatabaseOptions = {
  readonly connectionString: string
  /** Connections at most; default 20. */
  readonly poolSize?: number
  /** After how long without a word a connection that owes an answer is given up (silence.ts); never by default. */
  readonly silentMs?: number
  /** Called for an idle connection that was lost; the pool opens another by itself. */
  readonly onError?: (error: Error) => void
  /**
   * Puts every statement under row-level security, in the scope that runs (scope.ts), and says which scope it is outside of
   * any. Left out, statements run as the login itself: for migrations and tools.
   */
  readonly scopeOutside?: 'nobody' | 'system'
}

export const DEFAULT_POOL_SIZE = 20
/** For a server's pools: its longest statements, of a day's figures over 100,000 organizations, answer within a part of it. */
export const SERVER_SILENT_MS = 240_000
/** A statement that takes so much of that PostgreSQL ends by itself: on a connection that is given up it would go on. */
const STATEMENT_SHARE = 0.7
/** What is read slowly is left after a minute (row-stream.ts); whatever else lets a transaction lie is a process that stands, and holds locks. */
const IDLE_IN_TRANSACTION_MS = 120_000
const INT8 = 20
/** From here on PostgreSQL numbers the types that a database makes itself. */
const FIRST_OWN_TYPE = 16_384

/**
 * `bigint` columns arrive as bigint: money and quantities never pass through a float. Everything else as pg reads it, but for what it does not know:
 * a domain arrives as what it is made of, a list of one would arrive as one text, `{a,b}`, and pass for a list of letters.
 */
const types = {
  getTypeParser: ((id: number, format?: 'text' | 'binary') => {
    if (id === INT8) return BigInt
    return id < FIRST_OWN_TYPE ? pg.types.getTypeParser(id, format) : refuseOwnType
  }) as typeof pg.types.getTypeParser,
}

function refuseOwnType(): never {
  throw new TypeError(
    'A statement answers a type of the database’s own, which nothing here reads: cast what it is made of, such as array_agg(id::text).',
  )
}

/** Opens a pool. Connections are made when first needed, so this succeeds while PostgreSQL is away. */
export function openDatabase(options: DatabaseOptions): Db {
  const { scopeOutside } = options
  // Under row-level security a connection begins with nothing visible.
  const pool = openPool(scopeOutside === undefined ? options : { ...options, role: TENANT_ROLE })
  const scopeNow = (): Scope | null => (scopeOutside === undefined ? null : (currentScope() ?? { kind: scopeOutside }))
  const inScope = <Result>(work: (client: PoolClient) => Promise<Result>): Promise<Result> => {
    const scope = scopeNow()
    return lend(pool, async (client) => {
      if (scope !== null) await enterScope(client, scope)
      return work(client)
    })
  }
  const query = (text: string, values?: unknown[]): Promise<pg.QueryResult> => inScope((client) => client.query(text, values))
  return {
    query: query as Db['query'],
    transaction: (work) => {
      const scope = scopeNow()
      return lend(pool, (client) => runTransaction(client, work, scope))
    },
    session: (work) =>
      inScope((client) =>
        work({
          query: client.query.bind(client),
          transaction: (inner) => runTransaction(client, inner, null),
          packets: (inner) => runPackets(client, inner),
        }),
      ),
    close: () => pool.end(),
  }
}

/** A bare pool, for a library that brings its own statements; it knows of no scope. */
export function openPool(options: Omit<DatabaseOptions, 'scopeOutside'> & { readonly role?: string }): Pool {
  const { connectionString, poolSize = DEFAULT_POOL_SIZE, silentMs, role } = options
  const pool = openSessions({
    connectionString,
    size: poolSize,
    name: 'tollgate',
    role,
    types,
    ...(silentMs === undefined
      ? {}
      : { silentMs, statementTimeoutMs: Math.floor(silentMs * STATEMENT_SHARE), idleInTransactionMs: IDLE_IN_TRANSACTION_MS }),
  })
  pool.on('error', (error) => options.onError?.(error))
  return pool
}

/** The scope that each connection was last brought into. */
const entered = new WeakMap<PoolClient, string>()

async function enterScope(client: PoolClient, scope: Scope): Promise<void> {
  const name = nameOf(scope)
  if (entered.get(client) === name) return
  await client.query(scopeStatement(scope, { local: false }))
  entered.set(client, name)
}

function nameOf(scope: Scope): string {
  return scope.kind === 'organizations' ? JSON.stringify(scope.organizationIds) : scope.kind
}

/** A connection on which a rollback failed: it is thrown away instead of being lent again. */
const unusable = new WeakSet<PoolClient>()

async function lend<Result>(pool: Pool, work: (client: PoolClient) => Promise<Result>): Promise<Result> {
  const client = await pool.connect().catch(throwUnavailable)
  let lost: Error | undefined
  // A connection that dies while it is lent also says so here; unheard, the event would end the process.
  const onLost = (error: Error): void => {
    lost = error
  }
  client.on('error', onLost)
  try {
    return await work(client)
  } catch (error) {
    if (!isConnectionError(error)) throw error
    unusable.add(client)
    return throwUnavailable(error)
  } finally {
    client.off('error', onLost)
    client.release(lost ?? unusable.has(client))
  }
}

async function runTransaction<Result>(
  client: PoolClient,
  work: (tx: Transaction) => Promise<Result>,
  scope: Scope | null,
): Promise<Result> {
  try {
    await client.query(scope === null || entered.get(client) === nameOf(scope) ? 'begin' : beginInScope(scope))
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch(() => unusable.add(client))
    throw error
  }
}

const BEGIN = { name: 'packet_begin', text: 'begin' }
const COMMIT = { name: 'packet_commit', text: 'commit' }
// A prepared statement keeps its plan. One made while a table was small would scan it, and be kept while it grows.
const KEEP_PLANS = {
  name: 'packet_keep_plans',
  text: `select set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)`,
}

type StatementConfig = { readonly text: string; readonly values?: unknown[] }

async function runPackets<Result>(client: PoolClient, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
  const packets = packetClient(client)
  let isOver = false
  const query = (asked: string | StatementConfig, values?: unknown[]): Promise<pg.QueryResult> => {
    // Work that was begun together ends together: what goes on after a failure must not run outside of the transaction.
    if (isOver) return Promise.reject(new Error('The transaction is over.'))
    const { text, values: named = values ?? [] } = typeof asked === 'string' ? { text: asked } : asked
    // Names of its own: what `pg` has prepared on this connection by a name is not known to packets.
    return packets.query({ name: preparedName(text), text, values: named })
  }
  try {
    // Whoever fails first is thrown below; the others must not be left unheard.
    for (const statement of [BEGIN, KEEP_PLANS]) packets.query(statement).catch(() => {})
    const tx = { query } as Transaction
    letTogether(tx)
    const result = await work(tx)
    isOver = true
    const { command } = await packets.query(COMMIT)
    if (command !== 'COMMIT') throw new Error(`The transaction ended with ${command}.`)
    return result
  } catch (error) {
    isOver = true
    unusable.add(client)
    await packets.query('rollback').catch(() => undefined)
    throw error
  }
}

const preparedNames = new Map<string, string>()
/** What is written in code is less; a text that was put together anew each time must not fill the memory of PostgreSQL. */
const MOST_PREPARED = 500

/** The name under which a statement is prepared; none when there are too many. */
function preparedName(text: string): string {
  const known = preparedNames.get(text)
  if (known !== undefined) return known
  if (preparedNames.size >= MOST_PREPARED) return ''
  const name = `packet_${preparedNames.size}`
  preparedNames.set(text, name)
  return name
}

/** Begin and scope in one round trip; the scope ends with the transaction. */
function beginInScope(scope: Scope): string {
  const { text, values } = scopeStatement(scope, { local: true })
  return `begin; ${text.replace(/\$(\d)/g, (_whole, index: string) => pg.escapeLiteral(values[Number(index) - 1]!))}`
}

const DETAILS: ReadonlyMap<string, string> = new Map([
  ['53100', 'PostgreSQL has no room left on its disk; try again once there is some.'],
  ['53300', 'PostgreSQL has no connection left; try again shortly.'],
  [READ_ONLY, 'PostgreSQL takes no writes at this address; try again shortly.'],
])

/** What a caller is told of a PostgreSQL that is away, or full; see `isConnectionError`. */
export function databaseUnavailable(error: unknown): DomainError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const detail = DETAILS.get(code) ?? 'PostgreSQL does not answer; try again shortly.'
  return new DomainError('database_unavailable', detail, {}, { cause: error })
}

function throwUnavailable(error: unknown): never {
  throw databaseUnavailable(error)
}

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
])

// SQLSTATE of a server that is away or full: connection exceptions (08), shutdown (57P0x), a read-only standby after a failover
// (25006), too many connections (53300), no room on its disk (53100). https://www.postgresql.org/docs/current/errcodes-appendix.html
const AWAY = /^(08...|57P0[1-5]|25006|53[13]00)$/

// What `pg` says without a code when a connection breaks or cannot be had in time, and of a server whose socket is gone: that has the code
// of any file that is not there.
const MESSAGES =
  /^(connect ENOENT|Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Query read timeout)/

/** Whether a transaction was ended because it and others waited for each other (40P01), or because others came first (40001). */
export function isCollision(error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code === '40P01' || error.code === '40001')
}

const TOO_MUCH = new Set(['57014', '53200', '53400'])

/** Whether PostgreSQL ended a statement because it took too long (57014), or more memory (53200) or temporary files (53400) than there may be. */
export function tookTooMuch(error: unknown): boolean {
  return error instanceof pg.DatabaseError && TOO_MUCH.has(error.code ?? '')
}

/** Whether an error means that PostgreSQL is away or its disk is full, rather than that a statement was wrong. */
export function isConnectionError(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isConnectionError)
  if (!(error instanceof Error)) return false
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  return NETWORK_CODES.has(code) || AWAY.test(code) || MESSAGES.test(error.message) || isConnectionError(error.cause)
}

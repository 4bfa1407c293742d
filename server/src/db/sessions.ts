import pg, { type ClientBase, type Pool, type QueryConfig } from 'pg'
import { CONNECT_TIMEOUT_MS, CONNECTING, within } from './connecting.ts'
import { leaveReadOnly, refuseReadOnly } from './read-only.ts'
import { BACKEND, endSilent, type Backend } from './silence.ts'

export type SessionOptions = {
  readonly connectionString: string
  /** Connections at most. */
  readonly size: number
  /** What its sessions are called in `pg_stat_activity`. */
  readonly name: string
  /** The role that statements run under; default: the login itself. */
  readonly role?: string | undefined
  /** PostgreSQL ends a statement that takes longer; never by default, whatever the server's own setting is. */
  readonly statementTimeoutMs?: number | undefined
  /** PostgreSQL ends a session that leaves its transaction alone for longer; never by default. */
  readonly idleInTransactionMs?: number | undefined
  /** After how long without a word a connection that owes an answer is given up (silence.ts); never by default. */
  readonly silentMs?: number | undefined
  /** More of PostgreSQL's settings. */
  readonly settings?: Readonly<Record<string, string>>
  readonly types?: pg.CustomTypesConfig
}

/**
 * What a session is, whatever the server, the database, the login and the address set: each of these has other values somewhere, and would
 * change what a statement means, how its values are written, or whether an answer is durable.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  quote_all_identifiers: 'off',
  row_security: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  // An answer means durable. With `on` it also waits for the standbys that the server names.
  synchronous_commit: 'on',
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_session_timeout: '0',
  // A server of ours that is gone without a word keeps its locks until PostgreSQL notices; by default that takes two hours.
  tcp_keepalives_idle: '15',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
}

/**
 * Opens a pool whose sessions are settled before they are lent. The settings are told in a statement of their own: as `options` of the connection
 * they are refused by some poolers, dropped by others, and taken the place of by `options` in the address. Connections are made when first needed.
 */
export function openSessions(options: SessionOptions): Pool {
  const statement = settlingStatement(options)
  const pool = new pg.Pool({
    connectionString: options.connectionString,
    max: options.size,
    ...CONNECTING,
    application_name: options.name,
    ...(options.types === undefined ? {} : { types: options.types }),
    // Waited for, though its type does not say so.
    onConnect: (client: ClientBase): unknown => settle(client, statement),
  })
  leaveReadOnly(pool)
  const { connectionString, silentMs } = options
  if (silentMs !== undefined) endSilent(pool, { connectionString, silentMs, backendOf: (client) => backends.get(client)! })
  return pool
}

function settlingStatement({ role, statementTimeoutMs, idleInTransactionMs, settings }: SessionOptions): QueryConfig {
  const wanted = {
    ...SETTINGS,
    statement_timeout: String(statementTimeoutMs ?? 0),
    idle_in_transaction_session_timeout: String(idleInTransactionMs ?? 0),
    ...settings,
    // Last: another role may set less.
    ...(role === undefined ? {} : { role }),
  }
  // Not every version knows every setting.
  const text = `select count(set_config(name, value, false)), ${BACKEND}, current_setting('transaction_read_only') = 'on' as "isReadOnly"
    from unnest($1::text[], $2::text[]) as setting (name, value) where current_setting(name, true) is not null`
  return within(CONNECT_TIMEOUT_MS, text, [Object.keys(wanted), Object.values(wanted)])
}

/** With whom each connection is: behind a pooler that is not who the connection was made with. */
const backends = new WeakMap<ClientBase, Backend>()

async function settle(client: ClientBase, statement: QueryConfig): Promise<void> {
  const { rows } = await client.query<Backend & { isReadOnly: boolean }>(statement)
  const [{ isReadOnly, ...backend }] = rows as [Backend & { isReadOnly: boolean }]
  if (isReadOnly) throw refuseReadOnly()
  backends.set(client, backend)
}

import { Client, DatabaseError, type ClientBase, type Pool, type PoolClient } from 'pg'
import { CONNECT_TIMEOUT_MS, CONNECTING, within, type Connected } from './connecting.ts'

/** Bytes that a connection had received when it last received some, and when that was. */
type Heard = { bytes: number; atMs: number }

/** The process of PostgreSQL at the other end of a connection, and when that PostgreSQL was started, which tells it from its successor. */
export type Backend = { readonly process: number; readonly startedAt: string }

// A number: how a time is written differs from session to session.
const STARTED_AT = `extract(epoch from pg_postmaster_start_time())::text as "startedAt"`

/** What reads the backend of the connection that it is sent on. */
export const BACKEND = `pg_backend_pid() as process, ${STARTED_AT}`

export type SilenceOptions = {
  readonly connectionString: string
  /** Longer than any statement takes before its first row. */
  readonly silentMs: number
  readonly backendOf: (client: ClientBase) => Backend
}

/** After so long without a word PostgreSQL is asked whether it is still at work: most statements are answered within a part of it. */
const DOUBT_MS = 5_000
const LOOK_MS = 1_000
const LOOKS = 5

/**
 * Ends connections on which an answer is awaited and nothing comes. A machine that went without a word (a failover, a network that drops
 * everything) sends no end of its own: the kernel gives up after a quarter of an hour, and until then whoever asked would wait, while the
 * successor answers new connections. Who waited hears of a lost connection, and what is tried again goes to the successor.
 *
 * After a few seconds PostgreSQL is asked on a connection of its own what is still at work there, so that a long statement is left alone, and one
 * that nobody works on any more, or of which nobody can be asked, is not waited for until `silentMs`.
 */
export function endSilent(pool: Pool, { connectionString, silentMs, backendOf }: SilenceOptions): void {
  const doubtMs = Math.min(DOUBT_MS, silentMs / 2)
  const connections = new Map<PoolClient, Heard>()
  let isAsking = false
  pool.on('connect', (client) => connections.set(client, { bytes: 0, atMs: performance.now() }))
  pool.on('remove', (client) => connections.delete(client))

  /** The connections that have owed an answer for so long. */
  function silentFor(ms: number): readonly PoolClient[] {
    const nowMs = performance.now()
    return [...connections].flatMap(([client, heard]) => {
      const { readyForQuery, connection } = client as PoolClient & Connected
      const bytes = connection.stream.bytesRead
      if (readyForQuery || bytes !== heard.bytes) Object.assign(heard, { bytes, atMs: nowMs })
      return nowMs - heard.atMs >= ms ? [client] : []
    })
  }

  async function ask(doubted: readonly PoolClient[]): Promise<void> {
    isAsking = true
    const atWork = await findAtWork(connectionString).catch(() => null)
    isAsking = false
    if (atWork === 'unknown') return
    const still = new Set(silentFor(doubtMs))
    for (const client of doubted) if (still.has(client) && atWork?.has(keyOf(backendOf(client))) !== true) cut(client)
  }

  function look(): void {
    if (pool.ended) return clearInterval(timer)
    for (const client of silentFor(silentMs)) cut(client)
    const doubted = silentFor(doubtMs)
    if (doubted.length > 0 && !isAsking) void ask(doubted)
  }

  const timer = setInterval(look, Math.min(LOOK_MS, silentMs / LOOKS))
  timer.unref()
}

function cut(client: PoolClient): void {
  const { connection } = client as PoolClient & Connected
  connection.stream.destroy(new Error('Connection terminated: PostgreSQL is silent'))
}

const keyOf = ({ process, startedAt }: Backend): string => `${process} ${startedAt}`

/**
 * The backends of this login that are at work where the address leads now; `unknown` where somebody answers there who does not say (no connection
 * left). Rejects when nobody answers.
 */
async function findAtWork(connectionString: string): Promise<ReadonlySet<string> | 'unknown'> {
  const client = new Client({ connectionString, ...CONNECTING, application_name: 'tollgate silence' })
  client.on('error', () => undefined)
  const atWork = `select pid as process, ${STARTED_AT} from pg_stat_activity where usename = session_user and state = 'active'`
  try {
    await client.connect()
    return new Set((await client.query<Backend>(within(CONNECT_TIMEOUT_MS, atWork))).rows.map(keyOf))
  } catch (error) {
    if (error instanceof DatabaseError) return 'unknown'
    throw error
  } finally {
    // Whoever gives no answer does not answer this either.
    client.end().catch(() => undefined)
  }
}

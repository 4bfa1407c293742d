import { Client } from 'pg'
import { CONNECTING } from '../db/connecting.ts'
import { listenOn, requireAlive } from '../db/listen.ts'
import type { Queryable } from '../db/queryable.ts'

/** News of organizations whose balances or use changed, from every process that shares the database. */
export type ChangeFeed = {
  /** Tells every process, a moment later and together with what else changes. */
  tell(organizationIds: Iterable<string>): void
  /** Calls `listener` with organizations that changed; null is any of them. There is one. */
  listen(listener: (organizationIds: readonly string[] | null) => void): void
  stop(): Promise<void>
}

export type ChangeFeedOptions = {
  readonly connectionString: string
  readonly db: Queryable
  readonly onError: (error: unknown) => void
}

const CHANNEL = 'tollgate_usage_changed'
/**
 * `notify` within a commit would make commits wait for each other: PostgreSQL takes one lock for all that notify. So the write
 * path tells nobody; what it changed is told from here, outside of every transaction, at most four times a second
 * (docs/decisions/0080-live-usage.md).
 */
const TELL_EVERY_MS = 250
// A notification holds less than 8,000 bytes (https://www.postgresql.org/docs/current/sql-notify.html); beyond so many it says "any".
const MOST_BYTES = 7_900
const MOST_ORGANIZATIONS = 1_000
/** How often a sign of life is asked for, and how long it may take. */
const ASK_EVERY_MS = 5_000
const PATIENCE_MS = 2_000

/**
 * Listens on one connection, made anew when it is lost. What is told while nobody can hear it is lost: who listens looks again by
 * itself from time to time.
 */
export function startChangeFeed({ connectionString, db, onError }: ChangeFeedOptions): ChangeFeed {
  const changed = new Set<string>()
  let heard: (organizationIds: readonly string[] | null) => void = () => {}
  let client: Client | null = null
  let listening = false
  let working: Promise<void> = Promise.resolve()
  let busy = false
  let askedMs = 0

  async function connect(): Promise<void> {
    const fresh = new Client({ connectionString, ...CONNECTING, application_name: 'tollgate changes' })
    const drop = (): void => {
      if (client === fresh) client = null
    }
    fresh.on('notification', ({ payload }) => heard(payload === undefined || payload === '' ? null : payload.split('\n')))
    fresh.on('error', drop)
    fresh.on('end', drop)
    await listenOn(fresh, CHANNEL)
    client = fresh
    askedMs = performance.now()
    // What was told before is not known here.
    heard(null)
  }

  /** Asks for a sign of life, and leaves who gives none. */
  async function ask(asked: Client): Promise<void> {
    try {
      await requireAlive(asked, PATIENCE_MS)
      askedMs = performance.now()
    } catch (error) {
      if (client === asked) client = null
      throw error
    }
  }

  async function work(): Promise<void> {
    try {
      if (listening && client === null) await connect()
      if (client !== null && performance.now() - askedMs >= ASK_EVERY_MS) await ask(client)
      if (changed.size === 0) return
      const told = [...changed]
      changed.clear()
      await db.query('select pg_notify($1, payload) from unnest($2::text[]) as payload', [CHANNEL, payloadsOf(told)])
    } catch (error) {
      onError(error)
    }
  }

  const timer = setInterval(() => {
    if (busy) return
    busy = true
    working = work().finally(() => {
      busy = false
    })
  }, TELL_EVERY_MS)
  timer.unref()

  return {
    tell(organizationIds) {
      for (const id of organizationIds) changed.add(id)
    },
    listen(listener) {
      heard = listener
      listening = true
    },
    async stop() {
      clearInterval(timer)
      await working
      const last = client
      client = null
      await last?.end()
    },
  }
}

/** Ids, a line each, in as few notifications as they fit; an empty one is any organization. */
export function payloadsOf(organizationIds: readonly string[]): readonly string[] {
  if (organizationIds.length > MOST_ORGANIZATIONS) return ['']
  const payloads: string[] = []
  let size = Number.POSITIVE_INFINITY
  for (const id of organizationIds) {
    const bytes = Buffer.byteLength(id) + 1
    size += bytes
    if (size > MOST_BYTES) {
      payloads.push(id)
      size = bytes
    } else {
      payloads[payloads.length - 1] += `\n${id}`
    }
  }
  return payloads
}

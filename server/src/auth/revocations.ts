import { Client } from 'pg'
import { CONNECTING } from '../db/connecting.ts'
import { listenOn, requireAlive } from '../db/listen.ts'
import type { ApiKeyId } from '../lib/ids.ts'
import { REVOCATION_CHANNEL } from './store.ts'

/** News of revoked keys, from every process that shares the database. */
export type RevocationFeed = {
  /** Called with the id of a revoked key, or with null when any key may have been (news was missed). */
  onRevoked(listener: (keyId: ApiKeyId | null) => void): void
  /** Whether every revocation until half a second ago is known. While it is not, no cached key is trusted. */
  isCurrent(): boolean
  /** Grows with each piece of news. */
  generation(): number
}

export type RevocationListener = RevocationFeed & { stop(): Promise<void> }

const HEARTBEAT_MS = 300
/** A connection that died without a word is noticed after this long; revocation must take effect within a second. */
const STALE_MS = 800
/** Without a sign of life for so long, another connection is made. */
const PATIENCE_MS = 1_000

export type RevocationListenerOptions = {
  readonly connectionString: string
  readonly onError: (error: unknown) => void
}

/**
 * Listens on one connection of its own, which is asked for a sign of life three times a second. When it is lost, `isCurrent`
 * turns false and everything cached is dropped; it connects again by itself.
 */
export async function startRevocationListener(options: RevocationListenerOptions): Promise<RevocationListener> {
  const listeners: ((keyId: ApiKeyId | null) => void)[] = []
  let client: Client | null = null
  let lastSignMs = Number.NEGATIVE_INFINITY
  let generation = 0
  let stopped = false
  let beating: Promise<void> = Promise.resolve()

  function tell(keyId: ApiKeyId | null): void {
    generation += 1
    for (const listener of listeners) listener(keyId)
  }

  async function connect(): Promise<void> {
    const fresh = new Client({ connectionString: options.connectionString, ...CONNECTING })
    fresh.on('notification', (message) => tell((message.payload ?? null) as ApiKeyId | null))
    fresh.on('error', () => drop(fresh))
    fresh.on('end', () => drop(fresh))
    await listenOn(fresh, REVOCATION_CHANNEL)
    client = fresh
    lastSignMs = performance.now()
    // What was revoked between the last connection and this one was told to nobody here.
    tell(null)
  }

  function drop(lost: Client): void {
    if (client !== lost) return
    client = null
    lastSignMs = Number.NEGATIVE_INFINITY
    tell(null)
  }

  async function beat(): Promise<void> {
    try {
      if (client === null) {
        await connect()
        return
      }
      const askedMs = performance.now()
      await requireAlive(client, PATIENCE_MS)
      lastSignMs = askedMs
    } catch (error) {
      if (client) drop(client)
      options.onError(error)
    }
  }

  await connect()
  let beatRunning = false
  const timer = setInterval(() => {
    if (beatRunning || stopped) return
    beatRunning = true
    beating = beat().finally(() => {
      beatRunning = false
    })
  }, HEARTBEAT_MS)
  timer.unref()

  return {
    onRevoked: (listener) => void listeners.push(listener),
    isCurrent: () => performance.now() - lastSignMs < STALE_MS,
    generation: () => generation,
    async stop() {
      stopped = true
      clearInterval(timer)
      await beating
      const last = client
      client = null
      lastSignMs = Number.NEGATIVE_INFINITY
      await last?.end()
    },
  }
}

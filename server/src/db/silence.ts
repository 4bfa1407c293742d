import type { Socket } from 'node:net'
import type { Pool, PoolClient } from 'pg'

// What `pg` knows of a connection; its types leave it out.
type Connected = { readonly readyForQuery: boolean; readonly connection: { readonly stream: Socket } }

/** Bytes that a connection had received when it last received some, and when that was. */
type Heard = { bytes: number; atMs: number }

/**
 * Ends connections on which an answer is awaited and nothing has come for so long. A machine that went without a word (a failover, a network
 * that drops everything) sends no end of its own: the kernel gives up after a quarter of an hour, and until then whoever asked would wait, while the
 * successor answers new connections. Who waited hears of a lost connection, and what is tried again goes to the successor.
 * @param silentMs longer than any statement takes before its first row; noticed to a fifth of it, so that it may be four fifths
 */
export function endSilent(pool: Pool, silentMs: number): void {
  const connections = new Map<PoolClient, Heard>()
  pool.on('connect', (client) => connections.set(client, { bytes: 0, atMs: performance.now() }))
  pool.on('remove', (client) => connections.delete(client))

  function look(): void {
    if (pool.ended) return clearInterval(timer)
    const nowMs = performance.now()
    for (const [client, heard] of connections) {
      const { readyForQuery, connection } = client as PoolClient & Connected
      const bytes = connection.stream.bytesRead
      if (readyForQuery || bytes !== heard.bytes) Object.assign(heard, { bytes, atMs: nowMs })
      else if (nowMs - heard.atMs >= silentMs) connection.stream.destroy(new Error('Connection terminated: PostgreSQL is silent'))
    }
  }

  const timer = setInterval(look, silentMs / LOOKS)
  timer.unref()
}

const LOOKS = 5

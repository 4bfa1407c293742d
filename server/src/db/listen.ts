import type { Client } from 'pg'
import { within } from './connecting.ts'
import { refuseReadOnly } from './read-only.ts'

/** A slow database may take so long to begin; the first time it is what a server waits for to start. */
const LISTEN_PATIENCE_MS = 5_000

/**
 * Connects, and listens to a channel. Where that fails, or is not answered in time, no connection is left: a database that is merely slow would be
 * given another one with every attempt.
 */
export async function listenOn(client: Client, channel: string): Promise<void> {
  try {
    await client.connect()
    await client.query(within(LISTEN_PATIENCE_MS, `listen ${channel}`))
    await requireWrites(client, LISTEN_PATIENCE_MS)
  } catch (error) {
    client.end().catch(() => undefined)
    throw error
  }
}

/**
 * Asks for a sign of life. Of a machine that went without a word no end is heard: one that gives no sign in time is left. So is one that takes no
 * writes any more: what is told is told at its successor.
 * @throws what `pg` does when there is none
 */
export async function requireAlive(client: Client, withinMs: number): Promise<void> {
  try {
    await requireWrites(client, withinMs)
  } catch (error) {
    // It is still there, as far as this machine knows.
    client.end().catch(() => undefined)
    throw error
  }
}

async function requireWrites(client: Client, withinMs: number): Promise<void> {
  const { rows } = await client.query<{ transaction_read_only: string }>(within(withinMs, 'show transaction_read_only'))
  if (rows[0]!.transaction_read_only === 'on') throw refuseReadOnly()
}

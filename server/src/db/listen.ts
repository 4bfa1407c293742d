import type { Client } from 'pg'

/**
 * Connects, and listens to a channel. Where that fails, or is not answered in time, no connection is left: a database that is merely slow would be
 * given another one with every attempt.
 */
export async function listenOn(client: Client, channel: string): Promise<void> {
  try {
    await client.connect()
    await client.query(`listen ${channel}`)
  } catch (error) {
    client.end().catch(() => undefined)
    throw error
  }
}

import type { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import type { QueryConfig } from 'pg'

/** A connection is made within this or not at all. */
export const CONNECT_TIMEOUT_MS = 3_000

/** An idle connection is asked whether it is there long before routers forget it. */
export const CONNECTING = {
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
  connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
} as const

/** What `pg` knows of a connection; its types leave it out. */
export type Connected = {
  /** Whether no answer is owed. */
  readonly readyForQuery: boolean
  readonly connection: EventEmitter & { readonly stream: Socket }
}

/** A statement that is given up when it is not answered in time. `pg` takes that time for a single statement; its types leave it out. */
export function within(ms: number, text: string, values: readonly unknown[] = []): QueryConfig {
  const config = { text, values: [...values], query_timeout: ms }
  return config
}

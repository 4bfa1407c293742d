/** A connection is made within this or not at all. */
export const CONNECT_TIMEOUT_MS = 3_000

/** An idle connection is asked whether it is there long before routers forget it. */
export const CONNECTING = {
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
  connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
} as const

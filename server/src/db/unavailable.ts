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

/**
 * SQLSTATE classes and codes of a server that is away or full: connection exceptions (08), operator intervention such as
 * a shutdown (57P), a read-only standby after a failover (25006), too many connections (53300).
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const AWAY = /^(08...|57P0[1-5]|25006|53300)$/

/** What `pg` says without a code when a connection breaks or cannot be had in time. */
const MESSAGES = [
  'Connection terminated',
  'timeout exceeded when trying to connect',
  'Client has encountered a connection error',
  'Cannot use a pool after calling end on the pool',
  'Query read timeout',
]

/**
 * Whether an error means that PostgreSQL is away, not that a statement was wrong. The caller answers 503 with
 * Retry-After. What was being committed may or may not have been: repeating with the same idempotency key is safe.
 */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isDatabaseUnavailable)
  if (!(error instanceof Error)) return false
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (NETWORK_CODES.has(code) || AWAY.test(code)) return true
  if (MESSAGES.some((message) => error.message.startsWith(message))) return true
  return error.cause !== undefined && isDatabaseUnavailable(error.cause)
}

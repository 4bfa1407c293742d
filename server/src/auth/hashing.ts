import { createTurns } from '../lib/turns.ts'

/**
 * Hashes of keys and passwords, each of which holds a thread of libuv's pool for as long as it takes. The pool has four, unless
 * UV_THREADPOOL_SIZE says otherwise, and what waits for one of them is more than hashes: signing in at PostgreSQL, looking up names, unpacking bodies. With
 * all four taken by the keys that one organization had made at once, no connection to PostgreSQL could be opened for as long as that took.
 */
export const hashing = createTurns({ atOnce: 2, mostWaiting: 50 })

import { hash } from 'node:crypto'

const BLOCK_BYTES = 64

/**
 * HMAC-SHA256 (RFC 2104) with a key that stays the same. `createHmac` builds an object in native code for every message (2.5 µs),
 * two one-shot hashes take 0.8 µs; each request's key is digested, so that counts.
 */
export function createHmacSha256(secret: string): (message: string) => Buffer {
  const given = Buffer.from(secret)
  const key = Buffer.alloc(BLOCK_BYTES)
  ;(given.length > BLOCK_BYTES ? hash('sha256', given, 'buffer') : given).copy(key)
  const inner = key.map((byte) => byte ^ 0x36)
  const outer = key.map((byte) => byte ^ 0x5c)
  return (message) => {
    const within = hash('sha256', Buffer.concat([inner, Buffer.from(message)]), 'buffer')
    return hash('sha256', Buffer.concat([outer, within]), 'buffer')
  }
}

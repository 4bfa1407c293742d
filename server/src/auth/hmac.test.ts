import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createHmacSha256 } from './hmac.ts'

it('is HMAC-SHA256 for any secret, also longer than a block, and any message', () => {
  const text = fc.string({ unit: 'binary', maxLength: 200 })
  fc.assert(
    fc.property(text, text, (secret, message) => {
      const expected = createHmac('sha256', secret).update(message).digest()
      expect(createHmacSha256(secret)(message).equals(expected)).toBe(true)
    }),
  )
})

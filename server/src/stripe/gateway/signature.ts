import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Instant } from '../../lib/clock.ts'
import { MINUTE_MS, SECOND_MS } from '../../lib/period.ts'

/** A body that was signed longer ago is a recording that somebody plays. */
const TOLERANCE_MS = 5 * MINUTE_MS

/**
 * Whether Stripe has signed a body with one of the secrets: `t=<unix seconds>,v1=<hex HMAC-SHA256 of t.body>`, with several `v1` while a
 * secret is rolled (https://docs.stripe.com/webhooks#verify-manually). Over the bytes as they came: nothing of a body is read before.
 */
export function isSigned(body: string | Buffer, header: string, secrets: readonly string[], now: Instant): boolean {
  const parts = header.split(',').map((part) => part.split('=', 2))
  const seconds = parts.find(([name]) => name === 't')?.[1] ?? ''
  if (!/^\d{1,12}$/.test(seconds) || now.getTime() - Number(seconds) * SECOND_MS > TOLERANCE_MS) return false
  const given = parts.flatMap(([name, value]) => (name === 'v1' && value !== undefined ? [Buffer.from(value)] : []))
  return secrets.some((secret) => {
    if (secret === '') return false
    const wanted = Buffer.from(createHmac('sha256', secret).update(`${seconds}.`).update(body).digest('hex'))
    return given.some((signature) => signature.length === wanted.length && timingSafeEqual(signature, wanted))
  })
}

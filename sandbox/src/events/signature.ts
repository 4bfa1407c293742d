import { createHmac } from 'node:crypto'

/**
 * The `Stripe-Signature` header of a body: `t=<unix seconds>,v1=<hex>` with one `v1` for each secret (two while a secret rolls).
 * `v1` is the HMAC-SHA256 of `<t>.<body>`.
 */
export function signatureHeader(body: string, secrets: readonly string[], unixSeconds: number): string {
  const signatures = secrets.map((secret) => `v1=${createHmac('sha256', secret).update(`${unixSeconds}.${body}`).digest('hex')}`)
  return [`t=${unixSeconds}`, ...signatures].join(',')
}

import { createHmac } from 'node:crypto'
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { backoffMs } from '../lib/backoff.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS, HOUR_MS, SECOND_MS } from '../lib/period.ts'

/** Where webhooks may go. */
export type DestinationPolicy = {
  /** Whether this machine is fine too, by http as well: while the Stripe sandbox stands in for Stripe. */
  readonly allowLoopback: boolean
}

const LONGEST_URL = 2_000
/** Of the public network, https as it is usually served: not a way to reach somebody's database or mail server. */
const PUBLIC_PORTS: ReadonlySet<string> = new Set(['', '443', '8443'])

/**
 * The address of an endpoint, if webhooks may go there as far as its text tells. Whom its name leads to is checked on each connection.
 * @throws DomainError `invalid_request`
 */
export function parseEndpointUrl(text: string, policy: DestinationPolicy): URL {
  const refuse = (why: string): never => {
    throw new DomainError('invalid_request', `url: ${why}`, { field: 'url' })
  }
  const url = URL.canParse(text) ? new URL(text) : refuse('an address such as https://example.com/hooks is expected.')
  if (text.length > LONGEST_URL) refuse(`at most ${LONGEST_URL} characters are expected.`)
  if (url.username !== '' || url.password !== '')
    refuse('it must hold no user name or password; the signature says who is calling.')
  if (url.hash !== '') refuse('it must have no fragment.')
  const host = hostOf(url)
  const local = host === 'localhost' || isLoopback(host)
  if (policy.allowLoopback && local && (url.protocol === 'http:' || url.protocol === 'https:')) return url
  if (url.protocol !== 'https:') refuse('https is expected.')
  if (!PUBLIC_PORTS.has(url.port)) refuse('port 443 or 8443 is expected.')
  if (isIP(host) !== 0 && !isAllowedAddress(host, url, policy)) refuse('this address is not on the public network.')
  return url
}

/** The host without the brackets of an IPv6 address. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1')
}

/** Answer to everybody on a cloud's machines, though they look public: Azure's platform address. */
const METADATA: ReadonlySet<string> = new Set(['168.63.129.16'])
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/**
 * Whether a connection may be made to an address: only to the public network, and to this machine where that is allowed. Everything else that an
 * address can stand for is refused: private, loopback, link-local (metadata services), shared (CGNAT), multicast, reserved, and
 * every IPv6 form that carries an IPv4 address (mapped, NAT64, 6to4, Teredo).
 */
export function isAllowedAddress(address: string, url: Pick<URL, 'protocol'>, { allowLoopback }: DestinationPolicy): boolean {
  if (isLoopback(address)) return allowLoopback
  // Without TLS only this machine is spoken to.
  if (url.protocol !== 'https:' || isIP(address) === 0) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast' || METADATA.has(parsed.toString())) return false
  return parsed.kind() === 'ipv4' || parsed.match(GLOBAL_UNICAST)
}

function isLoopback(address: string): boolean {
  return isIP(address) !== 0 && ipaddr.parse(address).range() === 'loopback'
}

/** Whether an endpoint asked for a type: by its name, as `invoice.*`, or as `*`. */
export function isWanted(eventTypes: readonly string[], type: string): boolean {
  return eventTypes.some(
    (wanted) => wanted === '*' || wanted === type || (wanted.endsWith('.*') && type.startsWith(wanted.slice(0, -1))),
  )
}

/** A delivery is tried for this long, and an endpoint may fail for this long. */
export const PATIENCE_MS = 3 * DAY_MS
const BACKOFF = { firstMs: 5 * SECOND_MS, mostMs: 4 * HOUR_MS }

/**
 * When a delivery that failed is tried again; null when it is given up. The last attempt is made when the time is just over.
 * @param failures of this round, 1 or more
 */
export function nextAttemptAt(
  { failures, giveUpAt, seed }: { failures: number; giveUpAt: Instant; seed: string },
  now: Instant,
): Instant | null {
  if (now >= giveUpAt) return null
  return new Date(Math.min(now.getTime() + backoffMs(failures, BACKOFF, seed), giveUpAt.getTime()))
}

/** How an event is told: what receivers verify byte by byte. */
export type Message = { readonly id: string; readonly sentAt: Instant; readonly body: string }

/**
 * The headers of Standard Webhooks (https://www.standardwebhooks.com): one signature for each secret that is valid.
 * @param secrets `whsec_` and base64
 */
export function signedHeaders({ id, sentAt, body }: Message, secrets: readonly string[]): Record<string, string> {
  const timestamp = String(Math.floor(sentAt.getTime() / SECOND_MS))
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
    return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`
  })
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') }
}

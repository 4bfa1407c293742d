import ipaddr from 'ipaddr.js'

/** The connection of a request, as @hono/node-server and node:http give it. */
export type Connection = { readonly incoming?: { readonly socket?: { readonly remoteAddress?: string | undefined } } }

/** Whether a text is an address or a range of addresses. */
export function isProxy(text: string): boolean {
  return ipaddr.isValid(text) || ipaddr.isValidCIDR(text)
}

/** Addresses and ranges of our own proxies, e.g. `10.0.0.0/8`. @throws Error for one that is neither */
export function readTrustedProxies(ranges: readonly string[]): readonly [ipaddr.IPv4 | ipaddr.IPv6, number][] {
  return ranges.map((range) => {
    if (range.includes('/')) return ipaddr.parseCIDR(range)
    const address = ipaddr.parse(range)
    return [address, address.kind() === 'ipv4' ? 32 : 128]
  })
}

/**
 * From where a request comes: the other end of its connection; when that is a proxy of ours, the nearest address in
 * `X-Forwarded-For` that is none. What stands further left was written by the caller, and is not believed. Null when it is not known.
 */
export function clientAddress(
  connection: Connection,
  forwardedFor: string | null,
  trustedProxies: ReturnType<typeof readTrustedProxies>,
): string | null {
  const hops = [...(forwardedFor ?? '').split(','), connection.incoming?.socket?.remoteAddress ?? '']
  for (const hop of hops.toReversed()) {
    const text = hop.trim()
    if (!ipaddr.isValid(text)) return null
    const address = ipaddr.process(text)
    if (!trustedProxies.some(([network, bits]) => address.kind() === network.kind() && address.match(network, bits))) {
      return address.toString()
    }
  }
  return null
}

import { createHash } from 'node:crypto'

export type Backoff = { readonly firstMs: number; readonly mostMs: number }

/** Up to this share of a delay is taken off it, so that what failed together is not tried again together. */
const JITTER = 0.25

/**
 * How long to wait after the given number of failures (1 or more): twice as long each time, up to `mostMs`, less a jitter that follows from
 * `seed`, so that the same thing has the same delays on every server.
 */
export function backoffMs(failures: number, { firstMs, mostMs }: Backoff, seed: string): number {
  const full = Math.min(firstMs * 2 ** Math.min(failures - 1, 40), mostMs)
  return Math.round(full * (1 - JITTER * shareOf(`${seed}:${failures}`)))
}

/** A number from 0 to less than 1 that follows from a text. */
function shareOf(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE(0) / 2 ** 32
}

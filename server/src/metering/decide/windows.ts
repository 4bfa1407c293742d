import type { RateLimit } from '../../catalog/catalog.ts'
import type { Instant } from '../../lib/clock.ts'
import { SECOND_MS } from '../../lib/period.ts'
import type { Quantity } from '../../lib/quantity.ts'

/** What was accepted of a meter within a slice of time that ends at `endMs`. */
export type Slot = { readonly endMs: number; readonly quantity: Quantity }

/** What was accepted of a limited meter lately. */
export type RateWindow = { readonly organizationId: string; readonly meter: string; readonly slots: readonly Slot[] }

/** A use of a limited meter. */
export type PacedUse = {
  readonly organizationId: string
  readonly meter: string
  readonly limit: RateLimit
  readonly quantity: Quantity
  readonly now: Instant
}

// What was accepted counts until its slice has left the window: never too little, and at most a fiftieth of the window too long.
const SLICES = 50

/**
 * Sliding windows over what was accepted, in fifty slices: in no span of the limit's length is more than the limit accepted, also
 * not around a full minute. What is accepted is free again after the limit's length, or at most a fiftieth of it later.
 *
 * A clock that goes back by less than a window still counts what was accepted; one that goes back further begins anew.
 */
export class RateWindows {
  readonly #slots = new Map<string, readonly Slot[]>()
  readonly #changed = new Map<string, RateWindow>()

  constructor(windows: readonly RateWindow[]) {
    for (const window of windows) this.#slots.set(nameOf(window), window.slots)
  }

  get changed(): readonly RateWindow[] {
    return [...this.#changed.values()]
  }

  /** How long until a use fits, in milliseconds: 0 when it fits now, null for what is larger than the limit itself and never fits. */
  waitMs(use: PacedUse): number | null {
    if (use.quantity > use.limit.limit) return null
    const windowMs = use.limit.seconds * SECOND_MS
    const slots = this.#liveSlots(use)
    let room = use.limit.limit - use.quantity - slots.reduce((sum, { quantity }) => sum + quantity, 0n)
    if (room >= 0n) return 0
    for (const { endMs, quantity } of slots) {
      room += quantity
      if (room >= 0n) return endMs + windowMs - use.now.getTime()
    }
    return windowMs
  }

  /** Counts what was accepted, at the time at which it happened. */
  add(use: PacedUse, occurredAt: Instant): void {
    const nowMs = use.now.getTime()
    const windowMs = use.limit.seconds * SECOND_MS
    const sliceMs = windowMs / SLICES
    const endMs = (Math.floor(Math.min(occurredAt.getTime(), nowMs) / sliceMs) + 1) * sliceMs
    if (use.quantity <= 0n || endMs + windowMs <= nowMs) return
    const slots = this.#liveSlots(use)
    const same = slots.find((slot) => slot.endMs === endMs)
    const added = { endMs, quantity: use.quantity + (same?.quantity ?? 0n) }
    const kept = [...slots.filter((slot) => slot !== same), added].toSorted((a, b) => a.endMs - b.endMs)
    this.#slots.set(nameOf(use), kept)
    this.#changed.set(nameOf(use), { organizationId: use.organizationId, meter: use.meter, slots: kept })
  }

  #liveSlots(use: PacedUse): readonly Slot[] {
    const nowMs = use.now.getTime()
    const windowMs = use.limit.seconds * SECOND_MS
    return (this.#slots.get(nameOf(use)) ?? []).filter(({ endMs }) => endMs + windowMs > nowMs && endMs <= nowMs + windowMs)
  }
}

function nameOf({ organizationId, meter }: { organizationId: string; meter: string }): string {
  return `${organizationId}\n${meter}`
}

import type { QuantityInput, UsageInput } from './usage.ts'

/** A use that was let through while the server was away. */
export type QueuedUse = UsageInput & {
  readonly kind?: 'use'
  readonly idempotencyKey: string
  /** When it happened. */
  readonly occurredAt?: Date | string
  /** How it was sent at first, to an answer that never came; left out where it was not sent. */
  readonly sentAs?: { readonly verb: 'consume' | 'track'; readonly occurredAt?: Date | string }
}

/** What held work came to, told while the server was away. */
export type QueuedSettlement = {
  readonly kind: 'settlement'
  readonly reservationId: string
  readonly quantity?: QuantityInput
  readonly organizationId?: string
}

/** A use that was refused because no answer came: if it was counted after all, it is to be taken back. */
export type QueuedRetraction = {
  readonly kind: 'retraction'
  readonly idempotencyKey: string
  readonly refusedAt: string
  readonly organizationId?: string
}

export type QueuedCall = QueuedUse | QueuedSettlement | QueuedRetraction

/** A call that the server does not take, and that is not tried any more: somebody looks at it. */
export type ParkedCall = QueuedCall & {
  readonly parked: { readonly at: string; readonly tries: number; readonly status: number; readonly error: string }
}

/** Where such calls wait. `append` resolves when the call is as safe as this queue can make it. */
export type LocalQueue = {
  /** A call of the same name (see `nameOf`) is replaced, in its place. One that was parked waits again. */
  append(call: QueuedCall): Promise<void>
  /** In the order in which they were appended, without those that are parked. */
  list(): Promise<readonly QueuedCall[]>
  /** Forgets one that waits, or is parked. */
  remove(call: QueuedCall): Promise<void>
  /** Puts one aside, where it is kept. */
  park(call: ParkedCall): Promise<void>
  parked(): Promise<readonly ParkedCall[]>
}

/** What a call is known by in its queue. A key belongs to one organization; no key and no organization holds a NUL. */
export function nameOf(call: QueuedCall): string {
  const { organizationId = '' } = call
  if (call.kind === 'settlement') return `${organizationId}\0${call.reservationId}\0settlement`
  if (call.kind === 'retraction') return `${organizationId}\0${call.idempotencyKey}\0retraction`
  return organizationId === '' ? call.idempotencyKey : `${organizationId}\0${call.idempotencyKey}`
}

const LONGEST_KEY = 255

/** A key made from another; where that would be longer than the server takes, from its hash. */
export async function derivedKey(idempotencyKey: string, suffix: string): Promise<string> {
  const key = `${idempotencyKey}:${suffix}`
  if (key.length <= LONGEST_KEY) return key
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(idempotencyKey)))
  return `sha256:${Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('')}:${suffix}`
}

/** What a queue holds, by name. */
export type HeldCalls = { readonly waiting: Map<string, QueuedCall>; readonly parked: Map<string, ParkedCall> }

/** What becomes of a queue, as its file has it: a call that is added or parked, or the name of one that is removed. */
export type QueueChange = { readonly add: QueuedCall } | { readonly park: ParkedCall } | { readonly remove: string }

export function applyChange({ waiting, parked }: HeldCalls, change: QueueChange): void {
  if ('add' in change) {
    parked.delete(nameOf(change.add))
    waiting.set(nameOf(change.add), change.add)
  } else if ('park' in change) {
    waiting.delete(nameOf(change.park))
    parked.set(nameOf(change.park), change.park)
  } else {
    waiting.delete(change.remove)
    parked.delete(change.remove)
  }
}

/** A queue that ends with its process: for Workers, which have no files. */
export function createMemoryQueue(): LocalQueue {
  const held: HeldCalls = { waiting: new Map(), parked: new Map() }
  return {
    append: async (call) => applyChange(held, { add: call }),
    list: async () => [...held.waiting.values()],
    remove: async (call) => applyChange(held, { remove: nameOf(call) }),
    park: async (call) => applyChange(held, { park: call }),
    parked: async () => [...held.parked.values()],
  }
}

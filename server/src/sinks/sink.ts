import type { UsageProperties } from '../metering/usage.ts'

/** Use as it is forwarded. `quantity` is a decimal text; of a correction it can be below zero. */
export type ForwardedUse = {
  readonly id: string
  readonly organizationId: string
  readonly meter: string
  readonly quantity: string
  readonly occurredAt: Date
  readonly recordedAt: Date
  readonly properties: UsageProperties | null
}

/** An event that will never be taken, and why. */
export type Rejection = { readonly id: string; readonly reason: string }

/** Somewhere that use is forwarded to. */
export type Sink = {
  /** Names its cursor: a sink under another name begins anew. */
  readonly name: string
  /** How many events it takes at once. */
  readonly batchSize: number
  /**
   * Delivers a batch; an event that was delivered before must not count twice. Answers those that it will never take.
   * @throws Error when it is not known to have taken the batch: the same batch comes again
   */
  deliver(batch: readonly ForwardedUse[], signal: AbortSignal): Promise<readonly Rejection[]>
}

import { isAway, TollgateError } from './errors.ts'
import { creditHeaders, describeRefusal, type RefusalStatus } from './quota.ts'
import type { QuantityInput, UsageClient } from './usage.ts'

export type MeteredCallOptions = {
  readonly meter: string
  /** What one call uses, or at most uses when the true cost is known afterwards. Default 1. */
  readonly quantity?: QuantityInput
  /** Other statuses for refusals by their code, e.g. `{ quota_exceeded: 403 }` (CB-5). */
  readonly statuses?: Readonly<Record<string, RefusalStatus>>
}

/** What is answered instead of running the handler: a refusal by quota or standing, or Tollgate's own 401, 403 or 503. */
export type CallRefusal = { readonly status: RefusalStatus | 401 | 503; readonly body: Record<string, unknown> }

/** A call whose cost is held, or refused. */
export type MeteredCall = {
  /** The headers of EM-5, to be sent with whatever is answered. */
  readonly headers: Readonly<Record<string, string>>
  /** What to answer instead of running the handler; null when the call may run. */
  readonly refusal: CallRefusal | null
  /**
   * Records the call when it succeeded (with what it came to, where that is known), gives back what was held when it did
   * not (EM-3). To be awaited before the answer is sent, so that an answer means recorded.
   */
  finish(outcome: { readonly ok: boolean; readonly quantity?: QuantityInput | undefined }): Promise<void>
}

/**
 * Holds the cost of a call before its handler runs. Because it is held, calls that run at the same moment cannot overshoot a
 * quota together. Every adapter (Hono, Express, Fastify, fetch handlers) is this with the framework's own words.
 */
export async function beginMeteredCall(client: UsageClient, options: MeteredCallOptions): Promise<MeteredCall> {
  try {
    return await holdCost(client, options)
  } catch (error) {
    const passedOn = passOn(error)
    if (passedOn === null) throw error
    return passedOn
  }
}

/** A wrong or revoked key, a scope that is missing and a server that is away are answered as such, not as a failure of the host. */
function passOn(error: unknown): MeteredCall | null {
  const passedOn = refusalOf(error)
  return passedOn === null ? null : { ...passedOn, finish: async () => undefined }
}

/** A refusal of the server's own, as an answer of the host; null for what is the host's failure. */
export function refusalOf(error: unknown): (Pick<MeteredCall, 'headers'> & { readonly refusal: CallRefusal }) | null {
  if (isAway(error)) {
    const body = { error: 'tollgate_unreachable', message: 'Use cannot be counted at the moment; try again shortly.' }
    return { headers: { 'Retry-After': '1' }, refusal: { status: 503, body } }
  }
  if (!(error instanceof TollgateError) || (error.status !== 401 && error.status !== 403)) return null
  return { headers: {}, refusal: { status: error.status, body: { error: error.code, message: error.message } } }
}

async function holdCost(client: UsageClient, options: MeteredCallOptions): Promise<MeteredCall> {
  const held = await client.reserve({ meter: options.meter, quantity: options.quantity ?? 1 })
  const headers = {
    ...(held.balance === null ? {} : creditHeaders(held.balance)),
    ...(held.retry_after === undefined ? {} : { 'Retry-After': String(held.retry_after) }),
  }
  const reservationId = held.reservation_id
  if (!held.allowed || reservationId === undefined) {
    return { headers, refusal: await describeRefusal(client, held, options.statuses), finish: async () => undefined }
  }
  return {
    headers,
    refusal: null,
    async finish({ ok, quantity }) {
      if (ok) await client.settle(reservationId, quantity === undefined ? {} : { quantity })
      else await client.release(reservationId)
    },
  }
}

/** The answer to a call that carries no key. */
export const UNAUTHENTICATED = { error: 'unauthenticated', message: 'An API key is needed.' } as const

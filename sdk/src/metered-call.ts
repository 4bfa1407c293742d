import { isAway, TollgateError, UNREACHABLE } from './errors.ts'
import { creditHeaders, describeRefusal, type RefusalStatus } from './quota.ts'
import { report } from './report.ts'
import type { QuantityInput, UsageAnswer, UsageClient } from './usage.ts'

/** What a metered call is told by, whatever the framework. */
export type MeteredTerms = {
  readonly meter: string
  /** Other statuses for refusals by their code, e.g. `{ quota_exceeded: 403 }` (CB-5). */
  readonly statuses?: Readonly<Record<string, RefusalStatus>>
  /**
   * Told what went wrong beside a call that was done: a quantity that could not be read (what was held is recorded), a hold that could
   * not be given back (it ends by itself), a stream that could not be recorded. Default `console.error`.
   */
  readonly onError?: (error: unknown) => void
}

export type MeteredCallOptions = MeteredTerms & {
  /** What one call uses, or at most uses when the true cost is known afterwards. Default 1. */
  readonly quantity?: QuantityInput
}

/** What is answered instead of running the handler: a refusal by quota or standing, or Tollgate's own 401, 403 or 503. */
export type CallRefusal = { readonly status: RefusalStatus | 401 | 503; readonly body: Record<string, unknown> }

/** How a call ended. */
export type CallOutcome = {
  /** The status of the answer. */
  readonly status: number
  /** Reads what the call came to, of a call that succeeded; without it, and where it answers nothing, what was held is recorded. */
  readonly quantity?: () => QuantityInput | undefined
}

type CreditHeaders = Readonly<Record<string, string>>

/** A call whose cost is held, or refused. */
export type MeteredCall = {
  /** The headers of EM-5 while the cost is held, for what is answered before the call has ended: a refusal, a stream. */
  readonly headers: CreditHeaders
  /** What to answer instead of running the handler; null when the call may run. */
  readonly refusal: CallRefusal | null
  /**
   * Records the call when it succeeded (with what it came to, where that is known), gives back what was held when it did
   * not (EM-3). To be awaited before the answer is sent, so that an answer means recorded. Answers the headers of EM-5 as
   * they stand then. A call ends once: asked again, it answers the same.
   */
  finish(outcome: CallOutcome): Promise<CreditHeaders>
}

/** Whether an answer means that the call was done: everything below 400, a redirect too. Else it costs nothing (EM-3). */
export function isSuccess(status: number): boolean {
  return status < 400
}

/** Tells an error that must not end what is under way. */
export function tell({ onError = console.error }: Pick<MeteredTerms, 'onError'>, error: unknown): void {
  report(() => onError(error))
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
  return passedOn === null ? null : { ...passedOn, finish: async () => passedOn.headers }
}

type PassedOn = Pick<MeteredCall, 'headers'> & { readonly refusal: CallRefusal }

const AWAY: PassedOn = {
  headers: { 'Retry-After': '1' },
  refusal: { status: 503, body: { error: UNREACHABLE, message: 'Use cannot be counted at the moment; try again shortly.' } },
}

/** A refusal of the server's own, as an answer of the host; null for what is the host's failure. */
export function refusalOf(error: unknown): PassedOn | null {
  if (isAway(error)) return AWAY
  if (!(error instanceof TollgateError) || (error.status !== 401 && error.status !== 403)) return null
  return { headers: {}, refusal: { status: error.status, body: { error: error.code, message: error.message } } }
}

async function holdCost(client: UsageClient, options: MeteredCallOptions): Promise<MeteredCall> {
  const held = await client.reserve({ meter: options.meter, quantity: options.quantity ?? 1 })
  // A resilient client that refuses (`closed`) had no answer either.
  if (!held.allowed && held.code === UNREACHABLE) return { ...AWAY, finish: async () => AWAY.headers }
  const headers = {
    ...(held.balance === null ? {} : creditHeaders(held.balance)),
    ...(held.retry_after === undefined ? {} : { 'Retry-After': String(held.retry_after) }),
  }
  const reservationId = held.reservation_id
  if (!held.allowed || reservationId === undefined) {
    return { headers, refusal: await describeRefusal(client, held, options.statuses), finish: async () => headers }
  }
  let finished: Promise<CreditHeaders> | undefined
  async function end(outcome: CallOutcome): Promise<CreditHeaders> {
    const ended = isSuccess(outcome.status)
      ? await settleCall(client, options, { reservationId: reservationId!, quantity: outcome.quantity })
      : await releaseCall(client, options, reservationId!)
    return ended?.balance ? creditHeaders(ended.balance) : headers
  }
  return { headers, refusal: null, finish: (outcome) => (finished ??= end(outcome)) }
}

/** Records a call that was done. What it came to may be unreadable, or no quantity; then what was held is recorded. */
async function settleCall(
  client: UsageClient,
  options: MeteredTerms,
  { reservationId, quantity: read }: { readonly reservationId: string; readonly quantity: CallOutcome['quantity'] },
): Promise<UsageAnswer> {
  try {
    const quantity = read?.()
    if (quantity !== undefined) return await client.settle(reservationId, { quantity })
  } catch (error) {
    if (isAway(error) || (error instanceof TollgateError && error.status !== 400 && error.status !== 422)) throw error
    tell(options, error)
  }
  return client.settle(reservationId, {})
}

/** Gives back what was held. Where that fails the hold ends by itself, so the call's own failure is answered all the same. */
async function releaseCall(client: UsageClient, options: MeteredTerms, reservationId: string): Promise<UsageAnswer | null> {
  try {
    return await client.release(reservationId)
  } catch (error) {
    tell(options, error)
    return null
  }
}

/** The answer to a call that carries no key. */
export const UNAUTHENTICATED = { error: 'unauthenticated', message: 'An API key is needed.' } as const

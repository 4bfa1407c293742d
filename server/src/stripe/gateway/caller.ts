import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '../log.ts'
import { toStripeCallError, type StripeCallError, type WireError } from './errors.ts'
import type { CallPriority, StripeLimiter } from './limiter.ts'

/** What is read of an error that the SDK throws. */
export type SdkError = Omit<WireError, 'call'> & {
  readonly message: string
  readonly requestId?: string | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export type Calling = {
  readonly limiter: StripeLimiter
  readonly log: Log
  readonly isSdkError: (error: unknown) => error is SdkError
}

/** Of too many calls, and of a conflict: while Stripe works on the same thing for another request. */
const BUSY_WAITS_MS = [500, 1_000, 2_000, 4_000]
/** Of what was not answered, or answered with a failure of Stripe's own: twice more, as the SDK would. */
const REPEAT_WAITS_MS = [500, 1_000]

/**
 * Makes calls: waits for its turn, waits longer when Stripe throttles or works on the same thing already, repeats under the same key what was not answered, and turns the
 * SDK's errors into ours; their words go to the log only. Repeats are made here and not by the SDK, whose last error would hide that an
 * attempt before it was sent and never answered.
 */
export function createCaller({ limiter, log, isSdkError }: Calling) {
  return async function call<T>(name: string, priority: CallPriority, make: () => Promise<T>): Promise<T> {
    let mayComeTrue = false
    for (let busy = 0, repeated = 0; ;) {
      await limiter.take(name, priority)
      try {
        return await make()
      } catch (error) {
        if (!isSdkError(error)) throw error
        const translated = toStripeCallError({ ...readError(error), call: name })
        const isBusy = error.type === 'StripeRateLimitError' || (error.statusCode === 409 && isRepeated(error))
        const waitMs = isBusy ? BUSY_WAITS_MS[busy] : isRepeated(error) ? REPEAT_WAITS_MS[repeated] : undefined
        mayComeTrue ||= translated.outcome === 'unanswered'
        note(log, name, error, translated, waitMs)
        if (waitMs === undefined) throw mayComeTrue ? translated.afterUnanswered() : translated
        busy += isBusy ? 1 : 0
        repeated += isBusy ? 0 : 1
        await delay(waitMs)
      }
    }
  }
}

/** As Stripe says, and where it says nothing as its package does: what got no answer, a conflict, a failure of Stripe's own. */
function isRepeated({ statusCode, headers }: SdkError): boolean {
  const said = headers?.['stripe-should-retry']
  if (said === 'true' || said === 'false') return said === 'true'
  return statusCode === undefined || statusCode === 409 || statusCode >= 500
}

function readError({ type, statusCode, code, decline_code, param, detail }: SdkError): Omit<WireError, 'call'> {
  return {
    type,
    ...(statusCode === undefined ? {} : { statusCode }),
    ...(code === undefined ? {} : { code }),
    ...(decline_code === undefined ? {} : { decline_code }),
    ...(param === undefined ? {} : { param }),
    ...(detail === undefined ? {} : { detail }),
  }
}

function note(log: Log, call: string, error: SdkError, { outcome }: StripeCallError, waitMs: number | undefined): void {
  if (error.type === 'StripeRateLimitError' && waitMs !== undefined) {
    log.warn({ event: 'stripe.throttled', call, wait_ms: waitMs }, 'Stripe asks for fewer calls')
    return
  }
  const { requestId, type, statusCode, code, decline_code, param, message } = error
  log.warn(
    {
      call,
      stripe_request_id: requestId,
      type,
      status: statusCode,
      code,
      decline_code,
      param,
      reason: message,
      outcome,
      ...(waitMs === undefined ? {} : { wait_ms: waitMs }),
    },
    'a call to Stripe failed',
  )
}

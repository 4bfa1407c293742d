import { setTimeout as delay } from 'node:timers/promises'
import { startLoop } from '../jobs/loop.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from './context.ts'
import { handleDueEvents } from './inbox/inbox.ts'
import { isTakingIn } from './inbox/intake.ts'
import { recoverMissedEvents } from './inbox/missed-events.ts'
import { AFTER_RUSH, BUSY, CALM, createPacing } from './inbox/pacing.ts'
import { finishStrandedIntents } from './intents/finish-intents.ts'
import { reconcileSome } from './reconcile/reconcile.ts'

/** What works in the background on what comes from Stripe. */
export type StripeWorkers = {
  /** Says that an event has just been stored, so that it is handled at once. */
  kick(): void
  /** Says that a comparison with Stripe was asked for. */
  reconcile(): void
  /** Lets what is under way come to its end, and starts nothing more. */
  stop(): Promise<void>
}

const POLL_MS = 500
const RUSH_LOOK_MS = 500
const AFTER_FAILURE_MS = 2_000
const HOUSEKEEPING_MS = MINUTE_MS

/**
 * Starts the inbox's worker and the housekeeping (stranded intents, missed events, reconciliation). Any number of processes may run
 * them: the organizations' locks keep them apart. Without a Stripe key there is nothing to do.
 */
export function startStripeWorkers(context: BillingContext): StripeWorkers {
  const stopping = new AbortController()
  if (context.gateway === null) return { kick: () => undefined, reconcile: () => undefined, stop: async () => undefined }
  let wake: (() => void) | null = null
  let kicked = false
  const pacing = createPacing()

  /** Until a kick, the next poll, or the end. */
  async function pause(ms: number): Promise<void> {
    if (kicked) return
    const waking = new Promise<void>((resolve) => {
      wake = resolve
    })
    const timer = new AbortController()
    const signal = AbortSignal.any([timer.signal, stopping.signal])
    await Promise.race([waking, delay(ms, undefined, { signal }).catch(() => undefined)])
    timer.abort()
    wake = null
  }

  const rest = (ms: number) => delay(ms, undefined, { signal: stopping.signal }).catch(() => undefined)

  const isRush = () => pacing.rushMs(performance.now()) > 0

  /** In a rush hardly anything is due: it is looked for at its end, and now and then. It is not over while what came is being stored. */
  async function rushOver(mostMs: number): Promise<boolean> {
    if (!isRush()) return false
    const until = performance.now() + mostMs
    while ((isRush() || isTakingIn(context)) && performance.now() < until && !stopping.signal.aborted) {
      await rest(Math.max(pacing.rushMs(performance.now()), 2))
    }
    return !isRush()
  }

  async function handleInbox(): Promise<void> {
    let calm = CALM
    while (!stopping.signal.aborted) {
      kicked = false
      const wasRush = isRush()
      const handled = await guarded(context, 'inbox', () =>
        // Where a rush begins meanwhile, storing goes first.
        handleDueEvents(context, { quiet: wasRush ? BUSY : calm, isInterrupted: () => !wasRush && isRush() }),
      )
      if (handled === null) await pause(AFTER_FAILURE_MS)
      if (handled !== 0) continue
      // What came a moment ago is due when its customer has been quiet.
      await pause(performance.now() - pacing.lastMs < CALM.mostMs ? CALM.quietMs : POLL_MS)
      if (kicked) await rest(CALM.quietMs)
      calm = (await rushOver(RUSH_LOOK_MS)) ? AFTER_RUSH : CALM
    }
  }

  async function keepHouse(): Promise<number> {
    await guarded(context, 'intents', () => finishStrandedIntents(context))
    await guarded(context, 'missed events', () => recoverMissedEvents(context, { signal: stopping.signal }))
    return 0
  }

  /** Goes on for as long as somebody is due; the rate limit lets everybody else's calls pass first. */
  async function compare(): Promise<number> {
    return (await guarded(context, 'reconciliation', () => reconcileSome(context, stopping.signal))) ?? 0
  }

  const onFailure = () => undefined
  const housekeeping = startLoop({ run: keepHouse, pollMs: HOUSEKEEPING_MS, onFailure })
  const comparing = startLoop({ run: compare, pollMs: HOUSEKEEPING_MS, onFailure })
  const inbox = handleInbox()
  return {
    kick() {
      kicked = true
      pacing.came(performance.now())
      wake?.()
    },
    reconcile() {
      housekeeping.kick()
      comparing.kick()
    },
    async stop() {
      stopping.abort()
      wake?.()
      await Promise.all([inbox, housekeeping.stop(), comparing.stop()])
    },
  }
}

/** A background task that fails is logged and tried again later; it never ends the process. */
async function guarded<Result>(context: BillingContext, task: string, work: () => Promise<Result>): Promise<Result | null> {
  try {
    return await work()
  } catch (error) {
    context.log.warn(
      { event: 'stripe.worker_failed', task, err: error },
      'a background task of billing failed; it is tried again',
    )
    return null
  }
}

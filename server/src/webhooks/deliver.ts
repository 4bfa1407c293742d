import type { Db, Transaction } from '../db/database.ts'
import { publishEvent } from '../events/actions.ts'
import { ALL_ORGANIZATIONS } from '../events/types.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { Seal } from '../lib/seal.ts'
import { claimDeliveries, insertAttempt, lockDelivery, settleDelivery, type ClaimedDelivery } from './delivery-store.ts'
import { disableEndpoint, markFailing, markHealthy, type DisabledReason } from './endpoint-store.ts'
import type { Post, PostOutcome } from './post.ts'
import { nextAttemptAt, PATIENCE_MS, signedHeaders } from './rules.ts'

export type DeliveringContext = {
  readonly db: Db
  readonly clock: Clock
  readonly seal: Seal
  readonly post: Post
  /** Told, after the commit, what came of each attempt, and of each endpoint that was disabled. For metrics and the log. */
  readonly onDelivery?: (outcome: 'delivered' | 'retried' | 'failed') => void
  readonly onDisabled?: (endpoint: { id: string; organizationId: string; reason: DisabledReason }) => void
}

/** Makes the deliveries that are due, many side by side, each on its own. */
export type Deliverer = {
  /** Begins what is due, as far as there is room, and answers how much that was. What it began goes on meanwhile. */
  begin(): Promise<number>
  /** Waits for what is under way. */
  finish(): Promise<void>
}

/** Longer than an attempt takes. */
const LEASE_MS = MINUTE_MS
const MOST = 128
const MOST_PER_ENDPOINT = 4

/**
 * @param onRoom called when an attempt has ended, so that there is room for another
 */
export function createDeliverer(context: DeliveringContext, onRoom: () => void = () => undefined): Deliverer {
  const underWay = new Set<Promise<void>>()
  const busy = new Map<string, number>()
  let after = ''

  async function make(delivery: ClaimedDelivery): Promise<void> {
    const { endpointId } = delivery
    busy.set(endpointId, (busy.get(endpointId) ?? 0) + 1)
    try {
      await deliver(context, delivery)
    } finally {
      const left = (busy.get(endpointId) ?? 1) - 1
      if (left === 0) busy.delete(endpointId)
      else busy.set(endpointId, left)
    }
  }

  async function claim(room: number): Promise<readonly ClaimedDelivery[]> {
    const now = context.clock.now()
    const leaseEnd = new Date(now.getTime() + LEASE_MS)
    const limits = { limit: room, limitPerEndpoint: MOST_PER_ENDPOINT, busy: Object.fromEntries(busy) }
    const claimed = await claimDeliveries(context.db, { now, leaseEnd, ...limits, after })
    const wasFirst = after === ''
    // Where there was less than asked for, the last endpoint was passed: the next round begins at the first.
    after = claimed.length < room ? '' : claimed.at(-1)!.endpointId
    return claimed.length === 0 && !wasFirst ? claim(room) : claimed
  }

  return {
    async begin() {
      const room = MOST - underWay.size
      if (room === 0) return 0
      const claimed = await claim(room)
      for (const delivery of claimed) {
        // What could not be written is delivered again when its lease is over.
        const making: Promise<void> = make(delivery)
          .catch(() => undefined)
          .finally(() => {
            underWay.delete(making)
            onRoom()
          })
        underWay.add(making)
      }
      return claimed.length
    },
    async finish() {
      await Promise.all(underWay)
    },
  }
}

/** One attempt: signed, sent, and what came of it written down. */
async function deliver(context: DeliveringContext, delivery: ClaimedDelivery): Promise<void> {
  const attemptedAt = context.clock.now()
  const outcome = await send(context, delivery, attemptedAt)
  const result = await context.db.transaction((tx) => record(context, tx, delivery, { attemptedAt, outcome }))
  if (result === null) return
  context.onDelivery?.(result.delivered ? 'delivered' : result.given ? 'failed' : 'retried')
  if (result.disabled !== null) {
    context.onDisabled?.({ id: delivery.endpointId, ...result.disabled })
  }
}

async function send(context: DeliveringContext, delivery: ClaimedDelivery, sentAt: Instant): Promise<PostOutcome> {
  const { event } = delivery
  const body = JSON.stringify({
    id: event.id,
    type: event.type,
    timestamp: event.occurredAt.toISOString(),
    organization_id: event.organizationId === ALL_ORGANIZATIONS ? null : event.organizationId,
    data: event.data,
  })
  let secrets: string[]
  try {
    secrets = [delivery.secret, ...delivery.previousSecrets].map((sealed) => context.seal.open(sealed))
  } catch {
    const error = 'The signing secret cannot be read: TOLLGATE_SECRET was changed. Rotate the secret of this endpoint.'
    return { status: null, error, response: null, durationMs: 0 }
  }
  return context.post({ url: new URL(delivery.url), headers: signedHeaders({ id: event.id, sentAt, body }, secrets), body })
}

const GONE = 410

type Recorded = {
  readonly delivered: boolean
  readonly given: boolean
  readonly disabled: { readonly organizationId: string; readonly reason: DisabledReason } | null
}

/** Writes an attempt down; null when the endpoint is gone. Locks the endpoint before the delivery, as disabling it does. */
async function record(
  context: DeliveringContext,
  tx: Transaction,
  delivery: ClaimedDelivery,
  { attemptedAt, outcome }: { attemptedAt: Instant; outcome: PostOutcome },
): Promise<Recorded | null> {
  const { endpointId, number, giveUpAt, attemptsBefore } = delivery
  const now = context.clock.now()
  const delivered = outcome.status !== null && outcome.status >= 200 && outcome.status < 300
  const failingSince = delivered ? null : await markFailing(tx, endpointId, attemptedAt)
  if (delivered) await markHealthy(tx, endpointId)
  if (!(await lockDelivery(tx, delivery))) return null
  await insertAttempt(tx, { ...delivery, attemptedAt, outcome })
  const seed = `${endpointId}:${delivery.eventId}`
  const next = delivered ? null : nextAttemptAt({ failures: number - attemptsBefore, giveUpAt, seed }, now)
  const state = delivered ? 'delivered' : next === null ? 'failed' : 'pending'
  const isSettled = await settleDelivery(tx, { ...delivery, state, nextAttemptAt: next ?? now })
  const disabled = failingSince === null ? null : await disableIfHopeless(tx, { endpointId, failingSince, outcome }, now)
  return { delivered, given: isSettled && state === 'failed', disabled }
}

async function disableIfHopeless(
  tx: Transaction,
  failing: { endpointId: string; failingSince: Instant; outcome: PostOutcome },
  now: Instant,
): Promise<Recorded['disabled']> {
  const { endpointId, failingSince, outcome } = failing
  const gone = outcome.status === GONE
  if (!gone && now.getTime() - failingSince.getTime() < PATIENCE_MS) return null
  const reason = gone ? 'gone' : 'failing'
  const endpoint = await disableEndpoint(tx, { id: endpointId, reason }, now)
  if (endpoint === null) return null
  await publishEvent(tx, {
    organizationId: endpoint.organizationId,
    type: 'endpoint.disabled',
    key: `endpoint.disabled:${endpointId}:${now.toISOString()}`,
    data: { endpoint_id: endpointId, url: endpoint.url, reason, failing_since: failingSince.toISOString() },
    occurredAt: now,
  })
  return { organizationId: endpoint.organizationId, reason }
}

import { Agent as HttpAgent, request as httpRequest, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'
import { realTimeMs } from '../engine/clock.ts'
import type { Ctx } from '../engine/context.ts'
import type { Engine } from '../engine/engine.ts'
import { Heap } from '../engine/heap.ts'
import type { Write } from '../engine/store.ts'
import type { Stored } from '../model/stored.ts'
import type { Chaos } from './chaos.ts'
import { signatureHeader } from './signature.ts'
import { findTarget, type Target } from './targets.ts'

export interface DeliveryOptions {
  /** Seconds to wait before the second, third, … try. After the last one the delivery has failed. */
  readonly retrySeconds: readonly number[]
  /** A receiver that takes longer has failed this try. */
  readonly timeoutMs: number
  /** Deliveries on their way at the same time. */
  readonly concurrency: number
}

export const defaultDelivery: DeliveryOptions = {
  retrySeconds: [1, 4, 15, 60, 300, 1800, 7200, 21_600, 43_200, 86_400],
  timeoutMs: 20_000,
  concurrency: 16,
}

/** A try that is farther away than this does not keep the sandbox from being settled. */
const FAR_RETRY_MS = 5000

/**
 * Sends what is queued in `_delivery`: after the commit, a few at a time, each signed anew, again and again until the receiver answers
 * 2xx or the schedule ends. The queue is part of the state, so a restart goes on where it stopped.
 */
export class Deliverer {
  private readonly engine: Engine
  private readonly chaos: Chaos
  private readonly options: DeliveryOptions
  private readonly onWay = new Set<string>()
  private readonly lateCopies = new Set<NodeJS.Timeout>()
  /** Deliveries that wait, by the time of their next try. */
  private readonly queue = new Heap()
  private sequence = 0
  private readonly waiters = new Set<() => void>()
  private readonly agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }
  private timer: NodeJS.Timeout | null = null
  private isStopped = false
  private isWoken = false

  constructor(engine: Engine, chaos: Chaos, options: DeliveryOptions) {
    this.engine = engine
    this.chaos = chaos
    this.options = options
    for (const delivery of engine.store.by('_delivery', 'state', 'pending')) this.enqueue(delivery)
  }

  /** Looks for due deliveries soon. */
  wake(): void {
    if (this.isWoken || this.isStopped) return
    this.isWoken = true
    setImmediate(() => {
      this.isWoken = false
      this.pump()
      this.notify()
    })
  }

  /** Takes note of a committed transaction's writes. */
  committed(writes: readonly Write[]): void {
    for (const { name, after } of writes) {
      if (name === '_delivery' && after !== undefined) this.enqueue(after as unknown as Stored<'_delivery'>)
    }
    if (this.next() !== null) this.wake()
  }

  /** True when nothing is on its way and nothing is due soon. */
  get isIdle(): boolean {
    if (this.onWay.size > 0 || this.isWoken || this.lateCopies.size > 0) return false
    const next = this.next()
    return next === null || next.nextAttemptMs > realTimeMs() + FAR_RETRY_MS
  }

  /** Resolves when the next delivery has come to an end. */
  progress(): Promise<void> {
    return new Promise((done) => this.waiters.add(done))
  }

  stop(): void {
    this.isStopped = true
    if (this.timer !== null) clearTimeout(this.timer)
    for (const timer of this.lateCopies) clearTimeout(timer)
    this.lateCopies.clear()
    this.agents.http.destroy()
    this.agents.https.destroy()
    this.notify()
  }

  /** Sends a delivery's event once more, at once: `POST /_sandbox/deliveries/{id}/resend`. */
  resend(id: string): void {
    this.engine.transact({ request: null, task: null }, (ctx) => {
      ctx.update('_delivery', id, { state: 'pending', nextAttemptMs: realTimeMs() })
    })
  }

  private enqueue(delivery: Stored<'_delivery'>): void {
    if (delivery.state !== 'pending') return
    this.sequence += 1
    this.queue.push({ due: delivery.nextAttemptMs, order: 0, sequence: this.sequence, key: delivery.id })
  }

  /** The first delivery that waits; entries of the queue that are out of date are dropped. */
  private next(): Stored<'_delivery'> | null {
    for (let entry = this.queue.peek(); entry !== undefined; entry = this.queue.peek()) {
      const delivery = this.engine.store.get('_delivery', entry.key)
      const isCurrent = delivery?.state === 'pending' && delivery.nextAttemptMs === entry.due && !this.onWay.has(entry.key)
      if (delivery !== undefined && isCurrent) return delivery
      this.queue.pop()
    }
    return null
  }

  private pump(): void {
    if (this.isStopped) return
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    const now = realTimeMs()
    while (this.onWay.size < this.options.concurrency) {
      const delivery = this.next()
      if (delivery === null) return
      if (delivery.nextAttemptMs > now) {
        this.timer = setTimeout(() => this.pump(), Math.min(delivery.nextAttemptMs - now, 2 ** 31 - 1))
        this.timer.unref()
        return
      }
      this.queue.pop()
      this.begin(delivery)
    }
  }

  private begin(delivery: Stored<'_delivery'>): void {
    this.onWay.add(delivery.id)
    this.attempt(delivery)
      .catch((error: unknown) => this.engine.report(error))
      .finally(() => {
        this.onWay.delete(delivery.id)
        this.notify()
        this.wake()
      })
  }

  private async attempt(delivery: Stored<'_delivery'>): Promise<void> {
    const reader = this.engine.read()
    const target = findTarget(reader, delivery.endpoint)
    const body = bodyOf(reader, delivery.event)
    if (target === null || body === null || !target.isEnabled) return this.finish(delivery, 'failed', 'endpoint gone')
    const trouble = this.chaos.forDelivery(delivery.event, target.url, delivery.attempts + 1)
    if (trouble.dropped) return this.finish(delivery, 'failed', 'dropped by chaos')
    if (trouble.waitMs > 0) await delay(trouble.waitMs)
    const results = await Promise.all(Array.from({ length: trouble.copies }, () => this.send(target, body)))
    if (this.isStopped) return
    const result = results.find(isSuccess) ?? results[0] ?? 'not sent'
    if (isSuccess(result)) {
      this.finish(delivery, 'delivered', result)
      if (trouble.lateMs !== null) this.sendLate(trouble.lateMs, target, body)
      return
    }
    const waitSeconds = this.options.retrySeconds[delivery.attempts]
    if (waitSeconds === undefined) this.finish(delivery, 'failed', result)
    else this.finish(delivery, 'pending', result, realTimeMs() + waitSeconds * 1000)
  }

  private finish(
    delivery: Stored<'_delivery'>,
    state: 'pending' | 'delivered' | 'failed',
    result: string,
    nextAttemptMs = 0,
  ): void {
    // From here on it may be queued again, for its next try.
    this.onWay.delete(delivery.id)
    this.engine.transact({ request: null, task: null }, (ctx) => {
      if (ctx.get('_delivery', delivery.id) === undefined) return
      ctx.update('_delivery', delivery.id, { state, attempts: delivery.attempts + 1, lastResult: result, nextAttemptMs })
      const event = ctx.get('event', delivery.event)
      if (state !== 'delivered' || event === undefined || delivery.state !== 'pending') return
      ctx.update('event', event.id, { pending_webhooks: Math.max(0, event.pending_webhooks - 1) })
    })
  }

  private sendLate(lateMs: number, target: Target, body: string): void {
    const timer = setTimeout(() => {
      void this.send(target, body).finally(() => {
        this.lateCopies.delete(timer)
        this.notify()
      })
    }, lateMs)
    this.lateCopies.add(timer)
  }

  /** One HTTP request; resolves to the status, or to what went wrong. */
  private send(target: Target, body: string): Promise<string> {
    const seconds = Math.floor(realTimeMs() / 1000)
    const previous = target.previousSecret
    const secrets = [target.secret, ...(previous !== null && previous.until > seconds ? [previous.secret] : [])]
    const headers = {
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      'user-agent': 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
      'stripe-signature': signatureHeader(body, secrets, seconds),
    }
    return post(target.url, body, { headers, timeout: this.options.timeoutMs }, this.agents)
  }

  private notify(): void {
    for (const waiter of this.waiters) waiter()
    this.waiters.clear()
  }
}

/** What is sent: the whole event, or of a thin one the notification without its data. Null when the event is forgotten. */
function bodyOf(ctx: Ctx, id: string): string | null {
  const event = ctx.get('event', id)
  if (event !== undefined) return JSON.stringify(ctx.present(event), null, 2)
  const thin = ctx.get('v2.core.event', id)
  if (thin === undefined) return null
  const { data: _data, changes: _changes, ...notification } = thin
  return JSON.stringify(notification)
}

function isSuccess(result: string): boolean {
  return /^2\d\d$/.test(result)
}

function post(
  url: string,
  body: string,
  options: RequestOptions,
  agents: { http: HttpAgent; https: HttpsAgent },
): Promise<string> {
  return new Promise((done) => {
    const isSecure = url.startsWith('https:')
    const send = isSecure ? httpsRequest : httpRequest
    try {
      const request = send(url, { ...options, method: 'POST', agent: isSecure ? agents.https : agents.http }, (response) => {
        response.resume()
        response.once('close', () => done(String(response.statusCode ?? 'no status')))
      })
      request.once('timeout', () => request.destroy(new Error('timed out')))
      request.once('error', (error: Error & { code?: string }) => done(error.code ?? error.message))
      request.end(body)
    } catch (error) {
      done(error instanceof Error ? error.message : String(error))
    }
  })
}

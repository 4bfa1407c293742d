import { createHash, timingSafeEqual } from 'node:crypto'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { keyOfRequest } from '../auth/api-keys.ts'
import { requireOperator, type Principal } from '../auth/principal.ts'
import { asSystem } from '../db/scope.ts'
import type { App } from './app.ts'

/** What the domains count (EM-13). The names are fixed by the systems that read them. */
export type Metrics = {
  readonly registry: Registry
  /** `stripe_subscriptions_total{tier}`: subscriptions that stand now; read when asked for. */
  readonly subscriptions: Gauge<'tier'>
  /** `stripe_payments_succeeded_total` */
  readonly paymentsSucceeded: Counter
  /** `stripe_payments_failed_total` */
  readonly paymentsFailed: Counter
  /** `stripe_payments_refunded_total`: refunds, of part or all. */
  readonly paymentsRefunded: Counter
  /** `stripe_disputes_opened_total` */
  readonly disputesOpened: Counter
  /** `stripe_disputes_open`: read when asked for. */
  readonly disputesOpen: Gauge
  /** `stripe_left_to_operators{kind}`: what does not come right by itself, of the last seven days; read when asked for. */
  readonly leftToOperators: Gauge<'kind'>
  /** `credits_used_total{customer_id}`: the organization's id. */
  readonly creditsUsed: CreditCounter
  /** `quota_exceeded_total{tier}`: refusals for want of quota. */
  readonly quotaExceeded: Counter<'tier'>
  /** `webhook_deliveries_total{outcome}`: attempts to deliver, by what came of them. */
  readonly webhookDeliveries: Counter<'outcome'>
  /** `webhook_endpoints_disabled_total` */
  readonly webhookEndpointsDisabled: Counter
  /** `mails_total{outcome}`: attempts to send, by what came of them. */
  readonly mails: Counter<'outcome'>
  /** `notifications_overdue{queue}`: what waits though its time had come five minutes ago; read when asked for. */
  readonly notificationsOverdue: Gauge<'queue'>
  /** `stripe_events_waiting{state}`: read when asked for, as the next three. */
  readonly eventsWaiting: Gauge<'state'>
  /** `stripe_reconciliation_age_seconds` */
  readonly lookAge: Gauge
  /** `stripe_comparison_age_seconds` */
  readonly comparisonAge: Gauge
  /** `mrr_minor_units{currency,tier}` */
  readonly monthlyRevenue: Gauge<'currency' | 'tier'>
  readonly requestSeconds: Histogram<'method' | 'route' | 'status'>
}

export type MetricsOptions = {
  /** Reads the number of standing subscriptions by plan, each time metrics are asked for. */
  readonly countSubscriptions?: () => Promise<ReadonlyMap<string, number>>
  /** Reads how much of what should have been told waits, by queue, each time metrics are asked for. */
  readonly countOverdue?: () => Promise<ReadonlyMap<string, number>>
  /** How well Stripe is followed. */
  readonly readFollowing?: () => Promise<{
    eventsOverdue: number
    eventsFailed: number
    lookAgeSeconds: number | null
    comparisonAgeSeconds: number | null
    disputesOpen: number
    leftToOperators: Readonly<Record<string, number>>
  }>
  /** Monthly recurring revenue. */
  readonly readRevenue?: () => Promise<readonly { currency: string; tier: string; minor: number }[]>
  /** Whether memory, event loop and garbage collection are measured too; once in a process. */
  readonly processMetrics: boolean
}

export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const { countSubscriptions, countOverdue, readFollowing, readRevenue } = options
  if (options.processMetrics) collectDefaultMetrics({ register: registry })
  return {
    registry,
    subscriptions: new Gauge({
      name: 'stripe_subscriptions_total',
      help: 'Subscriptions that stand now, by tier.',
      labelNames: ['tier'],
      registers,
      async collect() {
        if (!countSubscriptions) return
        const counts = await countSubscriptions()
        this.reset()
        for (const [tier, count] of counts) this.set({ tier }, count)
      },
    }),
    paymentsSucceeded: new Counter({ name: 'stripe_payments_succeeded_total', help: 'Invoices that were paid.', registers }),
    paymentsRefunded: new Counter({
      name: 'stripe_payments_refunded_total',
      help: 'Refunds of payments, in part or whole.',
      registers,
    }),
    disputesOpened: new Counter({ name: 'stripe_disputes_opened_total', help: 'Disputes of payments.', registers }),
    disputesOpen: new Gauge({
      name: 'stripe_disputes_open',
      help: 'Disputes of payments that wait for evidence.',
      registers,
      async collect() {
        if (readFollowing) this.set((await readFollowing()).disputesOpen)
      },
    }),
    leftToOperators: new Gauge({
      name: 'stripe_left_to_operators',
      help: 'What of customers’ money does not come right by itself and was found in the last seven days, by kind.',
      labelNames: ['kind'],
      registers,
      async collect() {
        if (!readFollowing) return
        for (const [kind, count] of Object.entries((await readFollowing()).leftToOperators)) this.set({ kind }, count)
      },
    }),
    paymentsFailed: new Counter({
      name: 'stripe_payments_failed_total',
      help: 'Attempts to collect an invoice that failed.',
      registers,
    }),
    creditsUsed: countCredits(registers),
    quotaExceeded: new Counter({
      name: 'quota_exceeded_total',
      help: 'Uses refused because the quota was exceeded, by tier.',
      labelNames: ['tier'],
      registers,
    }),
    webhookDeliveries: new Counter({
      name: 'webhook_deliveries_total',
      help: 'Attempts to deliver a webhook, by outcome: delivered, retried, failed.',
      labelNames: ['outcome'],
      registers,
    }),
    webhookEndpointsDisabled: new Counter({
      name: 'webhook_endpoints_disabled_total',
      help: 'Webhook endpoints that were disabled because they failed.',
      registers,
    }),
    mails: new Counter({
      name: 'mails_total',
      help: 'Attempts to send a mail, by outcome: sent, retried, failed.',
      labelNames: ['outcome'],
      registers,
    }),
    notificationsOverdue: new Gauge({
      name: 'notifications_overdue',
      help: 'Events not handed out, and webhooks and mails that should have gone out five minutes ago.',
      labelNames: ['queue'],
      registers,
      async collect() {
        if (!countOverdue) return
        for (const [queue, count] of await countOverdue()) this.set({ queue }, count)
      },
    }),
    eventsWaiting: new Gauge({
      name: 'stripe_events_waiting',
      help: 'Events of Stripe that should have been handled five minutes ago (overdue), or were given up until a replay (failed).',
      labelNames: ['state'],
      registers,
      async collect() {
        if (!readFollowing) return
        const { eventsOverdue, eventsFailed } = await readFollowing()
        this.set({ state: 'overdue' }, eventsOverdue)
        this.set({ state: 'failed' }, eventsFailed)
      },
    }),
    lookAge: new Gauge({
      name: 'stripe_reconciliation_age_seconds',
      help: 'Since Stripe was last asked for events that no webhook brought.',
      registers,
      async collect() {
        const age = (await readFollowing?.())?.lookAgeSeconds ?? null
        if (age !== null) this.set(age)
      },
    }),
    comparisonAge: new Gauge({
      name: 'stripe_comparison_age_seconds',
      help: 'Since the last comparison of everything with Stripe began that came to its end.',
      registers,
      async collect() {
        const age = (await readFollowing?.())?.comparisonAgeSeconds ?? null
        if (age !== null) this.set(age)
      },
    }),
    monthlyRevenue: new Gauge({
      name: 'mrr_minor_units',
      help: 'Monthly recurring revenue in minor units, by currency and tier.',
      labelNames: ['currency', 'tier'],
      registers,
      async collect() {
        if (!readRevenue) return
        this.reset()
        for (const { currency, tier, minor } of await readRevenue()) this.inc({ currency, tier }, minor)
      },
    }),
    requestSeconds: new Histogram({
      name: 'http_request_duration_seconds',
      help: 'Time until a request was answered.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    }),
  }
}

/** Who may read metrics: they name organizations. `open` is everybody, for a server that only this machine reaches. */
export type MetricsReaders =
  | 'open'
  | {
      /** What Prometheus sends as a bearer token; null when operators alone may read. */
      readonly token: string | null
      readonly authenticate: (request: Request) => Promise<Principal | null>
    }

/** `GET /metrics` in the text format of Prometheus. */
export function registerMetricsRoute(app: App, metrics: Metrics, readers: MetricsReaders): void {
  app.get('/metrics', async (c) => {
    if (readers !== 'open' && !carries(c.req.raw, readers.token)) requireOperator(await readers.authenticate(c.req.raw))
    // They are sums over all organizations.
    const text = await asSystem(() => metrics.registry.metrics())
    return c.text(text, 200, { 'content-type': metrics.registry.contentType })
  })
}

function carries(request: Request, token: string | null): boolean {
  const sent = keyOfRequest(request.headers)
  if (token === null || sent === null) return false
  // Of one length, whatever was sent.
  const [given, wanted] = [sent, token].map((text) => createHash('sha256').update(text).digest())
  return timingSafeEqual(given!, wanted!)
}

export type CreditCounter = { add(customerId: string, micro: bigint): void }

/** EM-13. Kept in millionths and divided when it is read: a sum of fractions would drift away from what was used. */
function countCredits(registers: Registry[]): CreditCounter {
  const used = new Map<string, bigint>()
  const counter = new Counter({
    name: 'credits_used_total',
    help: 'Credits used, by customer.',
    labelNames: ['customer_id'],
    registers,
    collect() {
      counter.reset()
      for (const [customerId, micro] of used) counter.inc({ customer_id: customerId }, Number(micro) / 1_000_000)
    },
  })
  return {
    add: (customerId, micro) => void used.set(customerId, (used.get(customerId) ?? 0n) + micro),
  }
}

import type { EntitlementAnswer, ReadEntitlement } from './entitlements.ts'
import { statusOf, type Problem } from './errors.ts'
import {
  createTransport,
  delay,
  delayBeforeRetry,
  isRepeatable,
  RETRIES,
  type Transport,
  type TransportOptions,
} from './transport.ts'

/** A quantity as it travels: a JSON number, or a decimal string where a double would round it. */
export type QuantityInput = number | string

/** One item of use. `idempotencyKey` makes a repeat safe; the client makes one up when it is left out. */
export type UsageInput = {
  /** The meter's name in the catalog. */
  readonly meter: string
  /** Default 1. At most six decimal places. */
  readonly quantity?: QuantityInput
  readonly idempotencyKey?: string
  /** When it happened; default now. */
  readonly occurredAt?: Date | string
  readonly properties?: Readonly<Record<string, string | number | boolean>>
  /** Only for operators, who act for any organization. */
  readonly organizationId?: string
}

/** What is left of a balance, in its unit. */
export type BalanceAnswer = {
  readonly balance: string
  readonly unit: string
  readonly plan: string
  /** Included in the current period; null is unlimited. */
  readonly amount: QuantityInput | null
  readonly used: QuantityInput
  readonly remaining: QuantityInput | null
  readonly overage: QuantityInput
  /** Held by open reservations. */
  readonly reserved: QuantityInput
  readonly period_start: string | null
  readonly period_end: string | null
}

/** Use that was told when what bills its time was over. */
export type LateUse = {
  /** The period in which it counts. */
  readonly period_start: string
  readonly period_end: string | null
  /** The invoice that bills its time, when it was told; `none`: nothing billed the balance at that time. */
  readonly invoice: 'open' | 'closed' | 'none'
  /** Where what is not included is billed; null: nowhere, it is free. */
  readonly billed_on: 'own_invoice' | 'next_invoice' | 'credit' | null
}

/** A refusal is an answer: `allowed: false` with a code and a sentence. */
export type UsageAnswer = {
  readonly allowed: boolean
  readonly code?: string
  readonly reason?: string
  /** Of a use that came too fast: seconds until it would be allowed. */
  readonly retry_after?: number
  /** Of what was refused as `spend_limit_reached`: the limit and what of it was spent or held, in minor units of `currency`. */
  readonly spend_limit_minor?: number
  readonly spent_minor?: number
  readonly currency?: string
  readonly late?: LateUse
  readonly balance: BalanceAnswer | null
  /** EM-3: what this item cost, and where the period stands after it. */
  readonly credits_used: QuantityInput
  readonly total_credits_used: QuantityInput
  readonly quota_remaining: QuantityInput | null
  readonly quota_exceeded: boolean
}

export type ReservationAnswer = UsageAnswer & { readonly reservation_id?: string; readonly expires_at?: string }

/** `GET /api/v1/usage` (EM-8). */
export type UsageSummary = {
  readonly customer_id: string
  readonly subscription_tier: string
  readonly credits_used: QuantityInput
  readonly monthly_limit: QuantityInput | null
  readonly quota_remaining: QuantityInput | null
  readonly usage_percentage: number
  readonly quota_exceeded: boolean
  readonly status: string
  readonly in_trial: boolean
  readonly trial_end_date: string | null
}

/** Changes what a recorded use counts: by a quantity, or whole. */
export type CorrectionInput = {
  /** The key of the use that is corrected; of a settlement, the reservation's id. */
  readonly corrects: string
  /** Makes a repeat safe; the client makes one up when it is left out. */
  readonly idempotencyKey?: string
  /** Kept with the correction, for whoever reads it later. */
  readonly reason?: string
  /** Only for operators, who act for any organization. */
  readonly organizationId?: string
} & (
  | {
      /** What is added; below zero it is taken away, at most down to nothing. For meters that count or add. */
      readonly quantity: QuantityInput
    }
  | {
      /** Takes the use back whole. */
      readonly retract: true
    }
)

/** What came of an item of a batch: its answer, or what was wrong with it alone. */
export type BatchResult = UsageAnswer | { readonly allowed: false; readonly error: Problem }

export type BatchItem = UsageInput & { readonly verb: 'check' | 'track' | 'consume' }

/** What somebody wants to do that only trial and subscription permit (MR-13). */
export type GateInput = {
  /** In words, for the sentence; default `ingestion`. */
  readonly activity?: string
  /** For the log of the server: whose workspace it is, and who asked. */
  readonly workspaceId?: string
  readonly user?: string
  /** Only for operators, who act for any organization. */
  readonly organizationId?: string
}

export type GateAnswer = {
  readonly allowed: boolean
  readonly billing_status: string
  /** Why not, fit to be answered with 402; null when allowed. */
  readonly detail: string | null
  readonly until: string | null
}

export type UsageClient = {
  /** Asks whether a use would be allowed; writes nothing. */
  check(input: UsageInput): Promise<UsageAnswer>
  /** Records what has happened; never refused for want of quota. */
  track(input: UsageInput): Promise<UsageAnswer>
  /** Checks and records in one step; refused whole when it does not fit. */
  consume(input: UsageInput): Promise<UsageAnswer>
  /** Up to 1,000 items in one request; one result each, in order. */
  batch(items: readonly BatchItem[]): Promise<readonly BatchResult[]>
  /** Holds an amount for work whose cost is known afterwards. */
  reserve(input: UsageInput): Promise<ReservationAnswer>
  /** Records what reserved work came to; default the whole amount held. */
  settle(
    reservationId: string,
    input?: { readonly quantity?: QuantityInput; readonly organizationId?: string },
  ): Promise<UsageAnswer>
  /** Gives back what was held. */
  release(reservationId: string, input?: { readonly organizationId?: string }): Promise<UsageAnswer>
  /** Corrects a use that was recorded wrongly, or takes it back. */
  correct(input: CorrectionInput): Promise<UsageAnswer>
  balances(): Promise<readonly BalanceAnswer[]>
  /** Where the period stands; default the plan's first credit pool. */
  usage(balance?: string): Promise<UsageSummary>
  /** Asks whether trial or subscription permit an activity; a refusal is an answer, and is logged by the server. */
  gate(input?: GateInput): Promise<GateAnswer>
  /** Asks whether a feature of the catalog may be used, and what there is of it. */
  entitlement: ReadEntitlement
  /** The same of all features. */
  entitlements(input?: { readonly organizationId?: string }): Promise<readonly EntitlementAnswer[]>
}

/**
 * A client of a Tollgate server. Every write carries an idempotency key, so what failed on the way is repeated safely.
 * @throws TollgateError when the server refuses the request itself (not for a refused use: that is an answer)
 * @throws TollgateUnreachableError when no answer arrived
 */
export function createTollgateClient(options: TransportOptions): UsageClient {
  const transport = createTransport(options)
  return {
    check: (input) => transport.post('/api/v1/usage/check', toBody(input, false)),
    track: (input) => transport.post('/api/v1/usage/track', toBody(input)),
    consume: (input) => transport.post('/api/v1/usage/consume', toBody(input)),
    batch: (items) =>
      sendBatch(
        transport,
        items.map((item) => ({ verb: item.verb, ...toBody(item, item.verb !== 'check') })),
        options.retries ?? RETRIES,
      ),
    reserve: (input) => transport.post('/api/v1/usage/reservations', toBody(input)),
    settle: (id, input = {}) =>
      transport.post(`/api/v1/usage/reservations/${encodeURIComponent(id)}/settle`, {
        quantity: input.quantity,
        organization_id: input.organizationId,
      }),
    release: (id, input = {}) =>
      transport.post(`/api/v1/usage/reservations/${encodeURIComponent(id)}/release`, { organization_id: input.organizationId }),
    correct: (input) =>
      transport.post('/api/v1/usage/corrections', {
        corrects: input.corrects,
        ...('retract' in input ? { retract: true } : { quantity: input.quantity }),
        idempotency_key: input.idempotencyKey ?? crypto.randomUUID(),
        reason: input.reason,
        organization_id: input.organizationId,
      }),
    async balances() {
      const answer = await transport.get<{ balances: BalanceAnswer[] }>('/api/v1/balances')
      return answer.balances
    },
    usage: (balance) => transport.get(`/api/v1/usage${balance === undefined ? '' : `?balance=${encodeURIComponent(balance)}`}`),
    gate: (input = {}) =>
      transport.post('/api/v1/billing/gate', {
        activity: input.activity,
        workspace_id: input.workspaceId,
        user: input.user,
        organization_id: input.organizationId,
      }),
    entitlement: (feature, input) => transport.get(`${ENTITLEMENTS}/${encodeURIComponent(feature)}${queryOf(input)}`),
    async entitlements(input) {
      const answer = await transport.get<{ entitlements: EntitlementAnswer[] }>(`${ENTITLEMENTS}${queryOf(input)}`)
      return answer.entitlements
    },
  }
}

const ENTITLEMENTS = '/api/v1/entitlements'

function queryOf({ organizationId }: { readonly organizationId?: string } = {}): string {
  return organizationId === undefined ? '' : `?organization_id=${encodeURIComponent(organizationId)}`
}

type ItemBody = Readonly<Record<string, unknown>>

/** Sends items together, and those again, under their keys, of which the server says that it could not decide them now. */
async function sendBatch(transport: Transport, items: readonly ItemBody[], retries: number): Promise<readonly BatchResult[]> {
  const deadline = transport.startDeadline()
  const send = async (bodies: readonly ItemBody[]) =>
    (await transport.post<{ results: BatchResult[] }>('/api/v1/usage/batch', { items: bodies }, deadline)).results
  const results = [...(await send(items))]
  for (let tried = 0; tried < retries; tried += 1) {
    const open = results.flatMap((result, index) => ('error' in result && isRepeatable(statusOf(result.error)) ? [index] : []))
    const pauseMs = delayBeforeRetry(Number.NaN, tried)
    if (open.length === 0 || pauseMs >= deadline.leftMs()) break
    await delay(pauseMs)
    const again = await send(open.map((index) => items[index]!)).catch(() => null)
    // What was decided stands, and of the rest, that the server could not decide it.
    if (again === null) break
    for (const [at, index] of open.entries()) results[index] = again[at] ?? results[index]!
  }
  return results
}

function toBody(input: UsageInput, withKey = true): Record<string, unknown> {
  return {
    meter: input.meter,
    quantity: input.quantity ?? 1,
    ...(withKey ? { idempotency_key: input.idempotencyKey ?? crypto.randomUUID() } : {}),
    occurred_at: input.occurredAt instanceof Date ? input.occurredAt.toISOString() : input.occurredAt,
    properties: input.properties,
    organization_id: input.organizationId,
  }
}

import type { TaxCalculationLineItem, TaxTransactionLineItem } from '../wire.gen.ts'

/** A secret before the last roll, and the unix second (real time) until which it still signs. */
export interface RolledSecret {
  readonly secret: string
  readonly until: number
}

/** Stored forms of the objects that the core owns: customers, catalog, meters, credits, entitlements, events, webhooks. */
export interface CoreShapes {
  customer: {
    /** Id of the discount that applies, or null. */
    discount: string | null
    subscriptions: never
    tax_ids: never
    sources: never
  }
  /** `automatic`: what a rate that automatic tax made is for; absent for the account's own. */
  tax_rate: { _?: { automatic: string } }
  'tax.registration': { status: never }
  'tax.calculation': { line_items: never; _: { items: readonly TaxCalculationLineItem[] } }
  'tax.transaction': { line_items: never; _: { items: readonly TaxTransactionLineItem[] } }
  event: { _: { customer: string | null } }
  'billing.meter_event': {
    id: string
    _: {
      meter: string
      customer: string
      /** Decimal text; `1` for meters that count. */
      value: string
      canceled: boolean
    }
  }
  'billing.credit_grant': {
    _: {
      /** What is left, in minor units: the sum of the grant's transactions. */
      remaining: number
    }
  }
  'billing.credit_balance_transaction': { _: { customer: string } }
  'entitlements.active_entitlement': { _: { customer: string } }
  product_feature: { entitlement_feature: string; _: { product: string } }
  'billing.alert': { _: { meter: string; created: number; triggered: readonly string[] } }
  'v2.core.event_destination': { webhook_endpoint: { url: string }; _: { secret: string; previousSecret: RolledSecret | null } }
  webhook_endpoint: {
    secret: never
    _: {
      secret: string
      previousSecret: RolledSecret | null
    }
  }
  /** One event on its way to one endpoint. */
  _delivery: {
    id: string
    event: string
    endpoint: string
    /** Tries so far. */
    attempts: number
    state: 'pending' | 'delivered' | 'failed'
    /** Real time (ms) of the next try. */
    nextAttemptMs: number
    /** HTTP status or network error of the last try. */
    lastResult: string | null
  }
  /** An answer kept for a repeat of the same request. */
  _idempotent_answer: {
    id: string
    endpoint: string
    digest: string
    /** Unix seconds of the sandbox's clock. */
    created: number
    status: number
    body: string
    requestId: string
  }
  /** Settings of the sandbox that a restart must find again (the clock). */
  _setting: { id: string; value: unknown }
}

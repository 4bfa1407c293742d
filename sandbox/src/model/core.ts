import { layout } from './layout.ts'

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

export const coreLayouts = [
  layout('customer', 'cus', { email: (customer) => customer.email, test_clock: (customer) => customer.test_clock }),
  layout('deleted_customer', ''),
  layout('customer_balance_transaction', 'cbtxn', { customer: (transaction) => transaction.customer }),
  layout('product', 'prod'),
  layout('price', 'price', { product: (price) => price.product, lookup_key: (price) => price.lookup_key }),
  layout('tax_rate', 'txr'),
  layout('tax_id', 'txi', { customer: (taxId) => taxId.customer }),
  layout('billing.meter', 'mtr', { event_name: (meter) => meter.event_name }),
  layout('billing.meter_event', 'mev', {
    identifier: (event) => event.identifier,
    usage: (event) => (event._.canceled ? null : `${event._.meter} ${event._.customer}`),
  }),
  layout('billing.credit_grant', 'credgr', { customer: (grant) => grant.customer }),
  layout('billing.credit_balance_transaction', 'cbtxn', {
    customer: (transaction) => transaction._.customer,
    grant: (transaction) => transaction.credit_grant,
  }),
  layout('billing.alert', 'alrt', { meter: (alert) => alert._.meter }),
  layout('billing.feedback_option', 'fbopt'),
  layout('product_catalog.trial_offer', 'to'),
  layout('entitlements.feature', 'feat', { lookup_key: (feature) => feature.lookup_key }),
  layout('entitlements.active_entitlement', 'ent', { customer: (entitlement) => entitlement._.customer }),
  layout('product_feature', 'prodft', {
    product: (feature) => feature._.product,
    feature: (feature) => feature.entitlement_feature,
  }),
  layout('v2.billing.meter_event_session', 'mes', { token: (session) => session.authentication_token }),
  layout('v2.core.event', 'evt', { related: (event) => event.related_object?.id }),
  layout('v2.core.event_destination', 'ed'),
  layout('event', 'evt', { type: (event) => event.type }),
  layout('webhook_endpoint', 'we'),
  layout('_delivery', 'dlv', { event: (delivery) => delivery.event, state: (delivery) => delivery.state }),
  layout('_idempotent_answer', ''),
  layout('_setting', ''),
]

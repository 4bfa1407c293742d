import type { Stored, StoredName } from './stored.ts'

/** Value(s) under which an index finds an object; null and undefined leave it out. */
export type IndexValue = string | null | undefined | ReadonlyArray<string>

/** How a kind of object is kept: its id prefix and its indexes. */
export interface Layout {
  readonly name: StoredName
  /** `cus` for `cus_…`; empty for kinds whose ids are made otherwise. */
  readonly prefix: string
  readonly indexes: Readonly<Record<string, (object: never) => IndexValue>>
}

/**
 * Declares how a kind of object is kept: `layout('invoice', 'in', { customer: (invoice) => invoice.customer })`. An index function reads
 * only the stored object itself.
 */
function layout<K extends StoredName>(
  name: K,
  prefix: string,
  indexes: Record<string, (object: Stored<K>) => IndexValue> = {},
): Layout {
  return { name, prefix, indexes }
}

/** Every kind of object that is stored. */
export const layouts: readonly Layout[] = [
  // The core: customers, catalog, meters, credits, entitlements, events, webhooks.
  layout('customer', 'cus', { email: (customer) => customer.email, test_clock: (customer) => customer.test_clock }),
  layout('deleted_customer', ''),
  layout('customer_balance_transaction', 'cbtxn', { customer: (transaction) => transaction.customer }),
  layout('product', 'prod'),
  layout('price', 'price', { product: (price) => price.product, lookup_key: (price) => price.lookup_key }),
  layout('tax_rate', 'txr', { automatic: (rate) => rate._?.automatic }),
  layout('tax.registration', 'taxreg'),
  layout('tax.calculation', 'taxcalc'),
  layout('tax.association', 'taxa', {
    calculation: (association) => association.calculation,
    payment_intent: (association) => association.payment_intent,
  }),
  layout('tax.transaction', 'tax'),
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
  // Billing.
  layout('subscription', 'sub', {
    customer: (subscription) => subscription.customer,
    item: (subscription) => subscription._.items.map((item) => item.id),
    price: (subscription) => subscription._.items.map((item) => item.price),
  }),
  layout('invoice', 'in', {
    customer: (invoice) => invoice.customer,
    subscription: (invoice) => invoice._.subscription,
  }),
  layout('invoice_payment', 'inpay', {
    invoice: (payment) => payment.invoice,
    payment_intent: (payment) => payment.payment.payment_intent,
  }),
  layout('invoiceitem', 'ii', {
    customer: (item) => item.customer,
    invoice: (item) => item.invoice,
    pending: (item) => (item.invoice === null ? item.customer : null),
  }),
  layout('coupon', ''),
  layout('deleted_coupon', ''),
  layout('promotion_code', 'promo', {
    code: (promotion) => promotion.code.toLowerCase(),
    coupon: (promotion) => promotion.promotion.coupon,
  }),
  layout('discount', 'di', {
    customer: (discount) => discount.customer,
    coupon: (discount) => discount.source.coupon,
  }),
  layout('credit_note', 'cn', { invoice: (note) => note.invoice, customer: (note) => note.customer }),
  layout('subscription_schedule', 'sub_sched', {
    customer: (schedule) => schedule.customer,
    subscription: (schedule) => schedule.subscription,
  }),
  layout('test_helpers.test_clock', 'clock'),
  // Payments.
  layout('payment_method', 'pm', { customer: (method) => method.customer }),
  layout('setup_intent', 'seti', { customer: (intent) => intent.customer, payment_method: (intent) => intent.payment_method }),
  layout('setup_attempt', 'setatt', { setup_intent: (attempt) => attempt.setup_intent }),
  layout('payment_intent', 'pi', { customer: (intent) => intent.customer, invoice: (intent) => intent._.invoice }),
  layout('charge', 'ch', { customer: (charge) => charge.customer, payment_intent: (charge) => charge.payment_intent }),
  layout('refund', 're', { charge: (refund) => refund.charge, payment_intent: (refund) => refund.payment_intent }),
  layout('dispute', 'du', { charge: (dispute) => dispute.charge, payment_intent: (dispute) => dispute.payment_intent }),
  layout('balance_transaction', 'txn', { source: (transaction) => transaction.source as string | null }),
  layout('mandate', 'mandate', { payment_method: (mandate) => mandate.payment_method }),
  layout('checkout.session', 'cs', {
    customer: (session) => session.customer,
    payment_intent: (session) => session.payment_intent,
    subscription: (session) => session.subscription,
  }),
  layout('billing_portal.configuration', 'bpc'),
  layout('billing_portal.session', 'bps', { token: (session) => session._.token }),
]

import { COMPLETE_SCOPE, type SyncScope } from '../mirror/fetch.ts'

export type EventSignal = { readonly type: string; readonly objectType: string; readonly objectId: string | null }

/**
 * The families of events that say that something of a customer has changed; others are stored and left at that. So is `invoice_payment`: it
 * names no customer, and its invoice has events of its own.
 */
const FAMILIES =
  /^(customer|invoice|credit_note|subscription_schedule|payment_method|setup_intent|checkout\.session|charge|refund|payment_intent|test_helpers\.test_clock)\./

/** Whether an event is a reason to refetch anything. */
export function isRelevant(type: string): boolean {
  return FAMILIES.test(type)
}

/** A card's charge is a `ch_…`, that of any other payment method a `py_…`. */
export function isChargeId(id: string): boolean {
  return /^(ch|py)_/.test(id)
}

/**
 * What to refetch after events of one customer. Pure. The union of what each asks for: so a burst of ten events about one
 * purchase is one refetch, and any one of them alone leads to the same standing.
 */
export function scopeOf(signals: readonly EventSignal[]): SyncScope {
  if (signals.some(({ type }) => type.startsWith('test_helpers.'))) return COMPLETE_SCOPE
  const has = (pattern: RegExp) => signals.some(({ type }) => pattern.test(type))
  const idsOf = (...objectTypes: string[]) =>
    signals.flatMap(({ objectType, objectId }) => (objectTypes.includes(objectType) && objectId !== null ? [objectId] : []))
  const methods = has(/^(payment_method|setup_intent|checkout\.session)\./)
  return {
    customer: methods || has(/^customer\.(?!subscription\.)/),
    paymentMethods: methods || has(/^customer\.(updated|source)/),
    charges: has(/^(charge|refund|payment_intent|checkout\.session)\./),
    // An upcoming invoice has no id that could be fetched.
    invoiceIds: idsOf('invoice', 'credit_note').filter((id) => id.startsWith('in_')),
    // A refund that failed is told of by itself, and not by its charge.
    chargeIds: idsOf('charge', 'refund', 'dispute').filter(isChargeId),
    complete: false,
  }
}

import type { StripeState } from './fetch.ts'
import type { StripeObject } from './wire.ts'

export type MirroredRow = { readonly objectType: string; readonly id: string; readonly data: StripeObject }

/** One field in which mirror and Stripe were apart. */
export type Drift = {
  readonly objectType: string
  readonly objectId: string
  /** `*` when the mirror had no such object. */
  readonly field: string
  readonly mirrored: unknown
  readonly actual: unknown
}

/** What decides money and access; the rest of an object may differ without anyone being the worse for it. */
const COMPARED: Readonly<Record<string, readonly string[]>> = {
  customer: ['deleted', 'email', 'balance', 'currency', 'delinquent', 'invoice_settings'],
  subscription: [
    'status',
    'items',
    'cancel_at',
    'cancel_at_period_end',
    'ended_at',
    'trial_end',
    'pause_collection',
    'default_payment_method',
    'schedule',
  ],
  invoice: ['status', 'total', 'amount_due', 'amount_paid', 'amount_remaining', 'attempted', 'number'],
}

/** Compares what the mirror held with what Stripe answered. Pure. */
export function findDrift(mirrored: readonly MirroredRow[], actual: StripeState): Drift[] {
  const before = new Map(mirrored.map((row) => [`${row.objectType} ${row.id}`, row.data]))
  const objects = [
    ...(actual.customer === null ? [] : [{ objectType: 'customer', id: actual.customer.id, data: actual.customer.data }]),
    ...actual.subscriptions.map(({ id, data }) => ({ objectType: 'subscription', id, data })),
    ...actual.invoices.map(({ id, data }) => ({ objectType: 'invoice', id, data })),
  ]
  return objects.flatMap(({ objectType, id, data }) => {
    const known = before.get(`${objectType} ${id}`)
    if (known === undefined) return [{ objectType, objectId: id, field: '*', mirrored: null, actual: data['status'] ?? null }]
    return (COMPARED[objectType] ?? []).flatMap((field) => {
      const [one, other] = [valueOf(known, field), valueOf(data, field)]
      return JSON.stringify(one) === JSON.stringify(other)
        ? []
        : [{ objectType, objectId: id, field, mirrored: one, actual: other }]
    })
  })
}

/** Of a subscription's items only what is sold, how many of it and for which period. */
function valueOf(data: StripeObject, field: string): unknown {
  const value = data[field] ?? null
  if (field !== 'items') return canonical(value)
  const { data: items } = value as { data: readonly Readonly<Record<string, unknown>>[] }
  return items.map((item) => ({
    id: item['id'],
    price: (item['price'] as { id: string }).id,
    quantity: item['quantity'],
    start: item['current_period_start'],
    end: item['current_period_end'],
  }))
}

/** The database keeps the keys of an object in an order of its own. */
function canonical(value: unknown): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}

import type { ListedObject } from '../gateway/account-lists.ts'
import type { StripeObject } from '../gateway/wire.ts'
import type { StripeState } from '../mirror/fetch.ts'

export type MirroredRow = { readonly objectType: string; readonly id: string; readonly data: StripeObject }

/** One field in which mirror and Stripe were apart. */
export type Drift = {
  readonly objectType: string
  readonly objectId: string
  /** `*` when the mirror had no such object, or Stripe has it no more. */
  readonly field: string
  readonly mirrored: unknown
  readonly actual: unknown
}

/** What decides money and access; the rest of an object may differ without anyone being the worse for it. */
const COMPARED: Readonly<Record<ListedObject['objectType'], readonly string[]>> = {
  customer: ['deleted', 'email', 'balance', 'currency', 'delinquent', 'invoice_settings', 'default_source'],
  subscription: [
    'status',
    'items',
    'cancel_at',
    'cancel_at_period_end',
    'ended_at',
    'trial_end',
    'pause_collection',
    'default_payment_method',
    'default_source',
    'schedule',
  ],
  invoice: [
    'status',
    'total',
    'amount_due',
    'amount_paid',
    'amount_remaining',
    'pre_payment_credit_notes_amount',
    'post_payment_credit_notes_amount',
    'attempted',
    'number',
  ],
  charge: ['status', 'amount_refunded', 'disputed'],
  dispute: ['status', 'amount', 'evidence_details'],
}

/** Compares what the mirror held of an organization with what Stripe answered. Pure. */
export function findDrift(mirrored: readonly MirroredRow[], actual: StripeState): Drift[] {
  const before = new Map(mirrored.map((row) => [`${row.objectType} ${row.id}`, row.data]))
  const objects: Pick<ListedObject, 'objectType' | 'id' | 'data'>[] = [
    ...(actual.customer === null
      ? []
      : [{ objectType: 'customer' as const, id: actual.customer.id, data: actual.customer.data.toJSON() }]),
    ...actual.subscriptions.map(({ id, data }) => ({ objectType: 'subscription' as const, id, data: data.toJSON() })),
    ...actual.invoices.map(({ id, data }) => ({ objectType: 'invoice' as const, id, data: data.toJSON() })),
    ...actual.disputes.map(({ id, data }) => ({ objectType: 'dispute' as const, id, data: data.toJSON() })),
    ...actual.charges.map(({ id, data }) => ({ objectType: 'charge' as const, id, data: data.toJSON() })),
  ]
  const gone = actual.goneInvoiceIds.flatMap((id): Drift[] => {
    const known = before.get(`invoice ${id}`)
    if (known === undefined) return []
    return [{ objectType: 'invoice', objectId: id, field: '*', mirrored: known['status'] ?? null, actual: null }]
  })
  return [...objects.flatMap((object) => compareObject(before.get(`${object.objectType} ${object.id}`) ?? null, object)), ...gone]
}

/** Compares one object; `mirrored` null is one that the mirror does not have. Pure. */
export function compareObject(
  mirrored: StripeObject | null,
  { objectType, id, data }: Pick<ListedObject, 'objectType' | 'id' | 'data'>,
): Drift[] {
  if (mirrored === null) return [{ objectType, objectId: id, field: '*', mirrored: null, actual: data['status'] ?? null }]
  // Of a customer that was deleted Stripe tells nothing else.
  const fields = data['deleted'] === true ? ['deleted'] : COMPARED[objectType]
  return fields.flatMap((field) => {
    const [one, other] = [valueOf(mirrored, field), valueOf(data, field)]
    return JSON.stringify(one) === JSON.stringify(other)
      ? []
      : [{ objectType, objectId: id, field, mirrored: one, actual: other }]
  })
}

/** What is compared of a field. */
function valueOf(data: StripeObject, field: string): unknown {
  const value = data[field] ?? null
  switch (field) {
    case 'items':
      return itemsOf(value)
    case 'schedule':
      return scheduleOf(value)
    case 'evidence_details':
      return (value as EvidenceDetails | null)?.due_by ?? null
    default:
      return canonical(value)
  }
}

/** Of a subscription's items only what is sold, how many of it and for which period. */
function itemsOf(value: unknown): unknown {
  const { data: items } = value as { data: readonly Readonly<Record<string, unknown>>[] }
  return items
    .map((item) => ({
      id: String(item['id']),
      price: (item['price'] as { id: string }).id,
      quantity: item['quantity'],
      start: item['current_period_start'],
      end: item['current_period_end'],
    }))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
}

type EvidenceDetails = { readonly due_by: number | null }
type Schedule = { readonly id: string; readonly phases: readonly { start_date: number; items: readonly { price: unknown }[] }[] }

/** Which schedule, and what its phases sell from when; a mirror of before it was expanded holds the id alone. */
function scheduleOf(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value
  const { id, phases } = value as Schedule
  return { id, phases: phases.map(({ start_date: start, items }) => ({ start, prices: items.map(({ price }) => price) })) }
}

/** The database keeps the keys of an object in an order of its own. */
function canonical(value: unknown): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}

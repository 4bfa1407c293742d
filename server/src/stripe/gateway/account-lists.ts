import type { Instant } from '../../lib/clock.ts'
import { fromUnix, idOf, toPlainObject, toUnix, type StripeObject } from './wire.ts'

/** The lists of a whole account through which reconciliation pages. Refunds and disputes bring the charges that they are of. */
export const ACCOUNT_LISTS = [
  'subscriptions',
  'invoices',
  'draft_invoices',
  'open_invoices',
  'uncollectible_invoices',
  'charges',
  'refunds',
  'disputes',
  'customers',
] as const
export type AccountList = (typeof ACCOUNT_LISTS)[number]

/** Which part of a list: made from `since` to `until`, both inclusive and in whole seconds, after the object `startingAfter`. */
export type AccountQuery = {
  readonly since: Instant | null
  readonly until: Instant | null
  readonly startingAfter: string | null
}

/** An object as a list showed it. */
export type ListedObject = {
  readonly objectType: 'subscription' | 'invoice' | 'charge' | 'dispute' | 'customer'
  readonly id: string
  readonly customerId: string | null
  readonly data: StripeObject
}

export type AccountPage = {
  readonly objects: readonly ListedObject[]
  readonly hasMore: boolean
  /** The list's last object: the next page begins after it. */
  readonly last: { readonly id: string; readonly createdAt: Instant } | null
}

export type PageParams = {
  limit: number
  starting_after?: string
  created?: { gte?: number; lte?: number }
}

/** How each list is asked for. */
export type AccountPagers = Readonly<Record<AccountList, (params: PageParams) => Promise<WirePage>>>

type WirePage = { readonly data: readonly WireObject[]; readonly has_more: boolean }
type Reference = string | { readonly id: string } | null
type WireObject = {
  readonly id: string
  readonly created: number
  readonly customer?: Reference
  readonly charge?: string | WireCharge | null
}
type WireCharge = { readonly id: string; readonly customer: Reference }

const PAGE = 100

/** The name of the call: lists that differ in a filter only are one endpoint of Stripe, with one limit. */
export function endpointOf(list: AccountList): string {
  return list.endsWith('invoices') ? 'list_invoices' : `list_${list}`
}

export function toPageParams({ since, until, startingAfter }: AccountQuery): PageParams {
  const created = { ...(since === null ? {} : { gte: toUnix(since) }), ...(until === null ? {} : { lte: toUnix(until) }) }
  return {
    limit: PAGE,
    ...(startingAfter === null ? {} : { starting_after: startingAfter }),
    ...(since === null && until === null ? {} : { created }),
  }
}

export function toAccountPage(list: AccountList, { data, has_more: hasMore }: WirePage): AccountPage {
  const last = data.at(-1)
  return {
    objects: data.flatMap((wire) => toListed(list, wire)),
    hasMore,
    last: last === undefined ? null : { id: last.id, createdAt: fromUnix(last.created) },
  }
}

function toListed(list: AccountList, wire: WireObject): ListedObject[] {
  switch (list) {
    case 'subscriptions':
      return [toObject('subscription', wire, idOf(wire.customer))]
    case 'invoices':
    case 'draft_invoices':
    case 'open_invoices':
    case 'uncollectible_invoices':
      return [toObject('invoice', wire, idOf(wire.customer))]
    case 'charges':
      return [toObject('charge', wire, idOf(wire.customer))]
    case 'customers':
      return [toObject('customer', wire, wire.id)]
    case 'refunds':
      return chargeOf(wire)
    case 'disputes':
      return chargeOf(wire).flatMap((charge) => [charge, toObject('dispute', wire, charge.customerId)])
  }
}

/** A payment that Stripe did not take itself has no charge. */
function chargeOf({ charge }: WireObject): ListedObject[] {
  return typeof charge === 'object' && charge !== null ? [toObject('charge', charge, idOf(charge.customer))] : []
}

function toObject(
  objectType: ListedObject['objectType'],
  wire: { readonly id: string },
  customerId: string | null,
): ListedObject {
  return { objectType, id: wire.id, customerId, data: toPlainObject(wire) }
}

import type { FollowUp } from '../stripe/intents/intent.ts'
import type { Address, TaxId } from '../stripe/gateway/mutations.ts'

export type StoredTaxId = TaxId & {
  readonly id: string
  /** What Stripe, or the authority that it asked, found: `pending`, `verified`, `unverified`, `unavailable`. */
  readonly verification: string | null
}

/** What a customer has; null where it has none. */
export type BillingDetails = {
  readonly name: string | null
  readonly email: string | null
  readonly address: Address | null
  readonly taxIds: readonly StoredTaxId[]
}

/** What is not named stays; `taxId` null takes away what there is. */
export type DetailsRequest = {
  readonly name?: string
  readonly address?: Address
  readonly taxId?: TaxId | null
}

/** The calls that make of present details what is wanted, in their order: what Stripe may refuse comes first. Pure. */
export function stepsTo(customerId: string, present: BillingDetails, wanted: DetailsRequest): readonly FollowUp[] {
  const { name, address, taxId } = wanted
  const isNew = taxId != null && !present.taxIds.some((own) => isSame(own, taxId))
  const gone = taxId === undefined ? [] : present.taxIds.filter((own) => taxId === null || !isSame(own, taxId))
  const changes = {
    ...(name === undefined || name === present.name ? {} : { name }),
    ...(address === undefined || isSameAddress(address, present.address) ? {} : { address }),
  }
  return [
    ...(isNew ? [{ kind: 'create_tax_id' as const, params: { customerId, ...taxId } }] : []),
    ...(Object.keys(changes).length === 0 ? [] : [{ kind: 'update_customer' as const, params: { customerId, ...changes } }]),
    ...gone.map(({ id }) => ({ kind: 'delete_tax_id' as const, params: { customerId, taxId: id } })),
  ]
}

function isSame(one: TaxId, other: TaxId): boolean {
  return one.type === other.type && one.value === other.value
}

function isSameAddress(one: Address, other: Address | null): boolean {
  return other !== null && ADDRESS_FIELDS.every((field) => one[field] === other[field])
}

export const ADDRESS_FIELDS = ['line1', 'line2', 'city', 'postal_code', 'state', 'country'] as const

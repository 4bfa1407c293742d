import type { Queryable } from '../db/database.ts'
import type { Address } from '../stripe/gateway/mutations.ts'
import { ADDRESS_FIELDS, type BillingDetails } from './details.ts'

type CustomerRow = {
  readonly name: string | null
  readonly email: string | null
  readonly address: Partial<Record<string, string | null>> | null
  readonly taxIds: readonly {
    readonly id: string
    readonly type: string
    readonly value: string
    readonly verification: { readonly status: string } | null
  }[]
}

/** Of the customer as it was mirrored last; null before there is one. */
export async function findBillingDetails(db: Queryable, organizationId: string): Promise<BillingDetails | null> {
  const { rows } = await db.query<CustomerRow>(
    `select customer.name, customer.email, customer.data -> 'address' as address,
       coalesce(customer.data #> '{tax_ids,data}', '[]') as "taxIds"
     from organizations organization
     join stripe_customers customer
       on customer.organization_id = organization.id and customer.id = organization.stripe_customer_id
     where organization.id = $1 and not customer.deleted`,
    [organizationId],
  )
  const row = rows[0]
  if (row === undefined) return null
  return {
    name: row.name,
    email: row.email,
    address: row.address === null ? null : toAddress(row.address),
    taxIds: row.taxIds.map(({ id, type, value, verification }) => ({
      id,
      type,
      value,
      verification: verification?.status ?? null,
    })),
  }
}

function toAddress(address: NonNullable<CustomerRow['address']>): Address {
  return Object.fromEntries(ADDRESS_FIELDS.map((field) => [field, address[field] ?? ''])) as Address
}

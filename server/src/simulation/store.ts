import type { PriceInterval } from '../catalog/define.ts'
import type { Queryable } from '../db/database.ts'
import type { DayOfUse } from './rules.ts'

export type SimulatedCustomer = {
  readonly organizationId: string
  readonly name: string
  readonly planKey: string
  readonly catalogVersion: number
  readonly interval: PriceInterval | null
  readonly seats: number
}

/** Customers by id, after one of them: a page of those whose use is replayed. */
export async function listSimulatedCustomers(
  db: Queryable,
  { after, only, limit }: { after: string; only: string | null; limit: number },
): Promise<SimulatedCustomer[]> {
  const { rows } = await db.query<Omit<SimulatedCustomer, 'seats'> & { seats: bigint }>(
    `select organization.id as "organizationId", organization.name, account.plan_key as "planKey",
       account.catalog_version as "catalogVersion", coalesce(item.quantity, 1) as seats,
       case item.billing_interval when 'year' then 'yearly' when 'month' then 'monthly' end as "interval"
     from accounts account
     join organizations organization on organization.id = account.organization_id
     left join stripe_subscription_items item
       on item.organization_id = account.organization_id and item.subscription_id = account.subscription_id
       and item.price_id = account.stripe_price_id and account.subscription_status in ('active', 'past_due', 'trialing')
     where organization.id > $1 and ($2::text is null or organization.id = $2)
     order by organization.id limit $3`,
    [after, only, limit],
  )
  return rows.map((row) => ({ ...row, seats: Number(row.seats) }))
}

/** Use by meter and day of a time zone, of months named `YYYY-MM`, both inclusive. */
export async function listDaysOfUse(
  db: Queryable,
  { organizationIds, from, to, timeZone }: { organizationIds: readonly string[]; from: string; to: string; timeZone: string },
): Promise<Map<string, DayOfUse[]>> {
  const { rows } = await db.query<DayOfUse & { readonly organizationId: string }>(
    `select organization_id as "organizationId", meter, to_char(hour at time zone $2, 'YYYY-MM-DD') as day,
       sum(quantity)::bigint as quantity
     from usage_hourly
     where organization_id = any($1)
       and hour >= ($3 || '-01')::timestamp at time zone $2
       and hour < (($4 || '-01')::timestamp + interval '1 month') at time zone $2
     group by 1, 2, 3`,
    [organizationIds, timeZone, from, to],
  )
  const days = new Map<string, DayOfUse[]>()
  for (const { organizationId, ...day } of rows) days.set(organizationId, [...(days.get(organizationId) ?? []), day])
  return days
}

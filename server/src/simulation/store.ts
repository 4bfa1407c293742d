import type { Meter } from '../catalog/catalog.ts'
import type { PriceInterval } from '../catalog/define.ts'
import type { Queryable } from '../db/database.ts'
import { IDS_BY_CYCLE } from '../grants/rules.ts'
import type { BoughtTopUp, DayOfUse, GivenGrant } from './rules.ts'

export type SimulatedCustomer = {
  readonly organizationId: string
  readonly name: string
  readonly planKey: string
  readonly catalogVersion: number
  readonly interval: PriceInterval | null
  readonly seats: number
  readonly addOns: Readonly<Record<string, number>>
}

/** Customers by id, after one of them: a page of those whose use is replayed. */
export async function listSimulatedCustomers(
  db: Queryable,
  { after, only, limit }: { after: string; only: string | null; limit: number },
): Promise<SimulatedCustomer[]> {
  const { rows } = await db.query<Omit<SimulatedCustomer, 'seats'> & { seats: bigint }>(
    `select organization.id as "organizationId", organization.name, account.plan_key as "planKey",
       account.catalog_version as "catalogVersion", account.add_ons as "addOns", coalesce(item.quantity, 1) as seats,
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

export type ReplayedUse = {
  readonly organizationIds: readonly string[]
  /** `YYYY-MM`, both inclusive. */
  readonly from: string
  readonly to: string
  readonly timeZone: string
}

// $1 organizations, $2 time zone, $3 first month, $4 last month
const BEGIN = `(($3 || '-01')::timestamp at time zone $2)`
const END = `((($4 || '-01')::timestamp + interval '1 month') at time zone $2)`
const dayOf = (moment: string) => `to_char(${moment} at time zone $2, 'YYYY-MM-DD')`

/**
 * Use by meter and day of the time zone.
 * @param levels the meters that do not add up from day to day. What one rose by counts with what was carried into its cycle, on the day on
 * which that began: by the days on which it was told, a month in which it rose would have the level of the next cycle beside it.
 */
export async function listDaysOfUse(
  db: Queryable,
  use: ReplayedUse,
  levels: readonly Pick<Meter, 'key' | 'balanceKey'>[],
): Promise<Map<string, DayOfUse[]>> {
  return listByOrganization<DayOfUse>(
    db,
    use,
    `select organization_id as "organizationId", meter, ${dayOf('at')} as day, sum(quantity)::bigint as quantity
     from (
       select u.organization_id, u.meter, u.quantity, coalesce(cycle.began, u.hour) as at
       from usage_hourly u left join lateral (
         select max(g.starts_at) as began from unnest($5::text[], $6::text[]) as level (meter, balance)
         join grants g on g.organization_id = u.organization_id and g.balance = level.balance and g.kind = 'plan'
         where level.meter = u.meter and g.id like '${IDS_BY_CYCLE}' and g.starts_at <= u.hour
       ) as cycle on true
       where u.organization_id = any($1) and u.hour >= ${BEGIN}
         and u.hour < ${END} + case when u.meter = any($5) then interval '1 month' else interval '0' end
     ) as counted
     where at >= ${BEGIN} and at < ${END} group by 1, 2, 3`,
    [levels.map(({ key }) => key), levels.map(({ balanceKey }) => balanceKey)],
  )
}

/**
 * What was given by hand or bought before, with what was left of it when the months began: the events until then say what they
 * took, as long as they are kept.
 */
export async function listGivenGrants(db: Queryable, use: ReplayedUse): Promise<Map<string, GivenGrant[]>> {
  return listByOrganization<GivenGrant>(
    db,
    use,
    `select g.organization_id as "organizationId", g.balance as "balanceKey", g.priority, g.meters,
       case when g.amount is not null then greatest(g.amount - g.revoked - coalesce(before.used, 0), 0) end as amount,
       ${dayOf('g.starts_at')} as "from", ${dayOf(`nullif(g.expires_at, 'infinity')`)} as until
     from grants g
     left join lateral (
       select sum((draw ->> 1)::bigint)::bigint as used
       from usage_events e cross join lateral jsonb_array_elements(e.draws) as draw
       where g.used > 0 and g.starts_at < ${BEGIN} and e.organization_id = g.organization_id
         and e.recorded_at >= g.starts_at and e.recorded_at < ${BEGIN}
         and e.draws is not null and e.refusal is null and e.verb <> 'reserve' and draw ->> 0 = g.id
     ) as before on true
     where g.organization_id = any($1) and g.kind in ('promotion', 'manual', 'top_up')
       and g.expires_at > ${BEGIN} and g.starts_at < ${END}
       and not exists (select from top_up_purchases p
         where p.organization_id = g.organization_id and 'top_up:' || p.id = g.id and p.paid_at >= ${BEGIN})`,
  )
}

/** Packages that were paid within the months. */
export async function listBoughtTopUps(db: Queryable, use: ReplayedUse): Promise<Map<string, BoughtTopUp[]>> {
  return listByOrganization<BoughtTopUp>(
    db,
    use,
    `select organization_id as "organizationId", top_up as "topUpKey", balance as "balanceKey", quantity, amount - taken_back as amount,
       amount as "soldAmount", price_minor::float8 as "soldMinor", (price_minor - kept.refunded)::float8 as "paidMinor",
       ${dayOf('paid_at')} as "from", to_char((paid_at at time zone $2) + expires_after_days * interval '1 day', 'YYYY-MM-DD') as until
     from top_up_purchases
     cross join lateral (select case when disputed then price_minor else least(refunded_minor, price_minor) end as refunded) as kept
     where organization_id = any($1) and status = 'paid' and paid_at >= ${BEGIN} and paid_at < ${END}`,
  )
}

async function listByOrganization<Row>(
  db: Queryable,
  { organizationIds, timeZone, from, to }: ReplayedUse,
  text: string,
  more: readonly unknown[] = [],
): Promise<Map<string, Row[]>> {
  const { rows } = await db.query<Row & { readonly organizationId: string }>(text, [organizationIds, timeZone, from, to, ...more])
  return Map.groupBy(rows, ({ organizationId }) => organizationId)
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { OverriddenPlan } from '../standing/rules.ts'
import type { Quantity } from '../lib/quantity.ts'
import { filterByTime, NO_FILTER, prefixPattern, type List, type Narrowing, type PageQuery } from './listing.ts'
import { narrowBy, readListed, type CommonFilter, type Listed } from './lists-store.ts'

export type ListedUser = {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly operator: boolean
  readonly createdAt: Instant
}

const USERS: List = {
  from: 'users',
  alias: 'person',
  id: 'person.id',
  sorts: { created: { by: 'person.created_at', type: 'timestamptz' }, name: { by: 'lower(person.name)', type: 'text' } },
  columns: 'person.id, person.name, person.email, person.operator, person.created_at as "createdAt"',
}

/** CB-7: people, whatever organizations they are members of. */
export async function listUsers(db: Queryable, query: CommonFilter & PageQuery): Promise<Listed<ListedUser>> {
  const start = filterByTime(NO_FILTER, 'person.created_at', { from: query.createdFrom, to: query.createdTo })
  const narrowed = await narrowBy(db, start, 'person.id', query.search === null ? [] : [searchUsers(query.search)])
  const tally = narrowed.filter.conditions.length === 0 ? { subject: 'users' as const, status: null } : null
  return readListed<ListedUser>(db, USERS, { narrowed, page: query, tally })
}

function searchUsers(search: string): Narrowing {
  const ways = ['person.id like ?', 'lower(person.name) like ?', 'lower(person.email) like ?']
  const lower = prefixPattern(search.toLowerCase())
  return {
    ids: ways.map((way) => `select id from users person where ${way}`).join(' union '),
    each: ways.join(' or '),
    values: [prefixPattern(search), lower, lower],
  }
}

export type UserOrganization = {
  readonly userId: string
  readonly organizationId: string
  readonly name: string
  readonly role: string
  readonly status: string | null
} & OverriddenPlan

/** The organizations of people, in the order in which they joined. */
export async function listOrganizationsOfUsers(db: Queryable, userIds: readonly string[]): Promise<UserOrganization[]> {
  const { rows } = await db.query<UserOrganization>(
    `select member.user_id as "userId", organization.id as "organizationId", organization.name, member.role,
       account.plan_key as "planKey", account.override_plan_key as "overridePlanKey", account.override_ends_at as "overrideEndsAt",
       organization.test_clock_now as "testClockNow", account.subscription_status as status
     from organization_members member join organizations organization on organization.id = member.organization_id
     left join accounts account on account.organization_id = organization.id
     where member.user_id = any($1) order by member.created_at, organization.id`,
    [userIds],
  )
  return rows
}

export type MeterUse = { readonly organizationId: string; readonly meter: string; readonly quantity: Quantity }

/** Of which organization, and from when to when. */
export type UseSpan = { readonly organizationId: string; readonly start: Instant; readonly end: Instant }

/** What organizations used, each in a span of its own, by meter. */
export async function sumUse(db: Queryable, spans: readonly UseSpan[]): Promise<MeterUse[]> {
  const { rows } = await db.query<MeterUse>(
    `select used.organization_id as "organizationId", meter, sum(quantity)::bigint as quantity
     from unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) as span (organization_id, starts_at, ends_at)
     join usage_hourly used on used.organization_id = span.organization_id and hour >= starts_at and hour < ends_at
     group by used.organization_id, meter order by used.organization_id, meter`,
    [spans.map(({ organizationId }) => organizationId), spans.map(({ start }) => start), spans.map(({ end }) => end)],
  )
  return rows
}

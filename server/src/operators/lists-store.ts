import type { Queryable } from '../db/database.ts'
import { countRows, type TallySubject } from '../analytics/store.ts'
import { INVOICE_COLUMNS, toInvoice, type Invoice, type InvoiceRow } from '../invoices/store.ts'
import type { Instant } from '../lib/clock.ts'
import { shownPlan, type OverriddenPlan } from '../standing/rules.ts'
import { IS_LICENSED } from '../subscriptions/store.ts'
import {
  countOf,
  countUpTo,
  filterBy,
  filterByTime,
  filterIf,
  narrow,
  NO_FILTER,
  prefixPattern,
  readPage,
  type Filter,
  type List,
  type ListPage,
  type Narrowing,
  type PageQuery,
} from './listing.ts'

/**
 * What operators list over all organizations (OC-5 to OC-8, CB-7). Everything comes from the mirror; money is minor units. Each list
 * says how many there are in all.
 */
export type Listed<Row> = ListPage<Row> & { readonly total: number; readonly capped: boolean }

/** What every list can be narrowed by. */
export type CommonFilter = {
  readonly search: string | null
  readonly createdFrom: Instant | null
  readonly createdTo: Instant | null
}

// Where a condition on each row is an `exists`, `offset 0` keeps the planner from turning it into a join over all that the other table finds.

/** What a list is narrowed to, and how many rows that leaves where that is known already. */
type Narrowed = { readonly filter: Filter; readonly known: { readonly total: number; readonly capped: boolean } | null }

/** Adds one narrowing after the other. What the only condition finds need not be counted again. */
export async function narrowBy(db: Queryable, start: Filter, id: string, narrowings: readonly Narrowing[]): Promise<Narrowed> {
  let filter = start
  let found = 0
  for (const narrowing of narrowings) ({ filter, found } = await narrow(db, filter, id, narrowing))
  return { filter, known: narrowings.length === 1 && start.conditions.length === 0 ? countOf(found) : null }
}

type Counting = { readonly subject: TallySubject; readonly status: string | null }

/** Reads a page beside the number of rows: by the tallies where they can tell, else by counting up to a bound. */
export async function readListed<Row extends object>(
  db: Queryable,
  list: List,
  { narrowed, page, tally }: { narrowed: Narrowed; page: PageQuery; tally: Counting | null },
): Promise<Listed<Row>> {
  const { filter, known } = narrowed
  const [rows, total] = await Promise.all([
    readPage<Row>(db, list, filter, page),
    known ?? (tally === null ? countUpTo(db, list, filter) : countTallied(db, tally)),
  ])
  return { ...rows, ...total }
}

async function countTallied(db: Queryable, { subject, status }: Counting): Promise<{ total: number; capped: boolean }> {
  return { total: await countRows(db, subject, status), capped: false }
}

const isPlain = ({ search, createdFrom, createdTo }: CommonFilter): boolean =>
  search === null && createdFrom === null && createdTo === null

/**
 * A text as a tsquery: every word of it begins one of those that are searched. PostgreSQL takes it apart, as it did what is searched:
 * by other rules "24/7" and "snake_case" are other words. A text without any word is null, which finds nothing.
 */
const WORDS = `select string_agg('''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || ''':*', ' & ')::tsquery
  from unnest(to_tsvector('simple', ?::text))`

/** Each way in which a text finds an organization: beginning of id, name, e-mail or customer id; of words of name and e-mail. */
const SEARCHES = [
  'lower(organization.id) like lower(?::text)',
  'lower(organization.name) like lower(?::text)',
  'lower(organization.email) like lower(?::text)',
  'organization.stripe_customer_id like ?',
  `to_tsvector('simple', organization.name || ' ' || organization.email) @@ (${WORDS})`,
] as const

/** By the id of one of its objects at Stripe. */
const OWNS = `select organization_id as id from stripe_subscriptions where id = ?
  union all select organization_id from stripe_invoices where id = ?
  union all select organization_id from stripe_charges where id = ?
  union all select organization_id from stripe_payment_methods where id = ?`

function searchOrganizations(search: string): Narrowing {
  const prefix = prefixPattern(search)
  const branches = SEARCHES.map((condition) => `select id from organizations organization where ${condition}`)
  return {
    ids: `${branches.join(' union ')} union (${OWNS})`,
    each: `${SEARCHES.join(' or ')} or organization.id = any(array(${OWNS}))`,
    values: [prefix, prefix, prefix, prefix, search, search, search, search, search],
  }
}

/** As many organizations as a search for their objects looks at. */
const SEARCHED_ORGANIZATIONS = 200

/** Objects by the beginning of their own names, or of those organizations that the text finds. */
function searchObjects(table: string, search: string, columns: readonly string[]): Narrowing {
  const organizations = searchOrganizations(search)
  const owned = `organization_id = any(array(select id from (${organizations.ids}) found limit ${SEARCHED_ORGANIZATIONS}))`
  const named = columns.map((column) => `${column} like ?`)
  const prefix = prefixPattern(search)
  return {
    ids: [...named, owned].map((condition) => `select id from ${table} where ${condition}`).join(' union '),
    each: [...named, owned].map((condition) => `object.${condition}`).join(' or '),
    values: [...columns.map(() => prefix), ...organizations.values],
  }
}

export type ListedOrganization = {
  /** At Stripe; the organization's own where it has no customer yet. */
  readonly id: string
  readonly organizationId: string
  readonly email: string
  readonly name: string
  readonly tier: string
  readonly status: string | null
  readonly currency: string | null
  readonly delinquent: boolean
  readonly overridden: boolean
  readonly createdAt: Instant
}

export type OrganizationFilter = CommonFilter & {
  readonly plan: string | null
  /** Of the subscription; `none` where there is none. */
  readonly status: string | null
  readonly currency: string | null
  readonly delinquent: boolean | null
  readonly overridden: boolean | null
}

/** Whether an override that has an end still counts; few have one. */
const COUNTS = `(account.override_ends_at is null or account.override_ends_at >
  coalesce((select clocked.test_clock_now from organizations clocked where clocked.id = account.organization_id), ?))`

/** As the index `accounts_overridden` says it. */
const OVERRIDDEN = `(coalesce(account.override_plan_key, account.override_status) is not null
  or coalesce(account.override_trial_ends_at, account.override_expires_at) is not null)`

/** The few that are overridden first, by that index alone: beside the question when each ends, the planner would read every account. */
const OVERRIDDEN_NOW = `account.organization_id = any (array(select account.organization_id from (
    select account.organization_id, account.override_ends_at from accounts account where ${OVERRIDDEN} offset 0
  ) account where ${COUNTS}))`

/** As the index `accounts_delinquent` says it. */
const DELINQUENT = `coalesce(account.payment_failed_at, account.left_owing_since)`

const ORGANIZATIONS = {
  from: 'organizations',
  alias: 'organization',
  joins: `left join accounts account on account.organization_id = organization.id
    left join stripe_customers customer
      on customer.organization_id = organization.id and customer.id = organization.stripe_customer_id`,
  id: 'organization.id',
  sorts: {
    created: { by: 'organization.created_at', type: 'timestamptz' },
    name: { by: 'lower(organization.name)', type: 'text' },
  },
} as const

const ORGANIZATION_COLUMNS = `coalesce(organization.stripe_customer_id, organization.id) as id, organization.id as "organizationId",
  organization.email, organization.name, account.plan_key as "planKey", account.override_plan_key as "overridePlanKey",
  account.override_ends_at as "overrideEndsAt", organization.test_clock_now as "testClockNow", account.subscription_status as status, customer.currency, ${DELINQUENT} is not null as delinquent,
  coalesce(${OVERRIDDEN}, false) as "hasOverride", organization.created_at as "createdAt"`

/**
 * Organizations by what they have: each has its account from its creation on.
 * @param defaultPlanKey shown of those whose account is not there yet
 */
export async function listOrganizations(
  db: Queryable,
  query: OrganizationFilter & PageQuery,
  { defaultPlanKey, now }: { readonly defaultPlanKey: string; readonly now: Instant },
): Promise<Listed<ListedOrganization>> {
  const accounts = filterAccounts(query, now)
  const narrowed = await narrowBy(
    db,
    filterByTime(NO_FILTER, 'organization.created_at', { from: query.createdFrom, to: query.createdTo }),
    'organization.id',
    [
      ...(accounts.conditions.length === 0 ? [] : [narrowByAccount(accounts)]),
      ...(query.currency === null ? [] : [narrowByCurrency(query.currency)]),
      ...(query.search === null ? [] : [searchOrganizations(query.search)]),
    ],
  )
  const tally = narrowed.filter.conditions.length === 0 ? { subject: 'organizations' as const, status: null } : null
  const list = { ...ORGANIZATIONS, columns: ORGANIZATION_COLUMNS }
  const listed = await readListed<OrganizationRow>(db, list, { narrowed, page: query, tally })
  const rows = listed.rows.map((row) => {
    const counts = row.overrideEndsAt === null || row.overrideEndsAt > (row.testClockNow ?? now)
    return { ...row, tier: shownPlan(row, now) ?? defaultPlanKey, overridden: row.hasOverride && counts }
  })
  return { ...listed, rows }
}

type OrganizationRow = Omit<ListedOrganization, 'tier' | 'overridden'> & OverriddenPlan & { readonly hasOverride: boolean }

function filterAccounts({ plan, status, delinquent, overridden }: OrganizationFilter, now: Instant): Filter {
  let filter = NO_FILTER
  if (plan !== null) {
    // The first half by the index of shown plans, the second by that of the few overrides that end.
    const shown = `coalesce(account.override_plan_key, account.plan_key) = ? and ${COUNTS}`
    const ended = `account.override_ends_at is not null and account.plan_key = ? and not ${COUNTS}`
    filter = filterBy(filter, `(${shown} or ${ended})`, plan, now, plan, now)
  }
  if (status === 'none') filter = filterBy(filter, 'account.subscription_status is null')
  else filter = filterIf(filter, 'account.subscription_status = ?', status)
  if (delinquent !== null) filter = filterBy(filter, `${DELINQUENT} is ${delinquent ? 'not null' : 'null'}`)
  if (overridden === true) filter = filterBy(filter, OVERRIDDEN_NOW, now)
  if (overridden === false) filter = filterBy(filter, `not (${OVERRIDDEN} and ${COUNTS})`, now)
  return filter
}

function narrowByAccount({ conditions, parameters }: Filter): Narrowing {
  const where = conditions.map((condition) => `(${condition.replaceAll(/\$\d+/g, '?')})`).join(' and ')
  return {
    ids: `select account.organization_id from accounts account where ${where}`,
    each: `exists (select from accounts account where account.organization_id = organization.id and ${where} offset 0)`,
    values: parameters,
  }
}

function narrowByCurrency(currency: string): Narrowing {
  return {
    ids: 'select customer.organization_id from stripe_customers customer where customer.currency = ?',
    each: `exists (select from stripe_customers customer
      where customer.organization_id = organization.id and customer.currency = ? offset 0)`,
    values: [currency],
  }
}

export type ListedSubscription = {
  readonly id: string
  readonly customerId: string
  readonly organizationId: string
  readonly tier: string | null
  readonly status: string
  readonly amountMinor: number
  readonly currency: string
  readonly interval: string
  readonly currentPeriodEnd: Instant
  readonly cancelAtPeriodEnd: boolean
  readonly createdAt: Instant
}

export type SubscriptionFilter = CommonFilter & {
  readonly status: string | null
  readonly plan: string | null
  readonly currency: string | null
}

const SORT_BY_TIME = { created: { by: 'object.created_at', type: 'timestamptz' } } as const

const SUBSCRIPTIONS: List = {
  from: 'stripe_subscriptions',
  alias: 'object',
  id: 'object.id',
  sorts: SORT_BY_TIME,
  columns: `object.id, object.customer_id as "customerId", object.organization_id as "organizationId", object.status,
    object.currency, object.cancel_at_period_end or object.cancel_at is not null as "cancelAtPeriodEnd",
    object.created_at as "createdAt", (
      select jsonb_build_array(min(sold.plan_key), sum(coalesce(item.unit_amount_minor, 0) * coalesce(item.quantity, 1)),
        min(item.billing_interval), extract(epoch from min(item.current_period_end)))
      from stripe_subscription_items item left join plan_prices sold on sold.stripe_price_id = item.price_id
      where item.organization_id = object.organization_id and item.subscription_id = object.id and ${IS_LICENSED}
    ) as sold`,
}

type SubscriptionRow = Omit<ListedSubscription, 'tier' | 'amountMinor' | 'interval' | 'currentPeriodEnd'> & {
  readonly sold: readonly [tier: string | null, amountMinor: number | null, interval: string | null, periodEnd: number | null]
}

export async function listSubscriptions(
  db: Queryable,
  query: SubscriptionFilter & PageQuery,
): Promise<Listed<ListedSubscription>> {
  const { status, plan, currency } = query
  const narrowed = await narrowBy(db, filterObject(query), 'object.id', [
    ...(query.search === null ? [] : [searchObjects('stripe_subscriptions', query.search, ['id'])]),
    ...(plan === null ? [] : [narrowByPlan(plan)]),
  ])
  const tally = isPlain(query) && plan === null && currency === null ? { subject: 'stripe_subscriptions' as const, status } : null
  const listed = await readListed<SubscriptionRow>(db, SUBSCRIPTIONS, { narrowed, page: query, tally })
  const rows = listed.rows.map(({ sold: [tier, amountMinor, interval, periodEnd], ...row }) => ({
    ...row,
    tier,
    amountMinor: amountMinor ?? 0,
    interval: interval ?? 'month',
    currentPeriodEnd: periodEnd === null ? row.createdAt : new Date(periodEnd * 1000),
  }))
  return { ...listed, rows }
}

function filterObject({ status, currency, createdFrom, createdTo }: ObjectFilter): Filter {
  const filter = filterByTime(NO_FILTER, 'object.created_at', { from: createdFrom, to: createdTo })
  return filterIf(filterIf(filter, 'object.status = ?', status), 'object.currency = ?', currency)
}

function narrowByPlan(plan: string): Narrowing {
  const sold = 'item.price_id = any(array(select stripe_price_id from plan_prices where plan_key = ?))'
  return {
    ids: `select item.subscription_id as id from stripe_subscription_items item where ${sold}`,
    each: `exists (select from stripe_subscription_items item where item.organization_id = object.organization_id
      and item.subscription_id = object.id and ${sold} offset 0)`,
    values: [plan],
  }
}

export type ListedCharge = {
  readonly id: string
  readonly customerId: string
  readonly organizationId: string
  readonly amountMinor: number
  readonly currency: string
  readonly status: string
  readonly description: string | null
  readonly paid: boolean
  readonly refunded: boolean
  readonly createdAt: Instant
}

export type ObjectFilter = CommonFilter & { readonly status: string | null; readonly currency: string | null }

const CHARGES: List = {
  from: 'stripe_charges',
  alias: 'object',
  id: 'object.id',
  sorts: SORT_BY_TIME,
  columns: `object.id, customer_id as "customerId", organization_id as "organizationId", amount_minor::float8 as "amountMinor", currency,
    status, description, paid, refunded, created_at as "createdAt"`,
}

export async function listCharges(db: Queryable, query: ObjectFilter & PageQuery): Promise<Listed<ListedCharge>> {
  return listObjects(db, CHARGES, { query, subject: 'stripe_charges', names: ['id'] })
}

export type ListedInvoice = Invoice & { readonly organizationId: string }

const INVOICES: List = {
  from: 'stripe_invoices',
  alias: 'object',
  id: 'object.id',
  sorts: SORT_BY_TIME,
  columns: `organization_id as "organizationId", ${INVOICE_COLUMNS}`,
}

export async function listAllInvoices(db: Queryable, query: ObjectFilter & PageQuery): Promise<Listed<ListedInvoice>> {
  const listed = await listObjects<InvoiceRow & { readonly organizationId: string }>(db, INVOICES, {
    query,
    subject: 'stripe_invoices',
    names: ['id', 'number'],
  })
  return { ...listed, rows: listed.rows.map((row) => ({ ...toInvoice(row), organizationId: row.organizationId })) }
}

type Objects = { readonly query: ObjectFilter & PageQuery; readonly subject: TallySubject; readonly names: readonly string[] }

async function listObjects<Row extends object>(
  db: Queryable,
  list: List,
  { query, subject, names }: Objects,
): Promise<Listed<Row>> {
  const { status, currency } = query
  const searches = query.search === null ? [] : [searchObjects(subject, query.search, names)]
  const narrowed = await narrowBy(db, filterObject(query), 'object.id', searches)
  const tally = isPlain(query) && currency === null ? { subject, status } : null
  return readListed<Row>(db, list, { narrowed, page: query, tally })
}

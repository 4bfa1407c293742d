import type { Queryable } from '../db/database.ts'
import { together } from '../db/together.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'

/** The metadata by which a customer at Stripe names its organization. */
export const ORGANIZATION_METADATA = 'tollgate_organization'

/** An organization as billing sees it. */
export type BilledOrganization = {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly customerId: string | null
  readonly testClockId: string | null
  readonly testClockNow: Instant | null
}

const COLUMNS = `id, name, email, stripe_customer_id as "customerId", stripe_test_clock_id as "testClockId",
  test_clock_now as "testClockNow"`

/** The organization's own time: its test clock's where it lives on one. */
export function timeOf(organization: BilledOrganization, clock: Clock): Instant {
  return organization.testClockNow ?? clock.now()
}

export async function findOrganizations(db: Queryable, ids: readonly string[]): Promise<ReadonlyMap<string, BilledOrganization>> {
  const { rows } = await db.query<BilledOrganization>({
    name: 'find_organizations',
    text: `select ${COLUMNS} from organizations where id = any($1)`,
    values: [ids],
  })
  return new Map(rows.map((row) => [row.id, row]))
}

export const findOrganization = together(async (db, ids: readonly string[]) => {
  const organizations = await findOrganizations(db, [...new Set(ids)])
  return ids.map((id) => organizations.get(id) ?? null)
})

/** @throws DomainError `not_found` */
export async function readOrganization(db: Queryable, id: string): Promise<BilledOrganization> {
  const organization = await findOrganization(db, id)
  if (organization === null) throw new DomainError('not_found', 'There is no such organization.')
  return organization
}

/** By its present customer, or by one that the mirror knows from before. */
export async function findOrganizationIdByCustomer(db: Queryable, customerId: string): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>(
    `select id from organizations where stripe_customer_id = $1
     union all select organization_id from stripe_customers where id = $1 limit 1`,
    [customerId],
  )
  return rows[0]?.id ?? null
}

/** The same for many: organizations by their customers. */
export async function findOrganizationIdsByCustomers(
  db: Queryable,
  customerIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { rows } = await db.query<{ customerId: string; id: string }>({
    name: 'find_organizations_by_customers',
    text: `select id as "customerId", organization_id as id from stripe_customers where id = any($1)
      union all select stripe_customer_id, id from organizations where stripe_customer_id = any($1)`,
    values: [customerIds],
  })
  return new Map(rows.map(({ customerId, id }) => [customerId, id]))
}

export async function findOrganizationIdByTestClock(db: Queryable, testClockId: string): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>('select id from organizations where stripe_test_clock_id = $1', [testClockId])
  return rows[0]?.id ?? null
}

/** By an object that the mirror holds, for events that name no customer (a dispute names its charge). */
export async function findOrganizationIdByObject(db: Queryable, objectId: string): Promise<string | null> {
  const { rows } = await db.query<{ organization_id: string }>(
    `select organization_id from stripe_payment_methods where id = $1
     union all select organization_id from stripe_charges where id = $1 or payment_intent_id = $1
     union all select organization_id from stripe_invoices where id = $1
     union all select organization_id from stripe_subscriptions where id = $1 or schedule_id = $1
     limit 1`,
    [objectId],
  )
  return rows[0]?.organization_id ?? null
}

/** Gives the organization a customer unless it has one; answers whether it has this one now. */
export async function linkCustomer(db: Queryable, link: { organizationId: string; customerId: string }): Promise<boolean> {
  const { rows } = await db.query<{ stripe_customer_id: string }>(
    `update organizations set stripe_customer_id = coalesce(stripe_customer_id, $2) where id = $1 returning stripe_customer_id`,
    [link.organizationId, link.customerId],
  )
  return rows[0]?.stripe_customer_id === link.customerId
}

/** Forgets a customer that was deleted at Stripe, so that the next purchase makes a new one. */
export async function unlinkCustomer(db: Queryable, link: { organizationId: string; customerId: string }): Promise<void> {
  await db.query('update organizations set stripe_customer_id = null where id = $1 and stripe_customer_id = $2', [
    link.organizationId,
    link.customerId,
  ])
}

export async function setTestClock(
  db: Queryable,
  clock: { organizationId: string; testClockId: string; now: Instant },
): Promise<void> {
  // A clock counts whole seconds: one that begins with its organization must not begin before it, since periods are counted from there.
  await db.query(
    `update organizations set stripe_test_clock_id = $2, test_clock_now = $3, created_at = least(created_at, $3) where id = $1`,
    [clock.organizationId, clock.testClockId, clock.now],
  )
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { OrganizationId } from '../lib/ids.ts'

export type Organization = {
  readonly id: OrganizationId
  readonly name: string
  readonly email: string
  readonly stripeCustomerId: string | null
  readonly testClockId: string | null
  readonly testClockNow: Instant | null
  /** Of its calendar periods; null is the catalog's. */
  readonly timeZone: string | null
  readonly createdAt: Instant
}

const COLUMNS = `id, name, email, stripe_customer_id as "stripeCustomerId", stripe_test_clock_id as "testClockId",
  test_clock_now as "testClockNow", time_zone as "timeZone", created_at as "createdAt"`

/** Answers false when the id is taken. */
export async function insertOrganization(
  tx: Queryable,
  organization: Pick<Organization, 'id' | 'name' | 'email' | 'timeZone' | 'createdAt'>,
): Promise<boolean> {
  const inserted = await tx.query(
    `insert into organizations (id, name, email, time_zone, created_at) values ($1, $2, $3, $4, $5)
     on conflict (id) do nothing`,
    [organization.id, organization.name, organization.email, organization.timeZone, organization.createdAt],
  )
  return inserted.rowCount === 1
}

export async function findOrganization(db: Queryable, id: OrganizationId): Promise<Organization | null> {
  const { rows } = await db.query<Organization>(`select ${COLUMNS} from organizations where id = $1`, [id])
  return rows[0] ?? null
}

/** Newest first, from after the given one on. */
export async function listOrganizations(
  db: Queryable,
  page: { readonly limit: number; readonly startingAfter: OrganizationId | null },
): Promise<readonly Organization[]> {
  const { rows } = await db.query<Organization>(
    `select ${COLUMNS} from organizations
     where $2::text is null or (created_at, id) < (select created_at, id from organizations where id = $2)
     order by created_at desc, id desc limit $1`,
    [page.limit, page.startingAfter],
  )
  return rows
}

import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { OrganizationId } from '../lib/ids.ts'

export type Organization = {
  readonly id: OrganizationId
  readonly name: string
  readonly email: string
  readonly stripeCustomerId: string | null
  readonly stripeTestClockId: string | null
  /** The organization's own time while it lives on a test clock. */
  readonly testClockNow: Instant | null
  readonly createdAt: Instant
}

const COLUMNS = `id, name, email, stripe_customer_id as "stripeCustomerId", stripe_test_clock_id as "stripeTestClockId",
  test_clock_now as "testClockNow", created_at as "createdAt"`

export type NewOrganization = Pick<Organization, 'id' | 'name' | 'email' | 'createdAt'>

/** Inserts an organization; answers false when the id is taken. */
export async function insertOrganization(tx: Queryable, organization: NewOrganization): Promise<boolean> {
  const { rowCount } = await tx.query(
    'insert into organizations (id, name, email, created_at) values ($1, $2, $3, $4) on conflict (id) do nothing',
    [organization.id, organization.name, organization.email, organization.createdAt],
  )
  return rowCount === 1
}

export type NewAccount = {
  readonly organizationId: OrganizationId
  readonly planKey: string
  readonly catalogVersion: number
  readonly now: Instant
}

export async function insertAccount(tx: Queryable, account: NewAccount): Promise<void> {
  await tx.query('insert into accounts (organization_id, plan_key, catalog_version, updated_at) values ($1, $2, $3, $4)', [
    account.organizationId,
    account.planKey,
    account.catalogVersion,
    account.now,
  ])
}

export async function findOrganizationById(db: Queryable, id: OrganizationId): Promise<Organization | null> {
  const { rows } = await db.query<Organization>(`select ${COLUMNS} from organizations where id = $1`, [id])
  return rows[0] ?? null
}

/** A page of organizations by id, after the given one. */
export async function listOrganizations(db: Queryable, page: { after: string; limit: number }): Promise<readonly Organization[]> {
  const { rows } = await db.query<Organization>(`select ${COLUMNS} from organizations where id > $1 order by id limit $2`, [
    page.after,
    page.limit,
  ])
  return rows
}

import type { Db, Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { UserId } from '../lib/ids.ts'

export type User = {
  readonly id: UserId
  readonly name: string
  readonly email: string
  readonly emailVerified: boolean
  readonly twoFactorEnabled: boolean
  readonly operator: boolean
  readonly createdAt: Instant
}

const COLUMNS = `id, name, email, email_verified as "emailVerified", coalesce(two_factor_enabled, false) as "twoFactorEnabled",
  operator, created_at as "createdAt"`

export type UsersQuery = { readonly email: string | null; readonly after: UserId | null; readonly limit: number }

/** By id, from after the given one on; those of one address when it is named. */
export async function listUsers(db: Queryable, query: UsersQuery): Promise<readonly User[]> {
  const { rows } = await db.query<User>(
    `select ${COLUMNS} from users
     where ($1::text is null or email = $1) and ($2::text is null or id > $2) order by id limit $3`,
    [query.email, query.after, query.limit],
  )
  return rows
}

export async function findUser(db: Queryable, id: UserId): Promise<User | null> {
  const { rows } = await db.query<User>(`select ${COLUMNS} from users where id = $1`, [id])
  return rows[0] ?? null
}

export async function lockUserById(tx: Queryable, id: UserId): Promise<User | null> {
  const { rows } = await tx.query<User>(`select ${COLUMNS} from users where id = $1 for no key update`, [id])
  return rows[0] ?? null
}

export async function updateOperator(tx: Queryable, user: { readonly id: UserId; readonly operator: boolean }): Promise<void> {
  await tx.query('update users set operator = $2 where id = $1', [user.id, user.operator])
}

/** With their password and sessions; who belongs to an organization by now stays. */
export async function deleteUnlessMember(db: Db, id: UserId): Promise<void> {
  await db.transaction(async (tx) => {
    // Whoever makes them a member refers to the row until that is committed, and is seen once it is locked.
    await tx.query('select from users where id = $1 for update', [id])
    await tx.query('delete from users where id = $1 and not exists (select from organization_members where user_id = $1)', [id])
  })
}

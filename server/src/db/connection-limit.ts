import type { Queryable } from './queryable.ts'

/** What a server opens beside its pool: four to count use, five for sign-ins, two for news, one to ask what is still at work. */
const OTHER_CONNECTIONS = 12
const LEAST_POOL = 5

/**
 * Says that PostgreSQL takes fewer connections of this login than one server may open, in a sentence with the remedy; null when it takes enough.
 * Whoever comes first has them then, and what is left without may be what counts use.
 */
export async function findConnectionGap(db: Queryable, poolSize: number): Promise<string | null> {
  const { rows } = await db.query<{ most: number }>(`
    select least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1), current_setting('max_connections')::int
      - current_setting('superuser_reserved_connections')::int - coalesce(current_setting('reserved_connections', true)::int, 0)) as most
    from pg_roles, pg_database where rolname = session_user and datname = current_database()`)
  const { most } = rows[0]!
  if (most >= poolSize + OTHER_CONNECTIONS) return null
  const told = `PostgreSQL takes ${most} connections of this login, and each server opens up to ${poolSize + OTHER_CONNECTIONS}`
  const left = most - OTHER_CONNECTIONS
  return left < LEAST_POOL
    ? `${told}: at least ${OTHER_CONNECTIONS + LEAST_POOL} are needed, with TOLLGATE_DATABASE_CONNECTIONS=${LEAST_POOL}.`
    : `${told}: set TOLLGATE_DATABASE_CONNECTIONS to ${left} at most, or less where several servers run.`
}

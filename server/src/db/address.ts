import pg, { type ClientBase, type PoolClient } from 'pg'
import { databaseUnavailable, isConnectionError } from './database.ts'
import { MigrationError } from './migrate.ts'
import { openSessions } from './sessions.ts'

/** How often two sessions are compared: a pooler with connections to spare need not lend the same one at once. */
const ROUNDS = 5

const MARK = 'tollgate.mark'

/**
 * Whether what belongs to a session stays with its connection. A pooler that lends its connections by the transaction, or by the statement, gives
 * one client what another has set: the role and the organizations whose rows are seen (row-security.ts), locks, what was prepared. Two sessions
 * are opened through it, and each asks for the process that answers and for a mark that it set before.
 */
async function keepsSessions(connectionString: string): Promise<boolean> {
  const pool = openSessions({ connectionString, size: 2, name: 'tollgate' })
  pool.on('error', () => undefined)
  const clients: PoolClient[] = []
  const connect = async (): Promise<PoolClient> => {
    const client = await pool.connect()
    // Whoever waits for an answer hears of it too; unheard, this would end the process.
    client.on('error', () => undefined)
    clients.push(client)
    return client
  }
  try {
    const one = await connect()
    const other = await connect()
    const isApart = await staysApart(one, other)
    // What was set for these two is not left to whoever comes next.
    if (!isApart) for (const client of [other, one]) await client.query('rollback; reset all')
    return isApart
  } catch (error) {
    // A pooler that lends by the statement takes no transactions.
    if (clients.length === 2 && error instanceof pg.DatabaseError && error.code === PROTOCOL_VIOLATION) return false
    if (error instanceof pg.DatabaseError && REFUSED.test(error.code ?? '')) throw refusedLogin(error)
    // Whatever else kept a connection from being made.
    throw clients.length < 2 || isConnectionError(error) ? databaseUnavailable(error) : error
  } finally {
    for (const client of clients) client.release(true)
    await pool.end()
  }
}

async function staysApart(one: ClientBase, other: ClientBase): Promise<boolean> {
  await one.query(`select set_config('${MARK}', 'one', false)`)
  const first = await read(one)
  for (let round = 0; round < ROUNDS; round += 1) {
    await other.query('begin')
    const between = await read(other)
    // Nothing more is asked of the first: where there is a single connection to lend, it is lent now.
    if (between.process === first.process || between.mark !== '') return false
    const again = await read(one)
    await other.query('rollback')
    if (again.process !== first.process || again.mark !== 'one') return false
  }
  return true
}

const PROTOCOL_VIOLATION = '08P01'

// SQLSTATE of a login or a password that is wrong or not let in (28), and of a database that is not there: neither passes by itself.
const REFUSED = /^28|^3D000$/

function refusedLogin(error: pg.DatabaseError): MigrationError {
  return new MigrationError(`PostgreSQL refuses what DATABASE_URL names: ${error.message}.`, { cause: error })
}

type Session = { readonly process: number; readonly mark: string }

async function read(client: ClientBase): Promise<Session> {
  const { rows } = await client.query<Session>(
    `select pg_backend_pid() as process, coalesce(current_setting('${MARK}', true), '') as mark`,
  )
  return rows[0]!
}

/**
 * Looks at where an address leads, before anything is done there.
 * @throws MigrationError for what cannot be used; DomainError `database_unavailable` when PostgreSQL is away
 */
export async function checkAddress(connectionString: string): Promise<void> {
  if (await keepsSessions(connectionString)) return
  throw new MigrationError(
    'DATABASE_URL leads to a pooler that lends its connections by the transaction (PgBouncer’s transaction mode, Supabase’s port 6543, ' +
      'Neon’s "-pooler" host): what one session has set, others would be given. Use the address of PostgreSQL itself, or that of a pooler in ' +
      'session mode (Supabase: port 5432).',
  )
}

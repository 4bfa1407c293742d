import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ClientBase } from 'pg'
import type { Db, Queryable } from './database.ts'
import { secureRows } from './row-security.ts'

/** `name` is the file's: `0001_platform.sql`. */
export type Migration = { readonly name: string; readonly sql: string; readonly checksum: string }

/** What start-up refuses about the database, in a sentence for the user. */
export class MigrationError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MigrationError'
  }
}

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), 'migrations')
const FILE = /^(\d{4})_[a-z0-9_]+\.sql$/
const OLDEST_SERVER = 150_000
/** Any fixed number will do: whoever holds this advisory lock migrates. */
const MIGRATION_LOCK = 7_865_432

/**
 * The numbered files of a folder, in order.
 * @throws MigrationError for a name that is not `0001_name.sql`, or a number used twice
 */
export function readMigrations(folder: string = FOLDER): readonly Migration[] {
  const names = readdirSync(folder).sort()
  const numbers = new Map<string, string>()
  for (const name of names) {
    const number = FILE.exec(name)?.[1]
    if (number === undefined) throw new MigrationError(`${name} in the folder of migrations is not named like 0001_name.sql.`)
    const other = numbers.get(number)
    if (other !== undefined) throw new MigrationError(`Two migrations have the number ${number}: ${other} and ${name}.`)
    numbers.set(number, name)
  }
  return names.map((name) => {
    const sql = readFileSync(join(folder, name), 'utf8')
    return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
  })
}

/**
 * Applies what is missing, all in one transaction under an advisory lock: of several servers that start together one
 * migrates and the others wait, and a migration that fails leaves nothing behind. Then puts every table under row-level
 * security (row-security.ts). Answers the names of what was applied.
 * @throws MigrationError when the server is older than PostgreSQL 15, the database not in UTF-8 or not the login's to make tables in, when an applied file was changed since, when the
 * database has a migration that this program does not know, or when a migration fails
 */
export async function migrate(db: Db, migrations: readonly Migration[] = readMigrations()): Promise<readonly string[]> {
  return db.transaction(async (tx) => {
    await checkServer(tx)
    await tx.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
    const missing = await findMissing(tx, migrations)
    for (const migration of missing) await apply(tx, migration)
    await secureRows(tx)
    return missing.map(({ name }) => name)
  })
}

type Place = {
  readonly version: number
  readonly encoding: string
  readonly schema: string | null
  readonly mayMake: boolean
  readonly login: string
}

async function checkServer(tx: ClientBase): Promise<void> {
  const { rows } = await tx.query<Place>(`
    select current_setting('server_version_num')::int as version, current_setting('server_encoding') as encoding,
      quote_ident(current_schema()) as schema, quote_ident(session_user) as login,
      coalesce(has_schema_privilege(current_schema(), 'create'), false) as "mayMake"`)
  const fault = faultOf(rows[0]!)
  if (fault !== null) throw new MigrationError(fault)
}

/** What keeps the tables from being made here, in a sentence with the remedy. */
function faultOf({ version, encoding, schema, mayMake, login }: Place): string | null {
  if (version < OLDEST_SERVER) return `PostgreSQL ${Math.floor(version / 10_000)} is too old: version 15 or newer is needed.`
  if (encoding !== 'UTF8') {
    return `The database is encoded in ${encoding}, which cannot hold every name: run "create database … encoding 'UTF8' template template0".`
  }
  if (schema === null) {
    return `The search_path of the login ${login} names no schema that is there: create one, or let it name one that is.`
  }
  if (mayMake) return null
  return `The login ${login} may not make tables in the schema ${schema}. Let an administrator run "grant create on schema ${schema} to ${login};", or make it the owner of the database.`
}

async function findMissing(tx: ClientBase, migrations: readonly Migration[]): Promise<readonly Migration[]> {
  await tx.query(
    'create table if not exists schema_migrations (name text primary key, checksum text not null, applied_at timestamptz not null default now())',
  )
  const { rows } = await tx.query<{ name: string; checksum: string }>(
    'select name, checksum from schema_migrations order by name',
  )
  for (const applied of rows) {
    const known = migrations.find(({ name }) => name === applied.name)
    if (!known) {
      throw new MigrationError(
        `The database has the migration ${applied.name}, which this program does not know: it is newer. Start the version that made it.`,
      )
    }
    if (known.checksum !== applied.checksum) {
      throw new MigrationError(
        `The migration ${known.name} was changed after it had been applied. Migrations go forward only: restore the file and add a new one.`,
      )
    }
  }
  return migrations.filter(({ name }) => !rows.some((applied) => applied.name === name))
}

async function apply(tx: ClientBase, migration: Migration): Promise<void> {
  try {
    await tx.query(migration.sql)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new MigrationError(`The migration ${migration.name} failed and was rolled back: ${reason}`, { cause: error })
  }
  await tx.query('insert into schema_migrations (name, checksum) values ($1, $2)', [migration.name, migration.checksum])
}

/** What the database is to this program: `behind` while migrations are missing, `ahead` once a newer version has migrated it. */
export type SchemaState = 'current' | 'behind' | 'ahead'

/** Rejects when the database is away. */
export async function readSchemaState(db: Queryable, migrations: readonly Migration[]): Promise<SchemaState> {
  const { rows } = await db.query<{ present: boolean }>(`select to_regclass('schema_migrations') is not null as present`)
  if (!rows[0]?.present) return 'behind'
  const applied = await db.query<{ name: string }>('select name from schema_migrations')
  const missing = new Set(migrations.map(({ name }) => name))
  const isAhead = applied.rows.filter(({ name }) => !missing.delete(name)).length > 0
  if (isAhead) return 'ahead'
  return missing.size > 0 ? 'behind' : 'current'
}

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

export type Migration = { readonly version: number; readonly name: string; readonly sql: string; readonly checksum: string }

/** What start-up refuses about the database, in a sentence for the user. */
export class MigrationError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MigrationError'
  }
}

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), 'migrations')
const FILE = /^(\d{4})_([a-z0-9_]+)\.sql$/
const OLDEST_SERVER = 150_000
/** Any fixed number will do: whoever holds this advisory lock migrates. */
const MIGRATION_LOCK = 7_865_432

/**
 * The numbered files of a folder, in order.
 * @throws MigrationError for a name that is not `0001_name.sql`, or a number used twice
 */
export function readMigrations(folder: string = FOLDER): readonly Migration[] {
  const migrations = readdirSync(folder)
    .sort()
    .map((file) => {
      const match = FILE.exec(file)
      if (!match) throw new MigrationError(`${file} in the folder of migrations is not named like 0001_name.sql.`)
      const sql = readFileSync(join(folder, file), 'utf8')
      return { version: Number(match[1]), name: match[2]!, sql, checksum: createHash('sha256').update(sql).digest('hex') }
    })
  const twice = migrations.find((migration, index) => migrations[index - 1]?.version === migration.version)
  if (twice) throw new MigrationError(`Two migrations have the number ${twice.version}.`)
  return migrations
}

/**
 * Applies what is missing, each migration in a transaction of its own, under an advisory lock: of two servers that start
 * at once one migrates and the other waits. Answers what was applied.
 * @throws MigrationError when the server is older than PostgreSQL 15, when an applied file was changed since, when the
 * database knows a migration that this program does not, or when a migration fails (it is then rolled back)
 */
export async function migrate(url: string, migrations: readonly Migration[] = readMigrations()): Promise<readonly Migration[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'tollgate-migrate', keepAlive: true })
  client.on('error', () => undefined)
  await client.connect()
  try {
    await checkServer(client)
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    const missing = await findMissing(client, migrations)
    for (const migration of missing) await apply(client, migration)
    return missing
  } finally {
    await client.end()
  }
}

async function checkServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ server_version_num: string }>('show server_version_num')
  const version = Number(rows[0]?.server_version_num)
  if (version < OLDEST_SERVER) {
    throw new MigrationError(`PostgreSQL ${Math.floor(version / 10_000)} is too old: version 15 or newer is needed.`)
  }
}

async function findMissing(client: pg.Client, migrations: readonly Migration[]): Promise<readonly Migration[]> {
  await client.query(
    `create table if not exists schema_migrations (
       version integer primary key, name text not null, checksum text not null, applied_at timestamptz not null default now())`,
  )
  const { rows } = await client.query<{ version: number; name: string; checksum: string }>(
    'select version, name, checksum from schema_migrations order by version',
  )
  for (const applied of rows) {
    const known = migrations.find((migration) => migration.version === applied.version)
    if (!known) {
      throw new MigrationError(
        `The database has migration ${applied.version} (${applied.name}), which this version does not know: a newer one was here. Start that one.`,
      )
    }
    if (known.checksum !== applied.checksum) {
      throw new MigrationError(
        `Migration ${applied.version} (${known.name}) was changed after it was applied. Migrations go forward only: restore the file and add a new one.`,
      )
    }
  }
  return migrations.filter((migration) => !rows.some((applied) => applied.version === migration.version))
}

async function apply(client: pg.Client, migration: Migration): Promise<void> {
  await client.query('begin')
  try {
    await client.query(migration.sql)
    await client.query('insert into schema_migrations (version, name, checksum) values ($1, $2, $3)', [
      migration.version,
      migration.name,
      migration.checksum,
    ])
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    const reason = error instanceof Error ? error.message : String(error)
    throw new MigrationError(`Migration ${migration.version} (${migration.name}) failed and was rolled back: ${reason}`, {
      cause: error,
    })
  }
}

/** Whether every migration of this program is applied; rejects when the database is away. */
export async function isMigrated(db: Pick<pg.Pool, 'query'>, migrations: readonly Migration[]): Promise<boolean> {
  const { rows } = await db.query<{ present: boolean }>(`select to_regclass('schema_migrations') is not null as present`)
  if (!rows[0]?.present) return false
  const applied = await db.query<{ version: number }>('select version from schema_migrations')
  return migrations.every(({ version }) => applied.rows.some((row) => row.version === version))
}

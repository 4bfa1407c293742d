import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { insertStatement, keepRow } from '../../test/rows.ts'
import { openDatabase, type Db } from './database.ts'
import { ensurePartitions } from '../metering/partitions.ts'
import { migrate } from './migrate.ts'
import { findRowSecurityGap } from './row-security.ts'
import { asNobody, asOrganization, asSystem, runInScope } from './scope.ts'

const database = testDatabase()
/** As the server opens it: every statement in the scope that runs, and outside of any nothing is visible. */
let scoped: Db
let tables: readonly string[]

beforeAll(async () => {
  scoped = openDatabase({ connectionString: database.url, poolSize: 2, scopeOutside: 'nobody' })
  const { rows } = await database.db.query<{ name: string }>(
    `select table_name as name from information_schema.columns join information_schema.tables using (table_schema, table_name)
     where table_schema = 'public' and column_name = 'organization_id' and table_type = 'BASE TABLE' order by 1`,
  )
  tables = rows.map(({ name }) => name)
  await dropTypeChecks()
  for (const table of ['organizations', ...tables]) await insertRows(table, ['acme', 'globex'])
})
afterAll(() => scoped.close())

async function dropTypeChecks(): Promise<void> {
  const { rows } = await database.db.query<{ name: string; type: string }>(
    `select conname as name, contypid::regtype::text as type from pg_constraint where contypid <> 0 and connamespace = 'public'::regnamespace`,
  )
  for (const { name, type } of rows) await database.db.query(`alter domain ${type} drop constraint "${name}"`)
}

/** A row of each organization in a table, whatever its columns are: constraints are left aside, as a superuser may. */
async function insertRows(table: string, organizationIds: readonly string[]): Promise<void> {
  const { rows: checks } = await database.db.query<{ name: string }>(
    `select conname as name from pg_constraint where conrelid = $1::regclass and contype = 'c' and coninhcount = 0`,
    [table],
  )
  for (const { name } of checks) await database.db.query(`alter table ${table} drop constraint "${name}"`)
  for (const [index, organizationId] of organizationIds.entries()) {
    const { names, values } = await sampleRow(table, organizationId, index)
    await keepRow(database.db, table, Object.fromEntries(names.map((name, at) => [name, values[at]])))
  }
}

type SampleRow = { readonly names: readonly string[]; readonly values: unknown[] }

async function sampleRow(table: string, organizationId: string, index: number): Promise<SampleRow> {
  const { rows } = await database.db.query<{ name: string; type: string }>(
    `select column_name as name, data_type as type from information_schema.columns
     where table_schema = 'public' and table_name = $1 and is_generated = 'NEVER' and identity_generation is distinct from 'ALWAYS'`,
    [table],
  )
  const owner = table === 'organizations' ? 'id' : 'organization_id'
  return {
    names: rows.map(({ name }) => `"${name}"`),
    values: rows.map(({ name, type }) => (name === owner ? organizationId : sampleOf(type, index))),
  }
}

const MOMENT = '2001-01-01T00:00:00Z'

function sampleOf(type: string, index: number): unknown {
  if (type === 'ARRAY') return []
  if (type === 'uuid') return randomUUID()
  if (type === 'boolean') return false
  if (type === 'bytea') return Buffer.from(`${index}`)
  if (type.startsWith('json')) return '{}'
  if (/int|numeric|double|real/.test(type)) return index
  return /^(timestamp|date)/.test(type) ? MOMENT : `sample ${index}`
}

/** What a statement came to: the number of rows, or that it was refused. */
async function attempt(db: Pick<Db, 'transaction'>, statement: string, values: unknown[] = []): Promise<number | string> {
  try {
    return await db.transaction(async (tx) => (await tx.query(statement, values)).rowCount ?? 0)
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === '42501') return 'refused'
    throw error
  }
}

const blind: readonly unknown[] = [0, 'refused']

describe('in the scope of an organization', () => {
  it('every table with organization_id shows its own rows alone, and changes no other’s', async () => {
    expect(tables.length).toBeGreaterThan(25)
    for (const table of tables) {
      const before = await rowsOf(table, 'globex')
      await asOrganization('acme', async () => {
        const seen = await attempt(scoped, `select from ${table} where organization_id is distinct from 'acme'`)
        const updated = await attempt(
          scoped,
          `update ${table} set organization_id = organization_id where organization_id is distinct from 'acme'`,
        )
        const taken = await attempt(scoped, `update ${table} set organization_id = 'globex' where organization_id = 'acme'`)
        const deleted = await attempt(scoped, `delete from ${table} where organization_id = 'globex'`)
        const results = { seen, updated, deleted }
        for (const result of Object.values(results)) expect(blind, `${table}: ${JSON.stringify(results)}`).toContain(result)
        expect(taken, table).toBe('refused')
        expect(await attempt(scoped, ...(await foreignInsert(table))), table).toBe('refused')
      })
      expect(await rowsOf(table, 'globex'), table).toBe(before)
    }
  })

  it('its own rows are there, in tables and in partitioned ones', async () => {
    for (const table of ['accounts', 'grants', 'usage_event_blocks', 'usage_events']) {
      expect(await asOrganization('acme', () => attempt(scoped, `select from ${table}`)), table).toBeGreaterThan(0)
    }
    expect(await asOrganization('acme', () => attempt(scoped, 'select from organizations'))).toBe(1)
    expect(await asOrganization('initech', () => attempt(scoped, 'select from organizations'))).toBe(0)
  })

  it('a view shows its own rows alone, and writes nothing', async () => {
    const { rows: views } = await database.db.query<{ name: string }>(
      `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v' order by 1`,
    )
    expect(views.map(({ name }) => name)).toEqual(['usage_events'])
    for (const { name } of views) {
      expect(await attempt(database.db, `select from ${name} where organization_id = 'globex'`), name).toBeGreaterThan(0)
      await asOrganization('acme', async () => {
        expect(await attempt(scoped, `select from ${name} where organization_id = 'acme'`), name).toBeGreaterThan(0)
        expect(await attempt(scoped, `select from ${name} where organization_id <> 'acme'`), name).toBe(0)
      })
      expect(await asNobody(() => attempt(scoped, `select from ${name}`)), name).toBe(0)
      await expect(
        asSystem(() => attempt(scoped, `delete from ${name}`)),
        name,
      ).rejects.toMatchObject({ code: '55000' })
    }
  })

  it('closes the tables that belong to nobody, but those of the catalog', async () => {
    const closed = await database.db.query<{ name: string }>(
      `select relname as name from pg_class
       where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity
         and has_table_privilege('tollgate_tenant', oid, 'select') order by 1`,
    )
    expect(closed.rows.map(({ name }) => name)).toEqual([
      'add_on_prices',
      'catalog_versions',
      'discounts',
      'plan_prices',
      'usage_prices',
    ])
  })
})

describe('people', () => {
  it('are seen by the organizations that they are members of', async () => {
    for (const id of ['ann', 'bob', 'eve']) {
      await database.db.query(`insert into users (id, name, email, email_verified) values ($1, $1, $1, true)`, [id])
    }
    await database.db.query('delete from organization_members')
    await database.db.query(
      `insert into organization_members (organization_id, user_id, role, created_at) values
         ('acme', 'ann', 'owner', now()), ('globex', 'ann', 'member', now()), ('globex', 'bob', 'owner', now())`,
    )
    const seen = async (): Promise<unknown> =>
      (await scoped.query<{ id: string }>('select id from users order by id')).rows.map(({ id }) => id)
    expect(await asOrganization('acme', seen)).toEqual(['ann'])
    expect(await asOrganization('globex', seen)).toEqual(['ann', 'bob'])
    expect(await seen()).toEqual([])
    const both = { kind: 'organizations', organizationIds: ['acme', 'globex'] } as const
    expect(await runInScope(both, seen)).toEqual(['ann', 'bob'])
    expect(await runInScope(both, () => attempt(scoped, 'select from organizations'))).toBe(2)
    expect(await asOrganization('acme', () => attempt(scoped, 'select from user_credentials'))).toBe('refused')
  })
})

describe('without a scope', () => {
  it('nothing is visible', async () => {
    for (const table of ['organizations', ...tables]) {
      expect(blind, table).toContain(await attempt(scoped, `select from ${table}`))
      expect(blind, table).toContain(await asNobody(() => attempt(scoped, `select from ${table}`)))
    }
  })
})

describe('in the scope of the system', () => {
  it('every row is visible', async () => {
    for (const table of ['organizations', ...tables]) {
      expect(await asSystem(() => attempt(scoped, `select from ${table}`)), table).toBeGreaterThan(1)
    }
  })
})

describe('the scope of a connection', () => {
  const whose = async (): Promise<unknown> => (await scoped.query('select id from organizations order by id')).rows
  const acme = [{ id: 'acme' }]
  const globex = [{ id: 'globex' }]

  it('is that of the work that borrows it, however they alternate', async () => {
    for (let round = 0; round < 3; round += 1) {
      expect(await asOrganization('acme', whose)).toEqual(acme)
      expect(await asOrganization('globex', whose)).toEqual(globex)
      expect(await asSystem(whose)).toEqual([...acme, ...globex])
      expect(await whose()).toEqual([])
    }
  })

  it('is that in which a transaction or a session began, also after a rollback', async () => {
    const inside = await asOrganization('acme', () =>
      scoped.transaction(async (tx) => asSystem(async () => (await tx.query('select id from organizations')).rows)),
    )
    expect(inside).toEqual(acme)
    const session = asOrganization('globex', () =>
      scoped.session(async (lent) => {
        await expect(lent.transaction((tx) => tx.query('select nonsense'))).rejects.toThrow('nonsense')
        return asSystem(async () => (await lent.query('select id from organizations')).rows)
      }),
    )
    expect(await session).toEqual(globex)
    expect(await whose()).toEqual([])
  })

  it('survives what many do at once', async () => {
    const ids = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? 'acme' : 'globex'))
    const seen = await Promise.all(ids.map((id) => asOrganization(id, whose)))
    expect(seen).toEqual(ids.map((id) => [{ id }]))
  })

  it('takes an organization’s id for nothing but an id', async () => {
    const within = (): Promise<unknown> => scoped.transaction(async (tx) => (await tx.query('select id from organizations')).rows)
    for (const hostile of [
      `acme', true), set_config('role', 'tollgate_system`,
      'acme","globex',
      'x"},{"acme',
      '\\',
      '{acme}',
      'acme,globex',
    ]) {
      expect(await asOrganization(hostile, within), hostile).toEqual([])
      expect(await asOrganization(hostile, whose), hostile).toEqual([])
    }
  })
})

describe('the roles of the server', () => {
  it('cannot log in, are no superusers, and bypass nothing', async () => {
    const { rows } = await database.db.query(
      `select rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb from pg_roles where rolname like 'tollgate\\_%' order by 1`,
    )
    const none = { rolsuper: false, rolbypassrls: false, rolcanlogin: false, rolcreaterole: false, rolcreatedb: false }
    expect(rows).toEqual([
      { rolname: 'tollgate_system', ...none },
      { rolname: 'tollgate_tenant', ...none },
    ])
    for (const [work, role] of [
      [asSystem, 'tollgate_system'],
      [asNobody, 'tollgate_tenant'],
    ] as const) {
      expect((await work(() => scoped.query('select current_user as name'))).rows).toEqual([{ name: role }])
    }
  })

  it('own no table but those that are written by COPY', async () => {
    const { rows } = await database.db.query(
      `select distinct pg_get_userbyid(relowner)::text as owner, coalesce(pg_partition_root(oid)::regclass::text, relname) as root
       from pg_class where relkind in ('r', 'p') and pg_get_userbyid(relowner) like 'tollgate\\_%' order by 2`,
    )
    expect(rows).toEqual([
      { owner: 'tollgate_system', root: 'usage_event_blocks' },
      { owner: 'tollgate_system', root: 'usage_keys' },
    ])
  })

  it('cannot change what protects them', async () => {
    for (const statement of [
      'alter table accounts disable row level security',
      'drop policy tollgate_tenant on accounts',
      'truncate accounts',
      `select * from settings`,
    ]) {
      expect(await asOrganization('acme', () => attempt(scoped, statement)), statement).toBe('refused')
    }
  })
})

describe('a login that is no superuser', () => {
  const login = `owner_${randomUUID().replaceAll('-', '')}`
  const url = new URL(database.url)
  url.pathname = `/${login}`
  url.username = login
  url.password = 'of-this-test'
  let own: Db

  beforeAll(async () => {
    await database.db.query(`create role ${login} login password 'of-this-test'`)
    await database.db.query(`create database ${login} owner ${login}`)
    own = openDatabase({ connectionString: url.href, poolSize: 1 })
  })
  afterAll(async () => {
    await own.close()
    await database.db.query(`drop database ${login} with (force)`)
    await database.db.query(`drop role ${login}`)
  })

  it('migrates all the same, and is told what an administrator has to do for row-level security', async () => {
    expect((await migrate(own)).length).toBeGreaterThan(5)
    expect(await findRowSecurityGap(own)).toMatch(
      `The login ${login} is no member of tollgate_tenant and tollgate_system. Let an administrator run "grant tollgate_tenant, tollgate_system to ${login};" once`,
    )
  })

  it('has it once that is done', async () => {
    await database.db.query(`grant tollgate_tenant, tollgate_system to ${login}`)
    await migrate(own)
    expect(await findRowSecurityGap(own)).toBeNull()
    const mine = openDatabase({ connectionString: url.href, poolSize: 1, scopeOutside: 'nobody' })
    try {
      await own.query(
        `insert into organizations (id, name, email, created_at) values ('acme', '', '', now()), ('globex', '', '', now())`,
      )
      expect(await asOrganization('acme', () => attempt(mine, 'select from organizations'))).toBe(1)
      expect(await attempt(mine, 'select from organizations')).toBe(0)
      await asSystem(() => ensurePartitions(mine, new Date('2031-05-01T00:00:00Z')))
      expect(await asOrganization('acme', () => attempt(mine, 'select from usage_events_2031_05'))).toBe('refused')
    } finally {
      await mine.close()
    }
  })
})

describe('the step of the migration', () => {
  it('secures a table that is new, and finds nothing to do the next time', async () => {
    await database.db.query('create table novelties (organization_id text not null, id int, primary key (organization_id, id))')
    expect(await findRowSecurityGap(database.db)).toMatch(/novelties/)
    await migrate(database.db)
    expect(await findRowSecurityGap(database.db)).toBeNull()
    await database.db.query(`insert into novelties values ('acme', 1), ('globex', 1)`)
    expect(await asOrganization('acme', () => attempt(scoped, 'select from novelties'))).toBe(1)
  })
})

/** Rows of an organization in a table, as the login sees them, whom nothing hides. */
async function rowsOf(table: string, organizationId: string): Promise<number> {
  return (await database.db.query(`select from ${table} where organization_id = $1`, [organizationId])).rowCount ?? 0
}

/** A statement that would write a row of another organization. */
async function foreignInsert(table: string): Promise<[string, unknown[]]> {
  const { names, values } = await sampleRow(table, 'globex', 7)
  return [insertStatement(table, names), values]
}

import type { ClientBase } from 'pg'
import type { Queryable } from './database.ts'
import type { Scope } from './scope.ts'

/**
 * The roles that the server's statements run under (docs/decisions/0100-row-level-security.md). Neither can log in, is a
 * superuser or bypasses row-level security. The tenants' role owns nothing and sees the rows of one organization; the
 * system's role sees all rows, and owns only what is written by COPY.
 */
export const TENANT_ROLE = 'tollgate_tenant'
export const SYSTEM_ROLE = 'tollgate_system'

/** Holds the organization whose rows the tenants' role sees; empty is none. */
const ORGANIZATION_SETTING = 'tollgate.organization_id'

type Privilege = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE'
const ALL: readonly Privilege[] = ['SELECT', 'INSERT', 'UPDATE', 'DELETE']

/** Tables without `organization_id` that the work of an organization may use. All others of them are closed to it. */
const SHARED_TABLES: Readonly<Record<string, readonly Privilege[]>> = {
  catalog_versions: ['SELECT'],
  plan_prices: ['SELECT'],
  discounts: ['SELECT', 'UPDATE'],
}

/** What is narrower than all, for either role. */
const NARROW_TABLES: Readonly<Record<string, readonly Privilege[]>> = {
  audit_log: ['SELECT', 'INSERT'],
  schema_migrations: ['SELECT'],
}

/** The column that says whose a row is, where that is not `organization_id`. */
const OWNER_COLUMNS: Readonly<Record<string, string>> = { organizations: 'id' }

/**
 * The tables that metering writes by COPY. PostgreSQL refuses COPY to whom row-level security applies, and it applies to
 * everybody but a table's owner: so the system's role owns these, and their partitions.
 */
const COPIED_TABLES: ReadonlySet<string> = new Set(['usage_events', 'usage_keys'])

/** The statement that brings a connection into a scope, for the session or, when `local`, for the open transaction. */
export function scopeStatement(scope: Scope, { local }: { local: boolean }): { text: string; values: string[] } {
  const [role, organizationId] = settingsOf(scope)
  const text = `select set_config('role', $1, ${local}), set_config('${ORGANIZATION_SETTING}', $2, ${local})`
  return { text, values: [role, organizationId] }
}

function settingsOf(scope: Scope): [role: string, organizationId: string] {
  if (scope.kind === 'system') return [SYSTEM_ROLE, '']
  return [TENANT_ROLE, scope.kind === 'organization' ? scope.organizationId : '']
}

/**
 * Brings roles, ownership, privileges and policies of every table to what they should be, in the transaction of a
 * migration. What is so already is not touched, so that a server that starts beside others locks nothing. A login that
 * may not do it leaves everything as it was: `findRowSecurityGap` then says what is missing.
 */
export async function secureRows(tx: ClientBase): Promise<void> {
  await tx.query('savepoint row_security')
  try {
    await ensureRoles(tx)
    for (const statement of await missingStatements(tx)) await tx.query(statement)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === INSUFFICIENT_PRIVILEGE)) throw error
    await tx.query('rollback to savepoint row_security')
  }
  await tx.query('release savepoint row_security')
}

const INSUFFICIENT_PRIVILEGE = '42501'

async function ensureRoles(tx: ClientBase): Promise<void> {
  const { rows } = await tx.query<{ name: string; present: boolean; member: boolean }>(MEMBERSHIPS, [[TENANT_ROLE, SYSTEM_ROLE]])
  for (const { name, present, member } of rows) {
    // Roles belong to the whole server: the migration of another database may make them at the same moment.
    if (!present) {
      await tx.query(
        `do $$ begin create role ${name} nologin; exception when duplicate_object or unique_violation then null; end $$`,
      )
    }
    if (!member) await tx.query(`do $$ begin execute format('grant ${name} to %I', session_user); end $$`)
  }
}

// Since PostgreSQL 16 who makes a role is a member that may not take it on, until it grants itself that too.
const MEMBERSHIPS = `
  select name, pg_roles.oid is not null as present,
    coalesce(case when current_setting('server_version_num')::int >= 160000
      then pg_has_role(session_user, pg_roles.oid, 'set') else pg_has_role(session_user, pg_roles.oid, 'member') end, false) as member
  from unnest($1::text[]) as name left join pg_roles on rolname = name`

type Table = {
  readonly name: string
  readonly columns: readonly string[]
  readonly isPartition: boolean
  /** Itself, or of a partition the table that it is a part of. */
  readonly root: string
  readonly secured: boolean
  readonly owner: string
  readonly policies: readonly string[]
  readonly tenant: readonly Privilege[]
  readonly system: readonly Privilege[]
}

const privilegesOf = (role: string): string =>
  `array(select privilege from unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as privilege
     where has_table_privilege('${role}', c.oid, privilege))`

async function listTables(db: Queryable): Promise<readonly Table[]> {
  const { rows } = await db.query<Table>(`
    select c.relname as name, c.relispartition as "isPartition", c.relrowsecurity as secured,
      coalesce(pg_partition_root(c.oid)::regclass::text, c.relname) as root, pg_get_userbyid(c.relowner)::text as owner,
      array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped) as columns,
      array(select polname::text from pg_policy where polrelid = c.oid) as policies,
      ${privilegesOf(TENANT_ROLE)} as tenant, ${privilegesOf(SYSTEM_ROLE)} as system
    from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
    order by c.relname`)
  return rows
}

async function missingStatements(tx: Queryable): Promise<readonly string[]> {
  const { rows } = await tx.query<{ schema: string; open: boolean }>(`
    select quote_ident(current_schema()) as schema,
      has_schema_privilege('${TENANT_ROLE}', current_schema(), 'usage')
        and has_schema_privilege('${SYSTEM_ROLE}', current_schema(), 'usage')
        and has_schema_privilege('${SYSTEM_ROLE}', current_schema(), 'create') as open`)
  const { schema, open } = rows[0]!
  // Partitions are made while the server runs, by the system's role.
  const schemaGrants = open
    ? []
    : [`grant usage on schema ${schema} to ${TENANT_ROLE}`, `grant usage, create on schema ${schema} to ${SYSTEM_ROLE}`]
  return [...schemaGrants, ...(await listTables(tx)).flatMap(statementsFor)]
}

function statementsFor(table: Table): readonly string[] {
  const name = `"${table.name}"`
  const ownerColumn = ownerColumnOf(table)
  const statements: string[] = []
  if (ownerColumn !== null) {
    if (!table.secured) statements.push(`alter table ${name} enable row level security`)
    // A partition is reached through its table, under that table's policies; without any of its own it is closed.
    if (!table.isPartition) statements.push(...policiesFor(name, table.policies, ownerColumn))
  }
  statements.push(...grantsFor(name, TENANT_ROLE, table.tenant, tenantPrivilegesOn(table)))
  if (!COPIED_TABLES.has(table.root)) {
    statements.push(...grantsFor(name, SYSTEM_ROLE, table.system, NARROW_TABLES[table.name] ?? ALL))
  } else if (table.owner !== SYSTEM_ROLE) statements.push(`alter table ${name} owner to ${SYSTEM_ROLE}`)
  return statements
}

function ownerColumnOf(table: Table): string | null {
  const column = OWNER_COLUMNS[table.name] ?? 'organization_id'
  return table.columns.includes(column) ? column : null
}

function tenantPrivilegesOn(table: Table): readonly Privilege[] {
  if (table.isPartition) return []
  if (ownerColumnOf(table) === null) return SHARED_TABLES[table.name] ?? []
  return NARROW_TABLES[table.name] ?? ALL
}

function policiesFor(name: string, present: readonly string[], ownerColumn: string): readonly string[] {
  const wanted = {
    // In a sub-select it is evaluated once a statement, and an index on the column serves it.
    [TENANT_ROLE]: `${ownerColumn} = (select current_setting('${ORGANIZATION_SETTING}', true))`,
    [SYSTEM_ROLE]: 'true',
  }
  return Object.entries(wanted).flatMap(([role, condition]) =>
    present.includes(role) ? [] : [`create policy ${role} on ${name} to ${role} using (${condition})`],
  )
}

function grantsFor(name: string, role: string, present: readonly Privilege[], wanted: readonly Privilege[]): readonly string[] {
  const missing = wanted.filter((privilege) => !present.includes(privilege))
  const excess = present.filter((privilege) => !wanted.includes(privilege))
  return [
    ...(missing.length === 0 ? [] : [`grant ${missing.join(', ')} on ${name} to ${role}`]),
    ...(excess.length === 0 ? [] : [`revoke ${excess.join(', ')} on ${name} from ${role}`]),
  ]
}

/**
 * What keeps this login from working under row-level security, in a sentence with the remedy; null when nothing does, and
 * the server's statements can run under the two roles.
 */
export async function findRowSecurityGap(db: Queryable): Promise<string | null> {
  const roles = await db.query<{ name: string; present: boolean; member: boolean; login: string }>(
    `select *, quote_ident(session_user) as login from (${MEMBERSHIPS}) as memberships`,
    [[TENANT_ROLE, SYSTEM_ROLE]],
  )
  const login = roles.rows[0]!.login
  const missing = roles.rows.filter(({ present }) => !present).map(({ name }) => `create role ${name} nologin; `)
  if (roles.rows.some(({ member }) => !member)) {
    const remedy = `${missing.join('')}grant ${TENANT_ROLE}, ${SYSTEM_ROLE} to ${login};`
    return `The login ${login} may not make roles. Let an administrator run "${remedy}" once, and then run tollgate migrate.`
  }
  const { rows } = await db.query<{ personal: boolean }>(
    `select current_schema() = session_user and current_setting('search_path') like '%$user%' as personal`,
  )
  if (rows[0]!.personal) {
    return `The tables are in the schema of the login ${login}: run "alter role ${login} set search_path = ${login}", so that other roles find them.`
  }
  const open = (await listTables(db)).filter((table) => statementsFor(table).length > 0).map(({ name }) => name)
  if (open.length === 0) return null
  return `The login ${login} may not secure the tables ${open.slice(0, 3).join(', ')}: run tollgate migrate as their owner.`
}

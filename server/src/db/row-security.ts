import type { ClientBase } from 'pg'
import type { Queryable } from './queryable.ts'
import type { Scope } from './scope.ts'

/**
 * The roles that the server's statements run under (docs/decisions/0100-row-level-security.md). Neither can log in, is a
 * superuser or bypasses row-level security. The tenants' role owns nothing and sees the rows of its caller's organization; the
 * system's role sees all rows, and owns only what is written by COPY.
 */
export const TENANT_ROLE = 'tollgate_tenant'
export const SYSTEM_ROLE = 'tollgate_system'

/** Holds the organizations whose rows the tenants' role sees, as an array; empty is none. */
const ORGANIZATIONS_SETTING = 'tollgate.organization_ids'

type Privilege = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE'
const ALL: readonly Privilege[] = ['SELECT', 'INSERT', 'UPDATE', 'DELETE']

/**
 * What the roles may do where it is not the rule. The rule for the tenants' role: all in a table whose rows belong to
 * organizations, nothing in any other; for the system's role: all.
 */
const PRIVILEGES: Readonly<Record<string, { readonly tenant: readonly Privilege[]; readonly system?: readonly Privilege[] }>> = {
  add_on_prices: { tenant: ['SELECT'] },
  audit_heads: { tenant: ['SELECT'], system: ['SELECT'] },
  audit_log: { tenant: ['SELECT', 'INSERT'], system: ['SELECT', 'INSERT'] },
  catalog_versions: { tenant: ['SELECT'] },
  discounts: { tenant: ['SELECT', 'UPDATE'] },
  plan_prices: { tenant: ['SELECT'] },
  schema_migrations: { tenant: [], system: ['SELECT'] },
  usage_prices: { tenant: ['SELECT'] },
  users: { tenant: ['SELECT'] },
}

/** Whether a row is one of the scope's organizations, where its `organization_id` does not say so. */
const CONDITIONS: Readonly<Record<string, string>> = {
  organizations: belongsTo('id'),
  // Under the policy of that table, so: who is a member of one of them.
  users: 'id in (select user_id from organization_members)',
}

// In a sub-select the setting is read once a statement, and an index on the column serves the comparison.
function belongsTo(column: string): string {
  return `${column} = any ((select nullif(current_setting('${ORGANIZATIONS_SETTING}', true), '')::text[])::text[])`
}

/**
 * The tables that metering writes by COPY. PostgreSQL refuses COPY to whom row-level security applies, and it applies to
 * everybody but a table's owner: so the system's role owns these, and their partitions.
 */
const COPIED_TABLES: ReadonlySet<string> = new Set(['usage_event_blocks', 'usage_keys'])

/** The statement that brings a connection into a scope, for the session or, when `local`, for the open transaction. */
export function scopeStatement(scope: Scope, { local }: { local: boolean }): { text: string; values: string[] } {
  const role = scope.kind === 'system' ? SYSTEM_ROLE : TENANT_ROLE
  const ids = scope.kind === 'organizations' ? scope.organizationIds : []
  const text = `select set_config('role', $1, ${local}), set_config('${ORGANIZATIONS_SETTING}', $2, ${local})`
  return { text, values: [role, ids.length === 0 ? '' : `{${ids.map(quoteElement).join(',')}}`] }
}

/** An element of an array literal: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO */
function quoteElement(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`
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
  /** A view shows what its reader may see of its tables, and writes nothing. */
  readonly isView: boolean
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
    select c.relname as name, c.relispartition as "isPartition", c.relkind = 'v' as "isView", c.relrowsecurity as secured,
      coalesce(pg_partition_root(c.oid)::regclass::text, c.relname) as root, pg_get_userbyid(c.relowner)::text as owner,
      array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped) as columns,
      array(select polname::text from pg_policy where polrelid = c.oid) as policies,
      ${privilegesOf(TENANT_ROLE)} as tenant, ${privilegesOf(SYSTEM_ROLE)} as system
    from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'v')
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
  if (table.isView) {
    return [...grantsFor(name, TENANT_ROLE, table.tenant, ['SELECT']), ...grantsFor(name, SYSTEM_ROLE, table.system, ['SELECT'])]
  }
  const condition = conditionOf(table)
  const statements: string[] = []
  if (condition !== null) {
    if (!table.secured) statements.push(`alter table ${name} enable row level security`)
    // A partition is reached through its table, under that table's policies; without any of its own it is closed.
    if (!table.isPartition) statements.push(...policiesFor(name, table.policies, condition))
  }
  statements.push(...grantsFor(name, TENANT_ROLE, table.tenant, tenantPrivilegesOn(table)))
  if (!COPIED_TABLES.has(table.root)) {
    statements.push(...grantsFor(name, SYSTEM_ROLE, table.system, PRIVILEGES[table.name]?.system ?? ALL))
  } else if (table.owner !== SYSTEM_ROLE) statements.push(`alter table ${name} owner to ${SYSTEM_ROLE}`)
  return statements
}

function conditionOf(table: Table): string | null {
  return CONDITIONS[table.name] ?? (table.columns.includes('organization_id') ? belongsTo('organization_id') : null)
}

function tenantPrivilegesOn(table: Table): readonly Privilege[] {
  if (table.isPartition) return []
  return PRIVILEGES[table.name]?.tenant ?? (conditionOf(table) === null ? [] : ALL)
}

function policiesFor(name: string, present: readonly string[], condition: string): readonly string[] {
  const wanted = { [TENANT_ROLE]: condition, [SYSTEM_ROLE]: 'true' }
  return Object.entries(wanted).flatMap(([role, allowed]) =>
    present.includes(role) ? [] : [`create policy ${role} on ${name} to ${role} using (${allowed})`],
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
    const fault = missing.length > 0 ? 'may not make roles' : `is no member of ${TENANT_ROLE} and ${SYSTEM_ROLE}`
    return `The login ${login} ${fault}. Let an administrator run "${remedy}" once, and then run tollgate migrate.`
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

/** Whether this login could make the two roles itself, as a migration then does. */
export async function mayMakeRoles(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ may: boolean }>(
    'select rolsuper or rolcreaterole as may from pg_roles where rolname = session_user',
  )
  return rows[0]?.may === true
}

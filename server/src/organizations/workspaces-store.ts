import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { OrganizationId, WorkspaceId } from '../lib/ids.ts'

export type Workspace = {
  readonly id: WorkspaceId
  readonly organizationId: OrganizationId
  readonly name: string
  readonly createdAt: Instant
  readonly archivedAt: Instant | null
}

const COLUMNS = `id, organization_id as "organizationId", name, created_at as "createdAt", archived_at as "archivedAt"`

/** Answers false when an open workspace of the organization has the name. */
export async function insertWorkspace(tx: Queryable, workspace: Workspace): Promise<boolean> {
  const inserted = await tx.query(
    `insert into workspaces (organization_id, id, name, created_at, archived_at) values ($1, $2, $3, $4, $5)
     on conflict (organization_id, lower(name)) where archived_at is null do nothing`,
    [workspace.organizationId, workspace.id, workspace.name, workspace.createdAt, workspace.archivedAt],
  )
  return inserted.rowCount === 1
}

export async function listWorkspaces(db: Queryable, organizationId: OrganizationId): Promise<readonly Workspace[]> {
  const { rows } = await db.query<Workspace>(
    `select ${COLUMNS} from workspaces where organization_id = $1 order by created_at, id`,
    [organizationId],
  )
  return rows
}

export async function lockWorkspace(
  tx: Queryable,
  key: { readonly organizationId: OrganizationId; readonly id: WorkspaceId },
): Promise<Workspace | null> {
  const { rows } = await tx.query<Workspace>(
    `select ${COLUMNS} from workspaces where organization_id = $1 and id = $2 for update`,
    [key.organizationId, key.id],
  )
  return rows[0] ?? null
}

/** Answers false when another open workspace of the organization has the name. */
export async function updateWorkspace(tx: Queryable, workspace: Workspace): Promise<boolean> {
  const updated = await tx.query(
    `update workspaces w set name = $3, archived_at = $4
     where organization_id = $1 and id = $2 and ($4::timestamptz is not null or not exists (
       select 1 from workspaces other
       where other.organization_id = $1 and other.id <> $2 and lower(other.name) = lower($3) and other.archived_at is null
     ))`,
    [workspace.organizationId, workspace.id, workspace.name, workspace.archivedAt],
  )
  return updated.rowCount === 1
}

/** A workspace as operators see it: one that was made, or the organization itself where none was. */
export type ListedWorkspace = Omit<Workspace, 'id'> & { readonly id: WorkspaceId | OrganizationId }

/**
 * Of one organization, or of all; by id, from after the given one on. An organization that has made none is its own one workspace,
 * under its own id, as in the log of what was blocked (MR-13): so nobody is missing.
 */
export async function listWorkspacesOfAll(
  db: Queryable,
  page: { readonly only: OrganizationId | null; readonly after: string | null; readonly limit: number },
): Promise<readonly ListedWorkspace[]> {
  // Each half by its own index, no further than the page.
  const { rows } = await db.query<ListedWorkspace>(
    `select ${COLUMNS} from (
       (select id, organization_id, name, created_at, archived_at from workspaces
        where ($1::text is null or organization_id = $1) and id > coalesce($2, '') order by id limit $3)
       union all
       (select id, id, name, created_at, null from organizations organization
        where ($1::text is null or id = $1) and id > coalesce($2, '')
          and not exists (select from workspaces made where made.organization_id = organization.id)
        order by id limit $3)
     ) listed order by id limit $3`,
    [page.only, page.after, page.limit],
  )
  return rows
}

/**
 * The id itself where that list has it, or had it: an organization is not its own workspace any more once it has made one.
 * Null for what is none of `only`'s.
 */
export async function findListedId(
  db: Queryable,
  { only, id }: { readonly only: OrganizationId | null; readonly id: string },
): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>(
    `select id from organizations where id = $2 and ($1::text is null or id = $1)
     union all select id from workspaces where id = $2 and ($1::text is null or organization_id = $1) limit 1`,
    [only, id],
  )
  return rows[0]?.id ?? null
}

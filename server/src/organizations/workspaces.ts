import { insertAuditEntry } from '../audit/store.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, type OrganizationId, type WorkspaceId } from '../lib/ids.ts'
import { readOrganization, type Asker, type OrganizationsContext } from './actions.ts'
import { insertWorkspace, listWorkspaces, lockWorkspace, updateWorkspace, type Workspace } from './workspaces-store.ts'

/** @throws DomainError `not_found`; `conflict` when an open workspace has the name */
export async function createWorkspace(
  context: OrganizationsContext,
  input: { readonly organizationId: OrganizationId; readonly name: string },
  asker: Asker,
): Promise<Workspace> {
  await readOrganization(context.db, input.organizationId)
  const now = context.clock.now()
  const workspace: Workspace = { ...input, id: newId<WorkspaceId>('ws'), createdAt: now, archivedAt: null }
  await context.db.transaction(async (tx) => {
    if (!(await insertWorkspace(tx, workspace))) throw nameTaken(input.name)
    await insertAuditEntry(tx, {
      organizationId: input.organizationId,
      ...asker,
      action: 'workspace.created',
      target: workspace.id,
      before: null,
      after: { name: input.name },
      at: now,
    })
  })
  return workspace
}

/** @throws DomainError `not_found` */
export async function readWorkspaces(
  context: OrganizationsContext,
  organizationId: OrganizationId,
): Promise<readonly Workspace[]> {
  await readOrganization(context.db, organizationId)
  return listWorkspaces(context.db, organizationId)
}

export type WorkspaceChange = {
  readonly organizationId: OrganizationId
  readonly id: WorkspaceId
  readonly name?: string | undefined
  readonly archived?: boolean | undefined
}

/**
 * Renames a workspace, archives it or takes it back out of the archive; what is left out stays.
 * @throws DomainError `not_found`; `conflict` when another open workspace has the name
 */
export async function changeWorkspace(
  context: OrganizationsContext,
  { organizationId, id, name, archived }: WorkspaceChange,
  asker: Asker,
): Promise<Workspace> {
  const now = context.clock.now()
  return context.db.transaction(async (tx) => {
    const before = await lockWorkspace(tx, { organizationId, id })
    if (before === null) throw new DomainError('not_found', 'There is no such workspace.')
    const isArchived = archived ?? before.archivedAt !== null
    const after: Workspace = {
      ...before,
      name: name ?? before.name,
      archivedAt: isArchived ? (before.archivedAt ?? now) : null,
    }
    if (!(await updateWorkspace(tx, after))) throw nameTaken(after.name)
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'workspace.changed',
      target: id,
      before: { name: before.name, archived_at: before.archivedAt },
      after: { name: after.name, archived_at: after.archivedAt },
      at: now,
    })
    return after
  })
}

function nameTaken(name: string): DomainError {
  return new DomainError('conflict', `There is a workspace named ${name} already.`, { field: 'name' })
}

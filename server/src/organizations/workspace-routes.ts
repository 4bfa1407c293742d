import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import type { WorkspaceId } from '../lib/ids.ts'
import { nameText } from '../lib/name-text.ts'
import { asker } from './asker-routes.ts'
import type { OrganizationsContext } from './actions.ts'
import { changeWorkspace, createWorkspace, readWorkspaces } from './workspaces.ts'
import type { Workspace } from './workspaces-store.ts'

const workspaceSchema = z
  .object({
    id: z.string(),
    organization_id: z.string(),
    name: z.string(),
    created_at: z.iso.datetime(),
    archived_at: z.iso.datetime().nullable(),
  })
  .openapi('Workspace')

const params = z.object({ id: z.string().meta({ description: 'The organization.' }) })
const name = nameText(100)

const createWorkspaceRoute = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{id}/workspaces',
  tags: ['Workspaces'],
  summary: 'Create a workspace',
  description: 'The scope `admin`. A name that an open workspace has, in whatever case, is 409.',
  request: { params, body: body(z.object({ name })) },
  responses: { 201: json('The workspace.', workspaceSchema) },
})

const listWorkspacesRoute = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{id}/workspaces',
  tags: ['Workspaces'],
  summary: 'List the workspaces of an organization, the archived ones too',
  description: 'The scope `read`. All at once.',
  request: { params },
  responses: { 200: json('The workspaces.', z.object({ workspaces: z.array(workspaceSchema) })) },
})

const changeWorkspaceRoute = createRoute({
  method: 'patch',
  path: '/api/v1/organizations/{id}/workspaces/{workspace_id}',
  tags: ['Workspaces'],
  summary: 'Rename, archive or reopen a workspace',
  description:
    'The scope `admin`. What is left out stays as it is. A name that another open workspace has is 409; an archived one gives its name free.',
  request: {
    params: params.extend({ workspace_id: z.string() }),
    body: body(z.strictObject({ name: name.optional(), archived: z.boolean().optional() })),
  },
  responses: { 200: json('The workspace.', workspaceSchema) },
})

export function registerWorkspaceRoutes(app: App, context: OrganizationsContext): void {
  app.openapi(createWorkspaceRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const organizationId = organizationFor(principal, c.req.valid('param').id)
    const input = { organizationId, name: c.req.valid('json').name }
    return c.json(showWorkspace(await createWorkspace(context, input, asker(c, principal))), 201)
  })

  app.openapi(listWorkspacesRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'read')
    const workspaces = await readWorkspaces(context, organizationFor(principal, c.req.valid('param').id))
    return c.json({ workspaces: workspaces.map(showWorkspace) }, 200)
  })

  app.openapi(changeWorkspaceRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, workspace_id: workspaceId } = c.req.valid('param')
    const key = { organizationId: organizationFor(principal, id), id: workspaceId as WorkspaceId }
    const workspace = await changeWorkspace(context, { ...key, ...c.req.valid('json') }, asker(c, principal))
    return c.json(showWorkspace(workspace), 200)
  })
}

function showWorkspace(workspace: Workspace) {
  return {
    id: workspace.id,
    organization_id: workspace.organizationId,
    name: workspace.name,
    created_at: workspace.createdAt.toISOString(),
    archived_at: workspace.archivedAt?.toISOString() ?? null,
  }
}

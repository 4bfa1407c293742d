import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireScope } from '../auth/principal.ts'
import type { Db } from '../db/database.ts'
import type { GrantsContext } from '../grants/actions.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { findListedId, listWorkspacesOfAll } from '../organizations/workspaces-store.ts'
import { readStandings } from './actions.ts'

const time = z.iso.datetime().nullable()

const billedWorkspaceSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    organization_id: z.string(),
    created_at: z.iso.datetime(),
    archived_at: time,
    plan: z.string(),
    billing_status: z.string().meta({ description: 'Of its organization, as in GET /api/v1/admin/billing.' }),
    trial_ends_at: time,
    subscription_expires_at: time,
    may_use: z.boolean().meta({ description: 'Whether its organization may use what it pays for, right now.' }),
  })
  .openapi('BilledWorkspace')

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/workspaces',
  tags: ['Operators'],
  summary: 'Workspaces with the billing status of their organization',
  description:
    'Operators see all, or those of one organization; an admin sees their own. An organization that has made none is one workspace, under its own id.',
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      ...pageQuery({ most: 100, usual: 50 }),
    }),
  },
  responses: {
    200: {
      description: 'A page of them.',
      content: {
        'application/json': { schema: z.object({ workspaces: z.array(billedWorkspaceSchema), has_more: z.boolean() }) },
      },
    },
  },
})

/** MR-4. */
export function registerWorkspaceAdminRoute(app: App, context: GrantsContext & { readonly db: Db }): void {
  app.openapi(listRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { organization_id: named, limit, starting_after: startingAfter } = c.req.valid('query')
    const only = organizationOrAll(principal, named)
    const after = await findStart(startingAfter, (id) => findListedId(context.db, { only, id }))
    const { page, hasMore } = pageOf(await listWorkspacesOfAll(context.db, { only, after, limit: limit + 1 }), limit)
    const standings = await readStandings(context.db, context, [...new Set(page.map(({ organizationId }) => organizationId))])
    const workspaces = page.flatMap((workspace) => {
      const read = standings.get(workspace.organizationId)
      if (read === undefined) return []
      const { standing } = read
      return {
        id: workspace.id,
        name: workspace.name,
        organization_id: workspace.organizationId,
        created_at: workspace.createdAt.toISOString(),
        archived_at: workspace.archivedAt?.toISOString() ?? null,
        plan: standing.planKey,
        billing_status: read.billingStatus,
        trial_ends_at: read.trialEndsAt?.toISOString() ?? null,
        subscription_expires_at: read.expiresAt?.toISOString() ?? null,
        may_use: standing.mayUse,
      }
    })
    return c.json({ workspaces, has_more: hasMore }, 200)
  })
}

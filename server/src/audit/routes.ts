import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { Db } from '../db/database.ts'
import type { App } from '../http/app.ts'
import { listAuditEntries } from './store.ts'

const entrySchema = z
  .object({
    id: z.string(),
    organization_id: z.string().nullable(),
    actor: z.string().meta({ description: 'Who did it: `operator:<name>`, `api_key:<id>` or `system:<part>`.' }),
    action: z.string().meta({ example: 'api_key.revoked' }),
    target: z.string(),
    before: z.unknown(),
    after: z.unknown(),
    request_id: z.string().nullable(),
    at: z.iso.datetime(),
  })
  .openapi('AuditEntry')

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/audit-log',
  tags: ['Audit'],
  summary: 'Who did what, newest first',
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      limit: z.coerce.number().int().min(1).max(200).default(50),
      before: z
        .string()
        .regex(/^\d{1,18}$/, 'the id of an entry is expected')
        .optional(),
    }),
  },
  responses: {
    200: {
      description: 'The entries.',
      content: { 'application/json': { schema: z.object({ entries: z.array(entrySchema), has_more: z.boolean() }) } },
    },
  },
})

/** EM-14. An organization's admin sees its own entries, an operator all or those of one. */
export function registerAuditRoutes(app: App, context: { readonly db: Db }): void {
  app.openapi(listRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const query = c.req.valid('query')
    const everywhere = principal.kind === 'operator' && query.organization_id === undefined
    const rows = await listAuditEntries(context.db, {
      organizationId: everywhere ? null : organizationFor(principal, query.organization_id),
      before: query.before === undefined ? null : BigInt(query.before),
      limit: query.limit + 1,
    })
    const entries = rows.slice(0, query.limit).map((row) => ({
      id: String(row.id),
      organization_id: row.organizationId,
      actor: row.actor,
      action: row.action,
      target: row.target,
      before: row.before,
      after: row.after,
      request_id: row.requestId,
      at: row.at.toISOString(),
    }))
    return c.json({ entries, has_more: rows.length > query.limit }, 200)
  })
}

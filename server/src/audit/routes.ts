import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireScope, type Principal } from '../auth/principal.ts'
import type { Db } from '../db/database.ts'
import type { RowStreamOptions } from '../db/row-stream.ts'
import type { App } from '../http/app.ts'
import { moment } from '../lib/moments.ts'
import { verifyAuditLog } from './actions.ts'
import { auditWriter, showChained, showEntry } from './bodies.ts'
import { chainedEntrySchema, entrySchema } from './schemas.ts'
import { exportStatement, listAuditEntries, type AuditFilter, type AuditRow } from './store.ts'

export type AuditContext = {
  readonly db: Db
  /** Streams of rows, of which only a few are open at once. */
  readonly exports: {
    open<Row extends object>(
      organizationId: string,
      options: Omit<RowStreamOptions<Row>, 'signal' | 'longestMs'>,
    ): Promise<ReadableStream<Uint8Array>>
  }
}

const filterQuery = {
  organization_id: z.string().optional(),
  actor: z.string().optional().meta({ description: 'Who did it, e.g. `api_key:key_…`.' }),
  action: z.string().optional().meta({ example: 'api_key.revoked' }),
  target: z.string().optional().meta({ description: 'The id of what was changed.' }),
  from: moment.optional().meta({ description: 'From this moment on.' }),
  to: moment.optional().meta({ description: 'Before this moment.' }),
}
const filterSchema = z.object(filterQuery)

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/audit-log',
  tags: ['Audit'],
  summary: 'Who did what, newest first',
  description:
    'The scope `admin` sees its organization’s entries; operators see all, or those of the one they name. `next_cursor` is null on the last page.',
  request: {
    query: z.object({
      ...filterQuery,
      limit: z.coerce.number().int().min(1).max(200).default(50),
      cursor: z
        .string()
        .regex(/^\d{1,18}$/, 'next_cursor of the page before is expected')
        .optional(),
    }),
  },
  responses: {
    200: {
      description: 'The entries.',
      content: {
        'application/json': { schema: z.object({ entries: z.array(entrySchema), next_cursor: z.string().nullable() }) },
      },
    },
  },
})

const exportRoute = createRoute({
  method: 'get',
  path: '/api/v1/audit-log/export',
  tags: ['Audit'],
  summary: 'The audit log as a file, oldest first',
  description: 'In NDJSON each entry comes with what its hash is over: sha256(previous_hash ‖ content) is hash.',
  request: { query: z.object({ ...filterQuery, format: z.enum(['csv', 'ndjson']).default('ndjson') }) },
  responses: {
    200: {
      description: 'A file, streamed: one snapshot, however large.',
      content: {
        'application/x-ndjson': { schema: chainedEntrySchema.meta({ description: 'One a line.' }) },
        'text/csv': { schema: z.string().meta({ description: 'With a header line; safe to open in a spreadsheet.' }) },
      },
    },
  },
})

const verifyRoute = createRoute({
  method: 'get',
  path: '/api/v1/audit-log/verification',
  tags: ['Audit'],
  summary: 'Whether every entry still says what it said, and none is gone',
  description:
    'The scope `admin` for its organization’s chain; operators for all chains, or that of the one they name. Reads every entry, so it takes as long as there are many.',
  request: { query: z.object({ organization_id: z.string().optional() }) },
  responses: {
    200: {
      description: 'How many entries are as they were written, and the first that is not.',
      content: {
        'application/json': {
          schema: z.object({
            intact: z.boolean(),
            entries: z.number().int(),
            chains: z.number().int().meta({ description: 'One for each organization, and one for what concerns none.' }),
            broken: z
              .object({
                fault: z.enum(['changed', 'missing', 'unchained', 'cut']),
                detail: z.string(),
                organization_id: z.string().nullable(),
                id: z.string().nullable(),
                position: z.number().int(),
              })
              .nullable(),
          }),
        },
      },
    },
  },
})

const FAULTS = {
  changed: 'This entry does not say what it said when it was written.',
  missing: 'Entries before this one are gone.',
  unchained: 'This entry was brought in from aside.',
  cut: 'Entries after this one are gone.',
}

/** EM-14. An organization's admin sees its own entries, an operator all or those of one. */
export function registerAuditRoutes(app: App, context: AuditContext): void {
  app.openapi(listRoute, async (c) => {
    const { limit, cursor, ...query } = c.req.valid('query')
    const filter = filterOf(c.get('principal'), query)
    const before = cursor === undefined ? null : BigInt(cursor)
    const rows = await listAuditEntries(context.db, { ...filter, before, limit: limit + 1 })
    const page = rows.slice(0, limit)
    return c.json({ entries: page.map(showEntry), next_cursor: rows.length > limit ? String(page.at(-1)!.id) : null }, 200)
  })

  app.openapi(exportRoute, async (c) => {
    const { format, ...query } = c.req.valid('query')
    const { head, contentType, lineOf } = auditWriter(format)
    const filter = filterOf(c.get('principal'), query)
    // An operator's is everybody's.
    const stream = await context.exports.open<AuditRow>(filter.organizationId ?? '*', {
      statement: exportStatement(filter),
      head,
      textOf: (row) => lineOf(showChained(row)),
    })
    return c.body(stream, 200, {
      'content-type': contentType,
      'content-disposition': `attachment; filename="audit-log.${format}"`,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
  })

  app.openapi(verifyRoute, async (c) => {
    const organizationId = organizationNamed(c.get('principal'), c.req.valid('query').organization_id)
    const { entries, chains, broken } = await verifyAuditLog(context.db, organizationId)
    const shown = broken && {
      fault: broken.fault,
      detail: FAULTS[broken.fault],
      organization_id: broken.organizationId,
      id: broken.id === null ? null : String(broken.id),
      position: Number(broken.position),
    }
    return c.json({ intact: broken === null, entries, chains, broken: shown }, 200)
  })
}

/** null is every organization: for operators who name none. */
function organizationNamed(principal: Principal | null, named: string | undefined): string | null {
  return organizationOrAll(requireScope(principal, 'admin'), named)
}

function filterOf(principal: Principal | null, query: z.infer<typeof filterSchema>): AuditFilter {
  return {
    organizationId: organizationNamed(principal, query.organization_id),
    actor: query.actor ?? null,
    action: query.action ?? null,
    target: query.target ?? null,
    from: query.from === undefined ? null : new Date(query.from),
    to: query.to === undefined ? null : new Date(query.to),
  }
}

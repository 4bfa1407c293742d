import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { actorOf, organizationOrAll, requireOperator, requireScope, type Principal } from '../auth/principal.ts'
import { currentScope, runInScope } from '../db/scope.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import type { Instant } from '../lib/clock.ts'
import { momentOrDate } from '../lib/moments.ts'
import { readExport, readFile, requestExport, type Bound, type ExportsContext } from './actions.ts'
import { CONTENT_TYPES, EVERYBODY, EXPORT_KINDS, fileNameOf, type ExportKind } from './rules.ts'
import { findExport, listExports, type Export, type ExportFilter } from './store.ts'

const time = z.iso.datetime().nullable()
const date = z.iso.date()
const bound = momentOrDate
  .optional()
  .meta({ description: 'A moment, or a date: of statements a day of the organization’s time zone, of anything else of UTC.' })
const kinds = Object.keys(EXPORT_KINDS) as readonly ExportKind[]

const exportSchema = z
  .object({
    id: z.string(),
    organization_id: z.string().nullable().meta({ description: 'null: over all organizations.' }),
    kind: z.enum(kinds),
    format: z.enum(['csv', 'pdf', 'zip']),
    from: time,
    to: time,
    state: z.enum(['queued', 'running', 'done', 'failed']),
    progress: z.object({
      made: z.number().int().meta({ description: 'Rows or documents that are in the file.' }),
      planned: z.number().int().nullable().meta({ description: 'Of how many; null where that is not known before.' }),
    }),
    error: z.string().nullable(),
    bytes: z.number().int(),
    requested_by: z.string(),
    created_at: z.iso.datetime(),
    finished_at: time,
    expires_at: z.iso.datetime(),
    file_url: z.string().nullable().meta({ description: 'Where the file is, once it is done.' }),
  })
  .openapi('Export')

const named = z.string().optional().meta({ description: 'For operators; all organizations when missing.' })

const bodySchema = z.strictObject({
  organization_id: named,
  kind: z.enum(kinds),
  format: z.enum(['csv', 'pdf', 'zip']),
  from: bound,
  to: bound,
  filter: z
    .strictObject({ status: z.string().max(100).optional(), currency: z.string().max(3).optional() })
    .optional()
    .meta({ description: 'Of invoices, organizations and subscriptions; of movements, status is their kind.' }),
})

const request = { params: z.object({ export_id: z.string() }), query: z.object({ organization_id: named }) }
const DESCRIPTION = `The file is made in the background: ask for its progress, then for the file. It is kept for seven days.
Kinds: invoices (csv, or zip of PDF copies), usage_statement (csv, pdf); for operators also organizations, subscriptions and revenue_movements (csv) and analytics_report (pdf).`

const routesAt = (base: string, tags: string[]) => ({
  request: createRoute({
    method: 'post',
    path: base,
    tags,
    summary: 'Ask for an export',
    description: DESCRIPTION,
    request: { body: { required: true, content: { 'application/json': { schema: bodySchema } } } },
    responses: { 202: json('It is queued.', exportSchema) },
  }),
  list: createRoute({
    method: 'get',
    path: base,
    tags,
    summary: 'List exports, newest first',
    description:
      'Of one’s own organization with the scope `admin`; under `/admin` operators see all, or those of the one they name. Page on with the last id as `starting_after`.',
    request: { query: z.object({ ...pageQuery({ most: 100, usual: 20 }), organization_id: named }) },
    responses: { 200: json('The exports.', z.object({ exports: z.array(exportSchema), has_more: z.boolean() })) },
  }),
  read: createRoute({
    method: 'get',
    path: `${base}/{export_id}`,
    tags,
    summary: 'How far an export is',
    description:
      'Ask until it is `done` or `failed`; `file_url` is there once it is done. An export of another organization is 404.',
    request,
    responses: { 200: json('The export.', exportSchema) },
  }),
  file: createRoute({
    method: 'get',
    path: `${base}/{export_id}/file`,
    tags,
    summary: 'The file of an export that is done',
    description:
      'Streamed, with its length. One that is not done yet, has failed, or was forgotten has no file; ask for another.',
    request,
    responses: {
      200: {
        description: 'The file.',
        content: { 'application/octet-stream': { schema: z.string().openapi({ format: 'binary' }) } },
      },
    },
  }),
})

/** Whose exports a caller means: null is everybody's, for operators. */
type Owner = (principal: Principal | null, named: string | undefined) => string | null

/** OC-12. Under `/admin` for operators; an organization's admin exports what is its own. */
export function registerExportRoutes(app: App, context: ExportsContext): void {
  register(app, context, '/api/v1/admin/exports', (principal, named) => {
    return organizationOrAll(requireOperator(principal), named)
  })
  register(app, context, '/api/v1/exports', (principal, named) => {
    return organizationOrAll(requireScope(principal, 'admin'), named)
  })
}

function register(app: App, context: ExportsContext, base: string, ownerOf: Owner): void {
  const routes = routesAt(base, base.includes('/admin/') ? ['Operators'] : ['Exports'])
  const view = (made: Export) => toView(made, base)
  app.openapi(routes.request, async (http) => {
    const { organization_id: named, kind, format, from, to, filter } = http.req.valid('json')
    const principal = http.get('principal')
    const organizationId = ownerOf(principal, named)
    const made = await requestExport(
      context,
      { organizationId, kind, format, from: boundOf(from), to: boundOf(to), filter: withoutUndefined(filter ?? {}) },
      { actor: actorOf(principal!), requestId: http.get('requestId') },
    )
    return http.json(view(made), 202)
  })
  app.openapi(routes.list, async (http) => {
    const { limit, organization_id: named, starting_after: startingAfter } = http.req.valid('query')
    const owner = ownerOf(http.get('principal'), named)
    const after = await findStart(startingAfter, (id) => findExport(context.db, owner, id))
    const { page, hasMore } = pageOf(await listExports(context.db, owner, { after: after?.id ?? null, limit: limit + 1 }), limit)
    return http.json({ exports: page.map(view), has_more: hasMore }, 200)
  })
  app.openapi(routes.read, async (http) => {
    const owner = ownerOf(http.get('principal'), http.req.valid('query').organization_id)
    return http.json(view(await readExport(context.db, owner, http.req.valid('param').export_id)), 200)
  })
  app.openapi(routes.file, async (http) => {
    const owner = ownerOf(http.get('principal'), http.req.valid('query').organization_id)
    const made = await readExport(context.db, owner, http.req.valid('param').export_id)
    return sendFile(http, made, readFile(context.db, made))
  })
}

function sendFile(http: Context<AppEnv>, made: Export, pieces: AsyncGenerator<Buffer>): Response {
  // The stream is read after the handler has answered: each of its reads goes back into the caller's scope.
  const scope = currentScope()
  const next = () => (scope === null ? pieces.next() : runInScope(scope, () => pieces.next()))
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await next()
      if (done === true) controller.close()
      else controller.enqueue(value)
    },
    cancel: () => void pieces.return(undefined),
  })
  return http.body(body, 200, {
    'content-type': CONTENT_TYPES[made.format],
    'content-length': String(made.bytes),
    'content-disposition': `attachment; filename="${fileNameOf(made)}"`,
    'cache-control': 'private, no-store',
    'x-content-type-options': 'nosniff',
  })
}

function toView(made: Export, base: string): z.infer<typeof exportSchema> {
  return {
    id: made.id,
    organization_id: made.organizationId === EVERYBODY ? null : made.organizationId,
    kind: made.kind,
    format: made.format,
    from: iso(made.startsAt),
    to: iso(made.endsAt),
    state: made.state,
    progress: { made: made.made, planned: made.planned },
    error: made.error,
    bytes: made.bytes,
    requested_by: made.requestedBy,
    created_at: made.createdAt.toISOString(),
    finished_at: iso(made.finishedAt),
    expires_at: made.expiresAt.toISOString(),
    file_url: made.state === 'done' ? `${base}/${made.id}/file` : null,
  }
}

function withoutUndefined({ status, currency }: { status?: string | undefined; currency?: string | undefined }): ExportFilter {
  return { ...(status === undefined ? {} : { status }), ...(currency === undefined ? {} : { currency }) }
}

function boundOf(text: string | undefined): Bound | null {
  if (text === undefined) return null
  return date.safeParse(text).success ? text : new Date(text)
}

function iso(at: Instant | null): string | null {
  return at?.toISOString() ?? null
}

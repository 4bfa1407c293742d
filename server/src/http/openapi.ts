import type { App } from './app.ts'
import { ERRORS_PAGE } from './problems.ts'

type BodySchema = { properties?: unknown; additionalProperties?: unknown }
type Operation = {
  responses: Record<string, unknown>
  security?: readonly unknown[]
  requestBody?: { content?: Record<string, { schema?: BodySchema }> }
}
type OpenApiDocument = {
  paths?: Record<string, Record<string, Operation>>
  components?: { schemas?: Record<string, unknown>; securitySchemes?: Record<string, unknown> }
}

const METHODS = new Set(['get', 'post', 'put', 'patch', 'delete'])

const PROBLEM = {
  type: 'object',
  description: `A problem document (RFC 9457). ${ERRORS_PAGE} explains every code.`,
  properties: {
    type: { type: 'string', example: `${ERRORS_PAGE}#invalid_request` },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string', example: 'invalid_request' },
    detail: { type: 'string', description: 'A sentence for people.' },
    request_id: { type: 'string' },
    errors: {
      type: 'array',
      description: 'Every field that is wrong.',
      items: { type: 'object', properties: { field: { type: 'string' }, message: { type: 'string' } } },
    },
  },
  required: ['type', 'title', 'status', 'code', 'detail', 'request_id'],
}

/**
 * The OpenAPI 3.1 document, made from the schemas that also validate. What is the same everywhere is added here: how a
 * caller authenticates, and that anything but success is a problem document.
 */
export function buildOpenApiDocument(app: App, info: { readonly version: string; readonly serverUrl: string }): OpenApiDocument {
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Tollgate',
      version: info.version,
      description:
        'Billing, metering and entitlements. Every /api/v1/… route is also served at /api/…. Who may act in several organizations names one by the header X-Organization-Id, by organization_id, or acts in the one that is active.',
    },
    // The first is wherever the document was read, so that the reference page can send requests under any name of the server.
    servers: [{ url: '/' }, { url: info.serverUrl }],
  }) as unknown as OpenApiDocument
  for (const path of Object.values(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(path)) {
      if (!METHODS.has(method)) continue
      operation.responses['default'] ??= {
        description: 'A problem.',
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      }
      closeBody(operation)
      operation.security ??= [{ bearer: [] }, { apiKey: [] }, { session: [] }]
    }
  }
  const components = (document.components ??= {})
  components.schemas = { ...components.schemas, Problem: PROBLEM }
  components.securitySchemes = {
    bearer: { type: 'http', scheme: 'bearer', description: 'An API key, or the access token of a session.' },
    apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
    session: { type: 'apiKey', in: 'cookie', name: 'session_token' },
  }
  return document
}

/** Says of a body what `keepToDeclared` holds it to: that it has no other fields, except where its schema takes any. */
function closeBody({ security, requestBody }: Operation): void {
  const schema = requestBody?.content?.['application/json']?.schema
  if (schema?.properties !== undefined && security?.length !== 0) schema.additionalProperties ??= false
}

/** `GET /openapi.json`; built when first asked for. */
export function registerOpenApiRoute(app: App, info: { readonly version: string; readonly serverUrl: string }): void {
  let document: OpenApiDocument | undefined
  app.get('/openapi.json', (c) => {
    document ??= buildOpenApiDocument(app, info)
    return c.json(document)
  })
}

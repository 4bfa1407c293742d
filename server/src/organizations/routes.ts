import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { requireOperator, requireScope, organizationFor } from '../auth/principal.ts'
import type { ApiKey } from '../auth/store.ts'
import type { App, AppEnv } from '../http/app.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import {
  createOrganization,
  issueApiKey,
  readApiKeys,
  readOrganization,
  withdrawApiKey,
  type OrganizationsContext,
} from './actions.ts'
import { listOrganizations, type Organization } from './store.ts'

const organizationId = z
  .string()
  .regex(/^[\w.-]{1,100}$/, 'letters, digits, _, - and . are expected, at most 100')
  .transform((id) => id as OrganizationId)
const instant = z.iso.datetime()

const organizationBody = z.object({
  id: organizationId.optional(),
  name: z.string().min(1).max(200),
  email: z.email().max(320),
  test_clock: z.boolean().default(false).openapi({ description: 'Whether it lives on a Stripe test clock of its own.' }),
})

const organizationSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    email: z.string(),
    stripe_customer_id: z.string().nullable(),
    test_clock_id: z.string().nullable(),
    now: instant.nullable().openapi({ description: 'Its own time while it lives on a test clock.' }),
    created_at: instant,
  })
  .openapi('Organization')

const keyBody = z.object({
  name: z.string().min(1).max(200),
  scopes: z
    .array(z.enum(['read', 'write', 'admin']))
    .min(1)
    .default(['read', 'write']),
  expires_at: instant.optional(),
})

const keySchema = z
  .object({
    id: z.string(),
    name: z.string(),
    scopes: z.array(z.string()),
    display_prefix: z.string(),
    created_at: instant,
    expires_at: instant.nullable(),
    revoked_at: instant.nullable(),
  })
  .openapi('ApiKey')

const organizationParams = z.object({ organization_id: organizationId })
const json = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  description,
  content: { 'application/json': { schema } },
})
const bodyOf = <Schema extends z.ZodType>(schema: Schema) => ({ required: true, content: { 'application/json': { schema } } })

const create = createRoute({
  method: 'post',
  path: '/api/v1/organizations',
  summary: 'Create an organization (operator)',
  tags: ['Organizations'],
  request: { body: bodyOf(organizationBody) },
  responses: { 201: json(organizationSchema, 'The organization, on the default plan.') },
})

const list = createRoute({
  method: 'get',
  path: '/api/v1/organizations',
  summary: 'List organizations (operator)',
  tags: ['Organizations'],
  request: {
    query: z.object({ starting_after: z.string().default(''), limit: z.coerce.number().int().min(1).max(100).default(20) }),
  },
  responses: { 200: json(z.object({ organizations: z.array(organizationSchema), has_more: z.boolean() }), 'A page by id.') },
})

const read = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{organization_id}',
  summary: 'Read an organization',
  tags: ['Organizations'],
  request: { params: organizationParams },
  responses: { 200: json(organizationSchema, 'The organization.') },
})

const createKey = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{organization_id}/api-keys',
  summary: 'Create an API key; it is shown in this answer only',
  tags: ['API keys'],
  request: { params: organizationParams, body: bodyOf(keyBody) },
  responses: { 201: json(keySchema.extend({ key: z.string() }).openapi('NewApiKey'), 'The key.') },
})

const listKeys = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{organization_id}/api-keys',
  summary: 'List the API keys of an organization',
  tags: ['API keys'],
  request: { params: organizationParams },
  responses: { 200: json(z.object({ api_keys: z.array(keySchema) }), 'The keys, without anything secret.') },
})

const revokeKey = createRoute({
  method: 'delete',
  path: '/api/v1/organizations/{organization_id}/api-keys/{key_id}',
  summary: 'Revoke an API key',
  tags: ['API keys'],
  request: { params: organizationParams.extend({ key_id: z.string() }) },
  responses: { 204: { description: 'Revoked: no process accepts it after a second.' } },
})

/** The operator's routes for organizations; an organization's own `admin` key may read it and manage its keys. */
export function registerOrganizationRoutes(app: App, context: OrganizationsContext): void {
  app.openapi(create, async (c) => {
    requireOperator(c.get('principal'))
    const { test_clock: testClock, ...input } = c.req.valid('json')
    return c.json(organizationAnswer(await createOrganization(context, callerOf(c), { ...input, testClock })), 201)
  })
  app.openapi(list, async (c) => {
    requireOperator(c.get('principal'))
    const { starting_after: after, limit } = c.req.valid('query')
    const found = await listOrganizations(context.db, { after, limit: limit + 1 })
    return c.json({ organizations: found.slice(0, limit).map(organizationAnswer), has_more: found.length > limit }, 200)
  })
  app.openapi(read, async (c) => {
    const principal = requireScope(c.get('principal'), 'read')
    const id = organizationFor(principal, c.req.valid('param').organization_id)
    return c.json(organizationAnswer(await readOrganization(context, id)), 200)
  })
  app.openapi(createKey, async (c) => {
    const id = organizationFor(requireScope(c.get('principal'), 'admin'), c.req.valid('param').organization_id)
    const { expires_at: expiresAt, ...input } = c.req.valid('json')
    const key = await issueApiKey(context, callerOf(c), {
      ...input,
      organizationId: id,
      expiresAt: expiresAt === undefined ? null : new Date(expiresAt),
    })
    return c.json({ ...keyAnswer(key), key: key.key }, 201)
  })
  app.openapi(listKeys, async (c) => {
    const id = organizationFor(requireScope(c.get('principal'), 'admin'), c.req.valid('param').organization_id)
    return c.json({ api_keys: (await readApiKeys(context, id)).map(keyAnswer) }, 200)
  })
  app.openapi(revokeKey, async (c) => {
    const params = c.req.valid('param')
    const id = organizationFor(requireScope(c.get('principal'), 'admin'), params.organization_id)
    await withdrawApiKey(context, callerOf(c), { organizationId: id, id: params.key_id as ApiKeyId })
    return c.body(null, 204)
  })
}

function callerOf(c: Context<AppEnv>) {
  return { principal: requireScope(c.get('principal'), 'read'), requestId: c.get('requestId') }
}

function organizationAnswer(organization: Organization) {
  return {
    id: organization.id,
    name: organization.name,
    email: organization.email,
    stripe_customer_id: organization.stripeCustomerId,
    test_clock_id: organization.stripeTestClockId,
    now: organization.testClockNow?.toISOString() ?? null,
    created_at: organization.createdAt.toISOString(),
  }
}

function keyAnswer(key: ApiKey) {
  return {
    id: key.id,
    name: key.name,
    scopes: [...key.scopes],
    display_prefix: key.displayPrefix,
    created_at: key.createdAt.toISOString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
    revoked_at: key.revokedAt?.toISOString() ?? null,
  }
}

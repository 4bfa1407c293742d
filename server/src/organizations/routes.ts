import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { organizationFor, type Principal, requireOperator, requireScope, SCOPES } from '../auth/principal.ts'
import type { ApiKey } from '../auth/store.ts'
import type { App } from '../http/app.ts'
import type { AppEnv } from '../http/app-env.ts'
import { moment } from '../lib/moments.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { nameText } from '../lib/name-text.ts'
import { requestKeyHeader } from '../lib/request-key.ts'
import type { SentRequest } from '../lib/sent-request.ts'
import { asker } from './asker-routes.ts'
import { createOrganization, readOrganization, type OrganizationsContext } from './actions.ts'
import { createKey, listKeys, revokeKey, rotateKey, type KeyAsker } from './keys.ts'
import { findOrganization, listOrganizations, type Organization } from './store.ts'

/** What the id of an organization may be. */
export const idSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/, 'letters, digits and . _ : - are expected, at most 100')

const organizationSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    email: z.string(),
    stripe_customer_id: z.string().nullable(),
    test_clock: z
      .object({ id: z.string(), now: z.iso.datetime().nullable() })
      .nullable()
      .meta({ description: 'The test clock on which it lives, and its time there.' }),
    time_zone: z.string().nullable().meta({ description: 'Of its calendar periods; null is the catalog’s.' }),
    created_at: z.iso.datetime(),
  })
  .openapi('Organization')

export const keySchema = z
  .object({
    id: z.string(),
    name: z.string(),
    scopes: z.array(z.enum(SCOPES)),
    display_prefix: z.string().meta({ description: 'The first characters, to tell keys apart.' }),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime().nullable(),
    revoked_at: z.iso.datetime().nullable(),
    first_used_at: z.iso.datetime().nullable().meta({
      description:
        'null: nobody has used it yet; it may never have arrived. Of a key from before this was written down, when it was made.',
    }),
  })
  .openapi('ApiKey')

const newKeySchema = keySchema
  .extend({ key: z.string().meta({ description: 'The key itself: shown here, and never again.' }) })
  .openapi('NewApiKey')

const keyHeader = requestKeyHeader(
  'A repeat makes no second key: as long as the first has not been used, it answers it with a new secret.',
)

const organizationParams = z.object({ id: z.string().meta({ description: 'The organization.' }) })

const createOrganizationRoute = createRoute({
  method: 'post',
  path: '/api/v1/organizations',
  tags: ['Organizations'],
  summary: 'Create an organization',
  description:
    'For operators. Repeating it with the same id and body answers the one that is there, with 200; without an id, so does an Idempotency-Key.',
  request: {
    headers: requestKeyHeader('Makes a repeat without an id safe: the id follows from it.'),
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.object({
            id: idSchema.optional(),
            name: nameText(200),
            email: z.email().max(320),
            time_zone: z.string().max(64).optional().meta({ description: 'IANA name of the zone of its calendar periods.' }),
            test_clock: z.boolean().default(false).meta({ description: 'Whether it lives on a Stripe test clock of its own.' }),
          }),
        },
      },
    },
  },
  responses: { 201: json('It was created.', organizationSchema), 200: json('It was there already.', organizationSchema) },
})

const listOrganizationsRoute = createRoute({
  method: 'get',
  path: '/api/v1/organizations',
  tags: ['Organizations'],
  summary: 'List organizations, newest first',
  description: 'For operators. `has_more` says whether another page follows; ask for it with the last id as `starting_after`.',
  request: {
    query: z.object({
      ...pageQuery({ most: 100, usual: 50 }),
    }),
  },
  responses: {
    200: json('A page of them.', z.object({ organizations: z.array(organizationSchema), has_more: z.boolean() })),
  },
})

const readOrganizationRoute = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{id}',
  tags: ['Organizations'],
  summary: 'Read an organization',
  description: 'The scope `read`. Another organization than the caller’s is 404, as one that does not exist.',
  request: { params: organizationParams },
  responses: { 200: json('The organization.', organizationSchema) },
})

const createKeyRoute = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{id}/api-keys',
  tags: ['API keys'],
  summary: 'Create an API key',
  description:
    'The scope `admin`. The key is in this answer alone and cannot be read again, so a repeat without an Idempotency-Key makes another key. An `expires_at` that has passed is 400.',
  request: {
    headers: keyHeader,
    params: organizationParams,
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.object({
            name: nameText(100),
            scopes: z.array(z.enum(SCOPES)).min(1),
            expires_at: moment.nullish(),
          }),
        },
      },
    },
  },
  responses: { 201: json('The key. It is shown only here.', newKeySchema) },
})

const listKeysRoute = createRoute({
  method: 'get',
  path: '/api/v1/organizations/{id}/api-keys',
  tags: ['API keys'],
  summary: 'List API keys, without the keys themselves',
  description:
    'The scope `admin`. All at once, oldest first, those that were revoked or have expired too; `display_prefix` tells them apart.',
  request: { params: organizationParams },
  responses: { 200: json('The keys.', z.object({ api_keys: z.array(keySchema) })) },
})

const revokeKeyRoute = createRoute({
  method: 'delete',
  path: '/api/v1/organizations/{id}/api-keys/{key_id}',
  tags: ['API keys'],
  summary: 'Revoke an API key',
  description: 'Every server refuses it within a second.',
  request: { params: organizationParams.extend({ key_id: z.string() }) },
  responses: { 204: { description: 'It is revoked.' } },
})

const rotateKeyRoute = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{id}/api-keys/{key_id}/rotate',
  tags: ['API keys'],
  summary: 'Replace an API key',
  description:
    'The new key has the name, scopes and lifetime of the old one, which works on for the overlap. Leave one to the key that you call with: an answer that is lost is asked for again with it.',
  request: {
    headers: keyHeader,
    params: organizationParams.extend({ key_id: z.string() }),
    body: {
      content: {
        'application/json': {
          schema: z.object({
            overlap_hours: z
              .number()
              .min(0)
              .max(720)
              .default(24)
              .meta({ description: 'How long the old key works on, in hours.' }),
          }),
        },
      },
    },
  },
  responses: { 201: json('The new key. It is shown only here.', newKeySchema) },
})

export function registerOrganizationRoutes(app: App, context: OrganizationsContext): void {
  app.openapi(createOrganizationRoute, async (c) => {
    const principal = requireOperator(c.get('principal'))
    const { id, name, email, test_clock: testClock, time_zone: timeZone } = c.req.valid('json')
    const requestKey = c.req.header('idempotency-key')
    const input = { id, requestKey, name, email, testClock, timeZone }
    const { organization, created } = await createOrganization(context, input, asker(c, principal))
    return c.json(showOrganization(organization), created ? 201 : 200)
  })

  app.openapi(listOrganizationsRoute, async (c) => {
    requireOperator(c.get('principal'))
    const { limit, starting_after: startingAfter } = c.req.valid('query')
    const find = (id: string): Promise<Organization | null> => findOrganization(context.db, id as OrganizationId)
    const last = await findStart(startingAfter, find)
    const found = await listOrganizations(context.db, { limit: limit + 1, startingAfter: last?.id ?? null })
    const { page, hasMore } = pageOf(found, limit)
    return c.json({ organizations: page.map(showOrganization), has_more: hasMore }, 200)
  })

  app.openapi(readOrganizationRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'read')
    const organizationId = organizationFor(principal, c.req.valid('param').id)
    return c.json(showOrganization(await readOrganization(context.db, organizationId)), 200)
  })

  app.openapi(createKeyRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const organizationId = organizationFor(principal, c.req.valid('param').id)
    const { name, scopes: named, expires_at: ends } = c.req.valid('json')
    const scopes = SCOPES.filter((scope) => named.includes(scope))
    const expiresAt = ends === null || ends === undefined ? null : new Date(ends)
    const sent = { operation: 'api-keys', body: { name, scopes, expires_at: expiresAt?.toISOString() } }
    const made = await createKey(context, { organizationId, name, scopes, expiresAt }, keyAsker(c, principal, sent))
    return c.json({ ...showKey(made), key: made.key }, 201)
  })

  app.openapi(listKeysRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const keys = await listKeys(context, organizationFor(principal, c.req.valid('param').id))
    return c.json({ api_keys: keys.map(showKey) }, 200)
  })

  app.openapi(rotateKeyRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, key_id: keyId } = c.req.valid('param')
    const organizationId = organizationFor(principal, id)
    const overlapHours = c.req.valid('json').overlap_hours ?? 24
    const sent = { operation: `api-keys/${keyId}/rotate`, body: { overlap_hours: overlapHours } }
    const rotation = { organizationId, id: keyId as ApiKeyId, overlapHours }
    const made = await rotateKey(context, rotation, keyAsker(c, principal, sent))
    return c.json({ ...showKey(made), key: made.key }, 201)
  })

  app.openapi(revokeKeyRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, key_id: keyId } = c.req.valid('param')
    const key = { organizationId: organizationFor(principal, id), id: keyId as ApiKeyId }
    await revokeKey(context, key, asker(c, principal))
    return c.body(null, 204)
  })
}

function keyAsker(c: Context<AppEnv>, principal: Principal, sent: SentRequest): KeyAsker {
  const key = c.req.header('idempotency-key')
  return { ...asker(c, principal), request: key === undefined ? null : { ...sent, key } }
}

function showOrganization(organization: Organization) {
  return {
    id: organization.id,
    name: organization.name,
    email: organization.email,
    stripe_customer_id: organization.stripeCustomerId,
    test_clock:
      organization.testClockId === null
        ? null
        : { id: organization.testClockId, now: organization.testClockNow?.toISOString() ?? null },
    time_zone: organization.timeZone,
    created_at: organization.createdAt.toISOString(),
  }
}

export function showKey(key: ApiKey) {
  return {
    id: key.id,
    name: key.name,
    scopes: [...key.scopes],
    display_prefix: key.displayPrefix,
    created_at: key.createdAt.toISOString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
    revoked_at: key.revokedAt?.toISOString() ?? null,
    first_used_at: key.firstUsedAt?.toISOString() ?? null,
  }
}

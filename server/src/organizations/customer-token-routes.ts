import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { CustomerToken } from '../auth/customer-token-store.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import type { CustomerTokenId } from '../lib/ids.ts'
import { asker } from './asker-routes.ts'
import type { OrganizationsContext } from './actions.ts'
import { createCustomerToken, endCustomerToken, MOST_SECONDS, readCustomerTokens } from './customer-tokens.ts'

const tokenSchema = z
  .object({
    id: z.string(),
    created_by: z.string(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
    revoked_at: z.iso.datetime().nullable(),
  })
  .openapi('CustomerToken')

const newTokenSchema = tokenSchema
  .extend({ token: z.string().meta({ description: 'The token itself: shown here, and never again.' }) })
  .openapi('NewCustomerToken')

const params = z.object({ id: z.string().meta({ description: 'The organization.' }) })
const tags = ['Customer tokens']

const createTokenRoute = createRoute({
  tags,
  method: 'post',
  path: '/api/v1/organizations/{id}/customer-tokens',
  summary: 'Create a token for an embedded billing page',
  description:
    'It reads the bills, balances and use of this organization and does what a customer does there: buy, pay, change, cancel. Nothing else.',
  request: {
    params,
    body: {
      content: {
        'application/json': {
          schema: z.object({
            expires_in_seconds: z.number().int().min(60).max(MOST_SECONDS).default(900).meta({ description: 'At most an hour.' }),
          }),
        },
      },
    },
  },
  responses: { 201: json('The token. It is shown only here.', newTokenSchema) },
})

const listTokensRoute = createRoute({
  tags,
  method: 'get',
  path: '/api/v1/organizations/{id}/customer-tokens',
  summary: 'List customer tokens, newest first, without the tokens themselves',
  description: 'The scope `admin`. For looking after them: a token is in the answer of its creation alone.',
  request: { params },
  responses: { 200: json('The tokens.', z.object({ customer_tokens: z.array(tokenSchema) })) },
})

const revokeTokenRoute = createRoute({
  tags,
  method: 'delete',
  path: '/api/v1/organizations/{id}/customer-tokens/{token_id}',
  summary: 'Revoke a customer token',
  description: 'The scope `admin`. It counts at once. A token of another organization is 404.',
  request: { params: params.extend({ token_id: z.string() }) },
  responses: { 204: { description: 'It is worth nothing any more, at once.' } },
})

export function registerCustomerTokenRoutes(app: App, context: OrganizationsContext): void {
  app.openapi(createTokenRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const organizationId = organizationFor(principal, c.req.valid('param').id)
    const seconds = c.req.valid('json').expires_in_seconds ?? 900
    const made = await createCustomerToken(context, { organizationId, seconds }, asker(c, principal))
    return c.json({ ...showToken(made), token: made.token }, 201)
  })

  app.openapi(listTokensRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const tokens = await readCustomerTokens(context, organizationFor(principal, c.req.valid('param').id))
    return c.json({ customer_tokens: tokens.map(showToken) }, 200)
  })

  app.openapi(revokeTokenRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const { id, token_id: tokenId } = c.req.valid('param')
    const token = { organizationId: organizationFor(principal, id), id: tokenId as CustomerTokenId }
    await endCustomerToken(context, token, asker(c, principal))
    return c.body(null, 204)
  })
}

function showToken(token: CustomerToken) {
  return {
    id: token.id,
    created_by: token.createdBy,
    created_at: token.createdAt.toISOString(),
    expires_at: token.expiresAt.toISOString(),
    revoked_at: token.revokedAt?.toISOString() ?? null,
  }
}

import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import type { UserId } from '../lib/ids.ts'
import { asker } from '../organizations/asker-routes.ts'
import { setOperator, type UsersContext } from './users.ts'
import { findUser, listUsers, type User } from './users-store.ts'

const userSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    email: z.string(),
    email_verified: z.boolean(),
    two_factor_enabled: z.boolean(),
    operator: z.boolean().meta({ description: 'Whether they were made an operator here; OPERATOR_EMAILS makes others.' }),
    created_at: z.iso.datetime(),
  })
  .openapi('User')

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/users',
  tags: ['Operators'],
  summary: 'List people',
  description: 'For operators. `has_more` says whether another page follows; ask for it with the last id as `starting_after`.',
  request: {
    query: z.object({
      email: z.string().optional().meta({ description: 'Only who has this address.' }),
      ...pageQuery({ most: 100, usual: 50 }),
    }),
  },
  responses: { 200: json('A page of them.', z.object({ users: z.array(userSchema), has_more: z.boolean() })) },
})

const changeRoute = createRoute({
  method: 'patch',
  path: '/api/v1/users/{user_id}',
  tags: ['Operators'],
  summary: 'Make somebody an operator, or an ordinary user again',
  description:
    'For operators. It counts from their next request on, and is in the audit log; saying it again changes nothing. Addresses in OPERATOR_EMAILS are operators whatever is said here.',
  request: {
    params: z.object({ user_id: z.string() }),
    body: { required: true, content: { 'application/json': { schema: z.strictObject({ operator: z.boolean() }) } } },
  },
  responses: { 200: json('The user.', userSchema) },
})

export function registerUserRoutes(app: App, context: UsersContext): void {
  app.openapi(listRoute, async (c) => {
    requireOperator(c.get('principal'))
    const { email, limit, starting_after: startingAfter } = c.req.valid('query')
    const last = await findStart(startingAfter, (id) => findUser(context.db, id as UserId))
    const found = await listUsers(context.db, { email: email?.toLowerCase() ?? null, after: last?.id ?? null, limit: limit + 1 })
    const { page, hasMore } = pageOf(found, limit)
    return c.json({ users: page.map(showUser), has_more: hasMore }, 200)
  })

  app.openapi(changeRoute, async (c) => {
    const principal = requireOperator(c.get('principal'))
    const change = { id: c.req.valid('param').user_id as UserId, operator: c.req.valid('json').operator }
    return c.json(showUser(await setOperator(context, change, asker(c, principal))), 200)
  })
}

function showUser(user: User) {
  return {
    id: user.id,
    name: user.name,
    email: user.email,
    email_verified: user.emailVerified,
    two_factor_enabled: user.twoFactorEnabled,
    operator: user.operator,
    created_at: user.createdAt.toISOString(),
  }
}

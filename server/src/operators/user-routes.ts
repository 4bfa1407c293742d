import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { calendarMonthOf } from '../lib/period.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { shownPlan } from '../standing/rules.ts'
import type { BillingContext } from '../stripe/context.ts'
import { listFields, moreFields, moreOf, pageOf, toRange } from './list-queries.ts'
import { listOrganizationsOfUsers, listUsers, sumUse } from './users-store.ts'

const usage = z
  .record(z.string(), z.union([z.number(), z.string()]))
  .meta({ description: 'By meter.', example: { tokens: 1200 } })

const userSchema = z
  .object({
    id: z.string(),
    email: z.string(),
    name: z.string(),
    operator: z.boolean(),
    created: z.iso.datetime(),
    organizations: z.array(
      z.object({
        id: z.string(),
        name: z.string(),
        role: z.string(),
        plan: z.string().nullable(),
        subscription_status: z.string().meta({ description: 'none where nothing is subscribed.' }),
        usage,
      }),
    ),
  })
  .openapi('ListedUser')

const usersRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/admin/users',
  tags: ['Operators'],
  summary: 'List people with their organizations and what those used this calendar month (UTC)',
  description:
    'For operators. Use is that of the organization, by meter, whoever of its members it was; on a test clock, of the month in which that stands. Page on with `next_cursor` as `cursor`.',
  request: { query: z.object(listFields(100, ['created', 'name'])) },
  responses: {
    200: {
      description: 'A page of them, newest first.',
      content: { 'application/json': { schema: z.object({ users: z.array(userSchema), ...moreFields }) } },
    },
  },
})

/** CB-7: every user with usage. Use is counted by organization; who signs up alone has one of their own. */
export function registerUserListRoute(app: App, { db, clock }: BillingContext): void {
  app.openapi(usersRoute, async (http) => {
    requireOperator(http.get('principal'))
    const query = http.req.valid('query')
    const listed = await listUsers(db, { ...pageOf(query), ...toRange(query) })
    const organizations = await listOrganizationsOfUsers(
      db,
      listed.rows.map(({ id }) => id),
    )
    const months = new Map(
      organizations.map(({ organizationId, testClockNow }) => [organizationId, calendarMonthOf(testClockNow ?? clock.now())]),
    )
    const spans = [...months].map(([organizationId, month]) => ({ organizationId, ...month }))
    const use = Map.groupBy(await sumUse(db, spans), ({ organizationId }) => organizationId)
    const usageOf = (id: string) =>
      Object.fromEntries((use.get(id) ?? []).map(({ meter, quantity }) => [meter, quantityToJson(quantity)]))
    const users = listed.rows.map((user) => ({
      id: user.id,
      email: user.email,
      name: user.name,
      operator: user.operator,
      created: user.createdAt.toISOString(),
      organizations: organizations
        .filter(({ userId }) => userId === user.id)
        .map(({ organizationId, name, role, status, ...plans }) => ({
          id: organizationId,
          name,
          role,
          plan: shownPlan(plans, clock.now()),
          subscription_status: status ?? 'none',
          usage: usageOf(organizationId),
        })),
    }))
    return http.json({ users, ...moreOf(listed) }, 200)
  })
}

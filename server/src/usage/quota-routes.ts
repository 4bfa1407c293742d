import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { Queryable } from '../db/database.ts'
import type { GrantsContext } from '../grants/actions.ts'
import type { App } from '../http/app.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { readBalances, type BalanceReading } from '../metering/reads.ts'
import { isUsedUp, totalUsed } from '../metering/wire/bodies.ts'

const quantity = z.union([z.number(), z.string()])

const quotaSchema = z
  .object({
    limit: quantity.meta({ description: '0 is unlimited (CB-4); see `unlimited`.' }),
    unlimited: z.boolean(),
    used: quantity,
    remaining: quantity.nullable().meta({ description: 'null is unlimited.' }),
    exceeded: z.boolean(),
    unit: z.string(),
    resets_at: z.iso.datetime().nullable().meta({ description: 'When it starts again; null is never.' }),
  })
  .openapi('Quota')

const route = createRoute({
  method: 'get',
  path: '/api/v1/billing/quota',
  tags: ['Usage'],
  summary: 'The quotas of the present period',
  description: 'One per balance that the plan includes or of which something else was granted (CB-6).',
  request: { query: z.object({ organization_id: z.string().optional().meta({ description: 'For operators.' }) }) },
  responses: {
    200: {
      description: 'The quotas.',
      content: {
        'application/json': {
          schema: z.object({ plan: z.string(), quotas: z.record(z.string(), quotaSchema) }).openapi('Quotas'),
        },
      },
    },
  },
})

export function registerQuotaRoutes(app: App, context: GrantsContext & { readonly db: Queryable }): void {
  app.openapi(route, async (http) => {
    const principal = requireScope(http.get('principal'), 'read')
    const organizationId = organizationFor(principal, http.req.valid('query').organization_id)
    const { terms, balances } = await readBalances(context.db, context, organizationId)
    const quotas = Object.fromEntries(balances.map((balance) => [balance.balanceKey, showQuota(balance)]))
    return http.json({ plan: terms.standing.planKey, quotas }, 200)
  })
}

function showQuota(balance: BalanceReading): z.infer<typeof quotaSchema> {
  const { amount, remaining, unit, periodEnd } = balance
  return {
    limit: quantityToJson(amount ?? 0n),
    unlimited: amount === null,
    used: quantityToJson(totalUsed(balance)),
    remaining: remaining === null ? null : quantityToJson(remaining),
    exceeded: isUsedUp(balance),
    unit,
    resets_at: periodEnd?.toISOString() ?? null,
  }
}

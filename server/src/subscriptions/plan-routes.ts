import { createRoute, z } from '@hono/zod-openapi'
import type { Allowance, Catalog, Plan } from '../catalog/catalog.ts'
import { priceSchema, showPrice } from '../catalog/price-views.ts'
import { tierOf } from '../catalog/tiers.ts'
import { featureValuesSchema, showFeatureValues } from '../entitlements/views.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { readStanding } from '../standing/actions.ts'
import type { BillingContext } from '../stripe/context.ts'
import { callerOf } from './routes.ts'
import { organizationField } from './schemas.ts'

const quantity = z.union([z.number(), z.string()])

const planSchema = z
  .object({
    plan: z.string(),
    tier: z.string(),
    name: z.string(),
    description: z.string(),
    current: z.boolean().meta({ description: 'Whether the organization has it now, perhaps under earlier terms.' }),
    purchasable: z.boolean().meta({ description: 'Whether checkout, subscribe and upgrade offer it.' }),
    currency: z.string().meta({ description: 'Of its prices: that of the catalog, unless the plan is of an earlier one.' }),
    prices: z.record(z.string(), z.int()).meta({ description: 'By interval, in minor units; none is free.' }),
    allowances: z.array(
      z.object({
        balance: z.string(),
        name: z.string(),
        unit: z.string(),
        amount: quantity.nullable().meta({ description: 'null is unlimited.' }),
        period: z.enum(['billing_cycle', 'calendar_month', 'day', 'year', 'lifetime']),
        limit: z.enum(['hard', 'soft']),
        overage: priceSchema.nullable().meta({ description: 'What use beyond the amount costs.' }),
        spend_limit_minor: z.int().nullable(),
      }),
    ),
    rate_limits: z.array(z.object({ meter: z.string(), limit: quantity, seconds: z.int() })),
    features: featureValuesSchema.meta({ description: 'One that is left out is not included.' }),
  })
  .openapi('Plan')

const route = createRoute({
  method: 'get',
  path: '/api/v1/billing/plans',
  tags: ['Billing'],
  summary: 'The plans on offer, as a page of prices shows them',
  description:
    'The scope `read`. Those of the present catalog that can be bought, the one that everybody has for nothing, and the one that the organization has, in the order of the catalog; one that the catalog has no more comes last, as it was last declared.',
  request: { query: z.object(organizationField) },
  responses: {
    200: json(
      'The plans.',
      z.object({
        currency: z.string(),
        features: z
          .array(
            z.object({
              feature: z.string(),
              name: z.string(),
              type: z.enum(['boolean', 'number', 'choice']),
              unit: z.string().nullable(),
              values: z.array(z.string()).meta({ description: 'Of a choice, ascending.' }),
            }),
          )
          .meta({ description: 'All that plans may have.' }),
        plans: z.array(planSchema),
      }),
    ),
  },
})

export function registerPlanListRoute(app: App, context: BillingContext): void {
  app.openapi(route, async (http) => {
    const { organizationId } = callerOf(http, 'read', http.req.valid('query').organization_id)
    const found = await readStanding(context.db, { ...context, graceDays: context.policy.graceDays }, organizationId)
    if (found === null) throw new DomainError('not_found', 'There is no such organization.')
    const { catalog } = context.catalogs.current
    const { planKey } = found.standing
    const listed = [...catalog.plans.values()].filter(
      ({ key, purchasable }) => purchasable || key === catalog.defaultPlanKey || key === planKey,
    )
    const shown = listed.map((plan) => showPlan(plan, catalog))
    const former = catalog.plans.has(planKey) ? undefined : await context.catalogs.withPlan(planKey)
    const held = former?.plans.get(planKey)
    if (former !== undefined && held !== undefined) {
      shown.push({ ...showPlan(held, former), tier: tierOf(catalog, planKey), purchasable: false })
    }
    return http.json(
      {
        currency: catalog.currency,
        features: [...catalog.features.values()].map(({ key, name, type, unit, values }) => ({
          feature: key,
          name,
          type,
          unit,
          values: [...values],
        })),
        plans: shown.map((plan) => ({ ...plan, current: plan.plan === planKey })),
      },
      200,
    )
  })
}

function showPlan(plan: Plan, catalog: Catalog): Omit<z.infer<typeof planSchema>, 'current'> {
  return {
    plan: plan.key,
    tier: plan.tier,
    name: plan.name,
    description: plan.description,
    purchasable: plan.purchasable,
    currency: catalog.currency,
    prices: Object.fromEntries([...plan.prices].map(([interval, { amountMinor }]) => [interval, amountMinor])),
    allowances: [...plan.allowances.values()].map((allowance) => showAllowance(allowance, catalog)),
    rate_limits: [...plan.rateLimits].map(([meter, { limit, seconds }]) => ({ meter, limit: quantityToJson(limit), seconds })),
    features: showFeatureValues(plan.features),
  }
}

function showAllowance(allowance: Allowance, { balances }: Catalog): z.infer<typeof planSchema>['allowances'][number] {
  const { balanceKey, amount, period, limit, overage, spendLimitMinor } = allowance
  const { name, unit } = balances.get(balanceKey)!
  return {
    balance: balanceKey,
    name,
    unit,
    amount: amount === null ? null : quantityToJson(amount),
    period,
    limit,
    overage: overage === null ? null : showPrice(overage),
    spend_limit_minor: spendLimitMinor,
  }
}

import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireOperator } from '../auth/principal.ts'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { CatalogError } from '../catalog/problems.ts'
import type { App } from '../http/app.ts'
import { DomainError } from '../lib/errors.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { readOrganization } from '../organizations/actions.ts'
import { runSimulation, totalOf, type SimulationContext } from './actions.ts'
import { monthsBetween, type Revenue } from './rules.ts'

const month = z
  .string()
  .regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'a month such as 2026-11 is expected')
  .meta({ example: '2026-11' })

const revenueSchema = z.object({
  total_minor: z.int(),
  base_minor: z.int().meta({ description: 'The plan, with its seats.' }),
  add_ons_minor: z.int(),
  usage_minor: z.int(),
  top_ups_minor: z.int(),
  refused: z
    .record(z.string(), z.union([z.number(), z.string()]))
    .meta({ description: 'By balance: what limits would have refused.' }),
})

const simulationSchema = z
  .object({
    months: z.array(z.string()),
    currency: z.string(),
    present_minor: z.int(),
    other_minor: z.int(),
    difference_minor: z.int(),
    plans: z.array(
      z.object({
        plan: z.string(),
        customers: z.int(),
        present_minor: z.int(),
        other_minor: z.int(),
        difference_minor: z.int(),
      }),
    ),
    customers: z
      .array(
        z.object({
          organization_id: z.string(),
          name: z.string(),
          plan: z.string(),
          present: revenueSchema,
          other: revenueSchema.nullable().meta({ description: 'null where the other catalog does not have the plan.' }),
          difference_minor: z.int().nullable(),
        }),
      )
      .meta({ description: 'By how much they change, the largest first.' }),
    customers_left_out: z.int().meta({ description: 'More customers than `limit`; the sums count them.' }),
    customers_without_plan: z.int().meta({ description: 'Whose plan the other catalog does not have; the sums leave them out.' }),
  })
  .openapi('Simulation')

const route = createRoute({
  method: 'post',
  path: '/api/v1/admin/simulations',
  tags: ['Operators'],
  summary: 'What recorded use would have brought under another catalog',
  description: 'Whole months, on both sides worked out from the recorded use alone. Changes nothing and stores nothing.',
  request: {
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.strictObject({
            catalog: z.record(z.string(), z.unknown()).meta({ description: 'A definition, as billing.config.ts exports it.' }),
            from: month,
            to: month,
            organization_id: z.string().max(100).optional(),
            plans: z
              .record(z.string(), z.string())
              .default({})
              .meta({ description: 'Where a plan has another name in that catalog: { old: new }.' }),
            limit: z.int().min(0).max(100_000).default(100).meta({ description: 'Customers to name.' }),
          }),
        },
      },
    },
  },
  responses: { 200: { description: 'Both sides.', content: { 'application/json': { schema: simulationSchema } } } },
})

const MONTHS_AT_MOST = 36

export function registerSimulationRoutes(app: App, context: SimulationContext): void {
  app.openapi(route, async (http) => {
    const principal = requireOperator(http.get('principal'))
    const { catalog, from, to, organization_id: named, plans: planNames, limit } = http.req.valid('json')
    const other = readCatalog(catalog)
    const { currency } = context.catalogs.current.catalog
    if (other.currency !== currency)
      throw invalid(`The catalogs have different currencies: ${currency}, ${other.currency}.`, 'catalog')
    if (from > to) throw invalid('from lies after to.', 'from')
    if (monthsBetween(from, to).length > MONTHS_AT_MOST) throw invalid(`At most ${MONTHS_AT_MOST} months are replayed.`, 'to')
    for (const name of Object.values(planNames)) {
      if (!other.plans.has(name)) throw invalid(`That catalog has no plan "${name}".`, 'plans')
    }
    const organizationId = organizationOrAll(principal, named)
    if (organizationId !== null) await readOrganization(context.db, organizationId)
    const simulation = await runSimulation(context, { catalog: other, from, to, organizationId, planNames })
    const { plans, customers, months } = simulation
    const presentMinor = plans.reduce((sum, plan) => sum + plan.presentMinor, 0)
    const otherMinor = plans.reduce((sum, plan) => sum + plan.otherMinor, 0)
    return http.json(
      {
        months: [...months],
        currency,
        present_minor: presentMinor,
        other_minor: otherMinor,
        difference_minor: otherMinor - presentMinor,
        plans: plans.map((plan) => ({
          plan: plan.planKey,
          customers: plan.customers,
          present_minor: plan.presentMinor,
          other_minor: plan.otherMinor,
          difference_minor: plan.otherMinor - plan.presentMinor,
        })),
        customers: customers.slice(0, limit).map(({ customer, present, other: revenue }) => ({
          organization_id: customer.organizationId,
          name: customer.name,
          plan: customer.planKey,
          present: show(present),
          other: revenue === null ? null : show(revenue),
          difference_minor: revenue === null ? null : totalOf(revenue) - totalOf(present),
        })),
        customers_left_out: Math.max(0, customers.length - limit),
        customers_without_plan: customers.filter((each) => each.other === null).length,
      },
      200,
    )
  })
}

function readCatalog(definition: unknown) {
  try {
    return normalizeCatalog(definition)
  } catch (error) {
    if (error instanceof CatalogError) throw invalid(error.problems.join(' '), 'catalog')
    throw error
  }
}

function invalid(sentence: string, field: string): DomainError {
  return new DomainError('invalid_request', sentence, { field })
}

function show(revenue: Revenue): z.infer<typeof revenueSchema> {
  return {
    total_minor: totalOf(revenue),
    base_minor: revenue.baseMinor,
    add_ons_minor: revenue.addOnsMinor,
    usage_minor: revenue.usageMinor,
    top_ups_minor: revenue.topUpsMinor,
    refused: Object.fromEntries([...revenue.refused].map(([balanceKey, quantity]) => [balanceKey, quantityToJson(quantity)])),
  }
}

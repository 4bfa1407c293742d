import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, requireOperator } from '../auth/principal.ts'
import { priceSchema, showPrice } from '../catalog/price-views.ts'
import { valueToJson } from '../entitlements/rules.ts'
import { featureValueSchema } from '../entitlements/views.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import { quantityToJson, type Quantity } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { findOrganization } from '../stripe/organizations.ts'
import { listMeteredGaps } from '../subscriptions/metered-items.ts'
import { previewMigration, readMigration, startMigration, type MigrationFilter } from './actions.ts'
import type { Move } from './rules.ts'
import { findMove, listMoves, type Migration, type MoveState, type StoredMove } from './store.ts'

const tags = ['Operators']
const filterFields = {
  plan: z.string().min(1).max(63).optional().meta({ description: 'Only customers of this plan.' }),
  from_version: z
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .optional()
    .meta({ description: 'Only those who have the terms of this catalog version.' }),
  organization_ids: z.array(z.string().min(1).max(100)).min(1).max(10_000).optional(),
}
const filterSchema = z.strictObject(filterFields)
const startSchema = z.strictObject({
  ...filterFields,
  at: z.enum(['now', 'period_end']).default('period_end').meta({
    description: 'now: the difference goes onto the next invoice; period_end: nothing changes in the period that is paid.',
  }),
  reason: z.string().min(1).max(1000),
})

const amount = z.union([z.number(), z.string()]).nullish().meta({ description: 'null is unlimited; absent is not included.' })

const moveFields = {
  organization_id: z.string(),
  plan: z.string(),
  from_version: z.int(),
  interval: z.string().nullable(),
  quantity: z.int(),
  currency: z.string(),
  from_amount_minor: z.int().meta({ description: 'Minor units per interval, for one.' }),
  to_amount_minor: z.int(),
}

const previewSchema = z
  .object({
    to_version: z.int(),
    organizations: z.int(),
    groups: z.array(
      z.object({
        plan: z.string(),
        from_version: z.int(),
        organizations: z.int(),
        allowances: z.array(z.object({ balance: z.string(), from: amount, to: amount })),
        newly_billed: z.array(z.string()).meta({ description: 'Balances whose use beyond the allowance begins to be billed.' }),
        repriced: z
          .array(z.object({ balance: z.string(), from: priceSchema, to: priceSchema }))
          .meta({ description: 'Balances whose use beyond the allowance costs something else.' }),
        features: z
          .array(z.object({ feature: z.string(), from: featureValueSchema, to: featureValueSchema }))
          .meta({ description: 'Features that begin, end or become something else; false is not included.' }),
      }),
    ),
    yearly: z.array(z.object({ currency: z.string(), before_minor: z.int(), after_minor: z.int() })),
    moves: z.array(z.object({ ...moveFields, name: z.string() })).meta({ description: 'The first 1,000.' }),
    unmovable: z.array(z.object({ organization_id: z.string(), plan: z.string(), why: z.string() })),
  })
  .openapi('PlanMigrationPreview')

const counts = z.object({ pending: z.int(), scheduled: z.int(), done: z.int(), skipped: z.int(), failed: z.int() })

const migrationSchema = z
  .object({
    id: z.string(),
    to_version: z.int(),
    at: z.enum(['now', 'period_end']),
    reason: z.string().nullable(),
    started_by: z.string(),
    created_at: z.iso.datetime(),
    counts,
  })
  .openapi('PlanMigration')

const movesSchema = z.object({
  moves: z.array(
    z.object({
      ...moveFields,
      state: z.enum(['pending', 'scheduled', 'done', 'skipped', 'failed']),
      effective_at: z.iso.datetime().nullable(),
      detail: z.string().nullable(),
    }),
  ),
  has_more: z.boolean(),
})

const PATH = '/api/v1/admin/catalog/migrations'

const previewRoute = createRoute({
  method: 'post',
  path: `${PATH}/preview`,
  tags,
  summary: 'Who would be moved to the present terms of their plan, and how much they would pay',
  description: 'Changes nothing. Customers stay on the terms under which they bought until a migration moves them.',
  request: { body: { required: true, content: { 'application/json': { schema: filterSchema } } } },
  responses: { 200: json('Who and how much.', previewSchema) },
})

const startRoute = createRoute({
  method: 'post',
  path: PATH,
  tags,
  summary: 'Move customers to the present terms of their plan',
  description:
    'For operators; preview it first. Who is moved is written down, and carried out in the background, at once or at the end of each period, as `at` says. Where nobody is left to move it is refused as `nothing_to_change`, and so is a repeat.',
  request: { body: { required: true, content: { 'application/json': { schema: startSchema } } } },
  responses: { 202: json('It has begun.', migrationSchema) },
})

const params = z.object({ id: z.string().max(100) })

const readRoute = createRoute({
  method: 'get',
  path: `${PATH}/{id}`,
  tags,
  summary: 'How far a migration is',
  description: 'For operators. With how many of its moves are in which state.',
  request: { params },
  responses: { 200: json('The migration.', migrationSchema) },
})

const movesRoute = createRoute({
  method: 'get',
  path: `${PATH}/{id}/moves`,
  tags,
  summary: 'What became of each customer of a migration',
  description:
    'For operators. `detail` says why one was skipped or failed. Page on with the last organization_id as `starting_after`.',
  request: {
    params,
    query: z.object({
      ...pageQuery({ most: 1000, usual: 100 }),
    }),
  },
  responses: { 200: json('By organization.', movesSchema) },
})

const gapsRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/catalog/metered-gaps',
  tags,
  summary: 'Subscriptions that do not bill use which their plan prices',
  description:
    'Begun before the plan had a price of use, or made elsewhere. The server adds the missing prices within five minutes; what was used before stays free. Page on with the last organization_id as `starting_after`.',
  request: {
    query: z.object({
      ...pageQuery({ most: 1000, usual: 100 }),
    }),
  },
  responses: {
    200: json(
      'Who they are, and what they will bill.',
      z.object({
        subscriptions: z.array(
          z.object({
            organization_id: z.string(),
            plan: z.string(),
            prices: z.array(z.object({ price_id: z.string(), balance: z.string(), reports: z.enum(['overage', 'use']) })),
          }),
        ),
        has_more: z.boolean(),
      }),
    ),
  },
})

export function registerPlanMigrationRoutes(app: App, context: BillingContext): void {
  app.openapi(gapsRoute, async (http) => {
    requireOperator(http.get('principal'))
    const { limit, starting_after: startingAfter } = http.req.valid('query')
    // The organization, not its gap: that may have been closed since.
    const last = await findStart(startingAfter, (id) => findOrganization(context.db, id))
    const { page, hasMore } = pageOf(await listMeteredGaps(context, limit + 1, last?.id), limit)
    const subscriptions = page.map(({ organizationId, planKey, prices }) => ({
      organization_id: organizationId,
      plan: planKey,
      prices: prices.map(({ priceId, balanceKey, reports }) => ({ price_id: priceId, balance: balanceKey, reports })),
    }))
    return http.json({ subscriptions, has_more: hasMore }, 200)
  })
  app.openapi(previewRoute, async (http) => {
    requireOperator(http.get('principal'))
    const preview = await previewMigration(context, toFilter(http.req.valid('json')))
    return http.json(
      {
        to_version: preview.toVersion,
        organizations: preview.organizations,
        groups: preview.groups.map(({ planKey, fromVersion, organizations, allowances, newlyBilled, repriced, features }) => ({
          plan: planKey,
          from_version: fromVersion,
          organizations,
          newly_billed: [...newlyBilled],
          repriced: repriced.map(({ balanceKey, from, to }) => ({
            balance: balanceKey,
            from: showPrice(from),
            to: showPrice(to),
          })),
          allowances: allowances.map(({ balanceKey, from, to }) => ({ balance: balanceKey, from: show(from), to: show(to) })),
          features: features.map(({ featureKey, from, to }) => ({
            feature: featureKey,
            from: valueToJson(from),
            to: valueToJson(to),
          })),
        })),
        yearly: preview.yearly.map(({ currency, beforeMinor, afterMinor }) => ({
          currency,
          before_minor: beforeMinor,
          after_minor: afterMinor,
        })),
        moves: preview.moves.map((move) => ({ ...showPlanned(move), name: move.name })),
        unmovable: preview.unmovable.map(({ organizationId, planKey, why }) => ({
          organization_id: organizationId,
          plan: planKey,
          why,
        })),
      },
      200,
    )
  })

  app.openapi(startRoute, async (http) => {
    const principal = requireOperator(http.get('principal'))
    const body = http.req.valid('json')
    const asker = { actor: actorOf(principal), requestId: http.get('requestId') }
    const migration = await startMigration(context, { filter: toFilter(body), at: body.at, reason: body.reason }, asker)
    const read = await readMigration(context, migration.id)
    return http.json(showMigration(read.migration, read.counts), 202)
  })

  app.openapi(readRoute, async (http) => {
    requireOperator(http.get('principal'))
    const { migration, counts: each } = await readMigration(context, http.req.valid('param').id)
    return http.json(showMigration(migration, each), 200)
  })

  app.openapi(movesRoute, async (http) => {
    requireOperator(http.get('principal'))
    const { id } = http.req.valid('param')
    const { limit, starting_after: startingAfter } = http.req.valid('query')
    await readMigration(context, id)
    const last = await findStart(startingAfter, (organizationId) => findMove(context.db, { migrationId: id, organizationId }))
    const found = await listMoves(context.db, { migrationId: id, after: last?.organizationId ?? null, limit: limit + 1 })
    const { page, hasMore } = pageOf(found, limit)
    return http.json({ moves: page.map(showMove), has_more: hasMore }, 200)
  })
}

function toFilter(body: z.infer<typeof filterSchema>): MigrationFilter {
  return {
    planKey: body.plan ?? null,
    fromVersion: body.from_version ?? null,
    organizationIds: body.organization_ids ?? null,
  }
}

function show(quantity: Quantity | null | undefined): number | string | null | undefined {
  return quantity === null || quantity === undefined ? quantity : quantityToJson(quantity)
}

function showPlanned(move: Move) {
  return {
    organization_id: move.organizationId,
    plan: move.planKey,
    from_version: move.catalogVersion,
    interval: move.interval,
    quantity: move.quantity,
    currency: move.currency,
    from_amount_minor: move.amountMinor,
    to_amount_minor: move.toAmountMinor,
  }
}

function showMove(move: StoredMove) {
  return {
    organization_id: move.organizationId,
    plan: move.planKey,
    from_version: move.fromVersion,
    interval: move.interval,
    quantity: move.quantity,
    currency: move.currency,
    from_amount_minor: move.fromAmountMinor,
    to_amount_minor: move.toAmountMinor,
    state: move.state,
    effective_at: move.effectiveAt?.toISOString() ?? null,
    detail: move.detail,
  }
}

function showMigration(migration: Migration, each: Readonly<Record<MoveState, number>>) {
  return {
    id: migration.id,
    to_version: migration.toVersion,
    at: migration.at,
    reason: migration.reason,
    started_by: migration.actor,
    created_at: migration.createdAt.toISOString(),
    counts: each,
  }
}

import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireOperator } from '../../auth/principal.ts'
import type { App } from '../../http/app.ts'
import { findStart, pageOf, pageQuery } from '../../http/page-query.ts'
import { json } from '../../http/route-schemas.ts'
import { DomainError } from '../../lib/errors.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { requestLook } from '../inbox/missed-events.ts'
import { readOrganization } from '../organizations.ts'
import { findDrift, listDrifts, readReconciliation } from './drift-store.ts'
import { beginReconciliation } from './reconcile-account.ts'
import { reconcileOrganization } from './reconcile.ts'

const driftFields = {
  object_type: z.string(),
  object_id: z.string(),
  field: z.string(),
  mirrored: z.unknown(),
  actual: z.unknown(),
}

const organizationRoute = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{id}/reconcile',
  tags: ['Organizations'],
  summary: 'Compare an organization with Stripe, and repair it',
  description:
    'For operators. Answers what differed, by field, after it was put right; nothing, where nothing did. 503 `overloaded` while a change of the organization is under way.',
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: json('What differed.', z.object({ drifts: z.array(z.object(driftFields)) })) },
})

const stateSchema = z
  .object({
    organizations: z.int().meta({ description: 'Those that are at Stripe.' }),
    due: z.int().meta({ description: 'Not compared within the last day, or seen to differ and not refetched yet.' }),
    oldest_comparison: z.iso.datetime().nullable(),
    events_listed_until: z.iso.datetime().nullable().meta({ description: 'Up to then no lost webhook is missing.' }),
    drifts_of_last_day: z.int(),
    run: z
      .object({
        started_at: z.iso.datetime(),
        finished_at: z.iso.datetime().nullable().meta({ description: 'null while it is under way.' }),
        list: z.string().meta({ description: 'Which of Stripe’s lists is read.' }),
        pages: z.int(),
        objects: z.int(),
        suspected: z.int().meta({ description: 'Organizations that were seen to differ, and are refetched whole.' }),
      })
      .nullable()
      .meta({ description: 'The comparison of everything that is under way, else the last one.' }),
  })
  .openapi('Reconciliation')

const stateRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/reconciliation',
  tags: ['Operators'],
  summary: 'How far the comparison with Stripe is',
  description:
    'For operators. Everything is compared once a day by itself; this says how far it has come, and what differed of late.',
  responses: { 200: json('Its state.', stateSchema) },
})

const requestRoute = createRoute({
  method: 'post',
  path: '/api/v1/admin/reconciliation',
  tags: ['Operators'],
  summary: 'Compare everything with Stripe anew',
  description:
    'Also asks for events that no webhook brought. Begins in the background, within Stripe’s limits, and goes on after a crash where it had come to.',
  responses: { 202: json('It begins.', stateSchema) },
})

const driftsRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/drift',
  tags: ['Operators'],
  summary: 'What differed between Stripe and the mirror, and was repaired',
  description: 'For operators: of all organizations, or the one that is named. Page on with the last id as `starting_after`.',
  request: {
    query: z.object({
      organization_id: z.string().max(100).optional(),
      ...pageQuery({ most: 1000, usual: 100 }),
    }),
  },
  responses: {
    200: json(
      'Newest first.',
      z.object({
        drifts: z.array(z.object({ id: z.string(), organization_id: z.string(), ...driftFields, found_at: z.iso.datetime() })),
        has_more: z.boolean(),
      }),
    ),
  },
})

/** Routes of the comparison with Stripe, for operators. `reconcile` wakes the workers. */
export function registerReconcileRoutes(app: App, context: BillingContext, reconcile: () => void): void {
  app.openapi(organizationRoute, async (http) => {
    requireOperator(http.get('principal'))
    const organizationId = http.req.valid('param').id
    await readOrganization(context.db, organizationId)
    const drifts = await reconcileOrganization(context, organizationId)
    if (drifts === null) throw new DomainError('overloaded', 'A change of this organization is under way; please try again.')
    const shown = drifts.map(({ objectType, objectId, field, mirrored, actual }) => ({
      object_type: objectType,
      object_id: objectId,
      field,
      mirrored,
      actual,
    }))
    return http.json({ drifts: shown }, 200)
  })

  app.openapi(stateRoute, async (http) => {
    requireOperator(http.get('principal'))
    return http.json(await showState(context), 200)
  })

  app.openapi(requestRoute, async (http) => {
    requireOperator(http.get('principal'))
    requireGateway(context)
    await requestLook(context, context.db)
    await beginReconciliation(context.db, context.clock.now())
    reconcile()
    return http.json(await showState(context), 202)
  })

  app.openapi(driftsRoute, async (http) => {
    const principal = requireOperator(http.get('principal'))
    const { organization_id: named, limit, starting_after: startingAfter } = http.req.valid('query')
    const organizationId = organizationOrAll(principal, named)
    const last = await findStart(startingAfter, (id) => findDrift(context.db, id))
    const found = await listDrifts(context.db, { organizationId, after: last?.id ?? null, limit: limit + 1 })
    const { page, hasMore } = pageOf(found, limit)
    const shown = page.map((drift) => ({
      id: String(drift.id),
      organization_id: drift.organizationId,
      object_type: drift.objectType,
      object_id: drift.objectId,
      field: drift.field,
      mirrored: drift.mirrored,
      actual: drift.actual,
      found_at: drift.foundAt.toISOString(),
    }))
    return http.json({ drifts: shown, has_more: hasMore }, 200)
  })
}

async function showState({ db, clock }: BillingContext): Promise<z.infer<typeof stateSchema>> {
  const state = await readReconciliation(db, clock.now())
  return {
    organizations: state.organizations,
    due: state.due,
    oldest_comparison: state.oldestComparison?.toISOString() ?? null,
    events_listed_until: state.eventsListedUntil?.toISOString() ?? null,
    drifts_of_last_day: state.driftsOfLastDay,
    run: state.run && {
      started_at: state.run.startedAt.toISOString(),
      finished_at: state.run.finishedAt?.toISOString() ?? null,
      list: state.run.list,
      pages: state.run.pages,
      objects: state.run.objects,
      suspected: state.run.suspected,
    },
  }
}

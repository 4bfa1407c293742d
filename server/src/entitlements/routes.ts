import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, organizationFor, requireOperator, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import { moment } from '../lib/moments.ts'
import type { OverrideContext } from '../standing/overrides.ts'
import { leftOf, overrideFeature, readEntitlements, requireEntitlement } from './actions.ts'
import { entitlementSchema, featureValueSchema, showEntitlement, showEntitlements } from './views.ts'

const ofOrganization = z.object({ organization_id: z.string().optional().meta({ description: 'Only for operators.' }) })
const tags = ['Entitlements']

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/entitlements',
  tags,
  summary: 'What an organization has of each feature',
  description: 'The scope `read`. By its plan, its add-ons and what an operator set, in the order of the present catalog.',
  request: { query: ofOrganization },
  responses: {
    200: json('The entitlements.', z.object({ plan: z.string(), entitlements: z.array(entitlementSchema) })),
  },
})

const oneRoute = createRoute({
  method: 'get',
  path: '/api/v1/entitlements/{feature}',
  tags,
  summary: 'Whether a feature may be used, and what there is of it',
  description: 'The scope `read`. A refusal is an answer; a feature that the catalog does not have is 422.',
  request: { params: z.object({ feature: z.string().max(63) }), query: ofOrganization },
  responses: { 200: json('The answer.', entitlementSchema) },
})

const overrideRoute = createRoute({
  method: 'put',
  path: '/api/v1/admin/organizations/{organization_id}/features/{feature}',
  tags: ['Operators'],
  summary: 'Give or take a feature by hand',
  description:
    'For operators; audited with its reason. It goes before plan and add-ons until it ends or is taken back, which it can be also where no catalog has the feature any more.',
  request: {
    params: z.object({ organization_id: z.string(), feature: z.string().max(63) }),
    body: body(
      z.strictObject({
        value: featureValueSchema
          .nullable()
          .meta({ description: 'false: none of it; null: what plan and add-ons say counts again.' }),
        expires_at: moment.nullish().meta({ description: 'Until when it counts; for good without it.' }),
        reason: z.string().trim().min(1, 'say why').max(1000).meta({ description: 'Why; it is kept in the audit log.' }),
      }),
    ),
  },
  responses: { 200: json('What there is of it now.', entitlementSchema) },
})

export function registerEntitlementRoutes(app: App, context: OverrideContext): void {
  app.openapi(listRoute, async (http) => {
    const organizationId = organizationFor(requireScope(http.get('principal'), 'read'), http.req.valid('query').organization_id)
    const reading = await readEntitlements(context.db, context, organizationId)
    return http.json({ plan: reading.terms.standing.planKey, entitlements: showEntitlements(reading) }, 200)
  })
  app.openapi(oneRoute, async (http) => {
    const organizationId = organizationFor(requireScope(http.get('principal'), 'read'), http.req.valid('query').organization_id)
    const reading = await readEntitlements(context.db, context, organizationId)
    return http.json(showEntitlement(reading, requireEntitlement(reading, http.req.valid('param').feature)), 200)
  })
  app.openapi(overrideRoute, async (http) => {
    const principal = requireOperator(http.get('principal'))
    const { organization_id: organizationId, feature: featureKey } = http.req.valid('param')
    const { value: wanted, expires_at: end, reason } = http.req.valid('json')
    const request = { organizationId, featureKey, value: wanted, endsAt: end ? new Date(end) : null, reason }
    const asker = { actor: actorOf(principal), requestId: http.get('requestId') }
    const reading = await overrideFeature(context, request, asker)
    return http.json(showEntitlement(reading, leftOf(reading, featureKey)), 200)
  })
}

import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { passGate, type GateContext } from './gate.ts'

const route = createRoute({
  method: 'post',
  path: '/api/v1/billing/gate',
  tags: ['Billing'],
  summary: 'Whether trial or subscription permit an activity',
  description:
    'For what is not metered but reserved to those who try or pay (MR-13). A refusal is an answer, as for a check: a host passes `detail` on with 402. It is logged as `billing.blocked`.',
  request: {
    body: {
      required: false,
      content: {
        'application/json': {
          schema: z.object({
            organization_id: z.string().max(100).optional().meta({ description: 'For operators: which organization.' }),
            activity: z
              .string()
              .regex(/^[a-z][a-z ]{0,39}$/, 'a word or two in lower case are expected')
              .default('ingestion')
              .meta({ description: 'For the sentence.' }),
            workspace_id: z.string().max(100).optional().meta({ description: 'For the log.' }),
            user: z.string().max(200).optional().meta({ description: 'For the log: who asked the host.' }),
          }),
        },
      },
    },
  },
  responses: {
    200: {
      description: 'The answer.',
      content: {
        'application/json': {
          schema: z
            .object({
              allowed: z.boolean(),
              billing_status: z.string(),
              detail: z.string().nullable().meta({ description: 'Why not.' }),
              until: z.iso.datetime().nullable(),
            })
            .openapi('GateAnswer'),
        },
      },
    },
  },
})

export function registerGateRoutes(app: App, context: GateContext): void {
  app.openapi(route, async (http) => {
    const principal = requireScope(http.get('principal'), 'read')
    const body = http.req.valid('json')
    const answer = await passGate(context, {
      organizationId: organizationFor(principal, body.organization_id),
      activity: body.activity,
      workspaceId: body.workspace_id ?? null,
      user: body.user ?? actorOf(principal),
      requestId: http.get('requestId'),
    })
    return http.json(
      {
        allowed: answer.allowed,
        billing_status: answer.billingStatus,
        detail: answer.detail,
        until: answer.until?.toISOString() ?? null,
      },
      200,
    )
  })
}

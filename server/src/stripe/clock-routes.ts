import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { moment } from '../lib/moments.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from './context.ts'
import { advanceTestClock, type ClockMove } from './test-clock.ts'

const body = z
  .strictObject({
    by: z.string().optional().openapi({ description: 'How far, e.g. 31d, 12h, 90m; ten years at most.', example: '31d' }),
    to: moment.optional().openapi({ description: 'Until when; ten years at most from where it stands.' }),
  })
  .openapi('ClockMove')

const answer = z
  .object({
    organization_id: z.string(),
    test_clock_id: z.string(),
    now: z.iso.datetime(),
    plan: z.string(),
    subscription_status: z.string().nullable(),
    current_period_start: z.iso.datetime().nullable(),
    current_period_end: z.iso.datetime().nullable(),
  })
  .openapi('MovedClock')

const advance = createRoute({
  method: 'post',
  path: '/api/v1/organizations/{organization_id}/clock/advance',
  summary: 'Move the test clock of an organization (operator)',
  description: 'Answers when everything that follows from the move has been handled.',
  tags: ['Organizations'],
  request: {
    params: z.object({ organization_id: z.string() }),
    body: { required: true, content: { 'application/json': { schema: body } } },
  },
  responses: { 200: { description: 'Where the organization stands now.', content: { 'application/json': { schema: answer } } } },
})

/** The operator's route that moves an organization's time. */
export function registerClockRoutes(app: App, context: BillingContext): void {
  app.openapi(advance, async (c) => {
    requireOperator(c.get('principal'))
    const { organizationId, testClockId, now, account } = await advanceTestClock(
      context,
      c.req.valid('param').organization_id,
      moveOf(c.req.valid('json')),
    )
    return c.json(
      {
        organization_id: organizationId,
        test_clock_id: testClockId,
        now: now.toISOString(),
        plan: account.planKey,
        subscription_status: account.subscriptionStatus,
        current_period_start: account.currentPeriodStart?.toISOString() ?? null,
        current_period_end: account.currentPeriodEnd?.toISOString() ?? null,
      },
      200,
    )
  })
}

function moveOf({ by, to }: z.infer<typeof body>): ClockMove {
  if (by !== undefined && to === undefined) return { by }
  if (to !== undefined && by === undefined) return { to: new Date(to) }
  throw new DomainError('invalid_request', 'Say either how far (by) or until when (to).', { field: 'by' })
}

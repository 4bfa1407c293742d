import { createRoute, z } from '@hono/zod-openapi'
import type { App } from '../../http/app.ts'
import { json } from '../../http/route-schemas.ts'
import type { BillingContext } from '../context.ts'
import { receiveWebhook } from './intake.ts'
import { WEBHOOK_PATHS } from '../../http/webhook-paths.ts'

const webhookRoute = (path: string) =>
  createRoute({
    method: 'post',
    path,
    tags: ['Webhooks'],
    summary: 'Take in an event of Stripe',
    description:
      'Authenticated by the signature alone. Stored first, handled afterwards; an event that came before changes nothing.',
    security: [],
    request: {
      headers: z.object({ 'stripe-signature': z.string().optional() }),
      body: { required: true, content: { 'application/json': { schema: z.object({}).loose() } } },
    },
    responses: { 200: json('It is stored.', z.object({ received: z.literal(true) })) },
  })

/** The webhook, under each of its paths. `kick` wakes the worker. */
export function registerWebhookRoutes(app: App, context: BillingContext, kick: () => void): void {
  for (const path of WEBHOOK_PATHS) registerWebhook(app, context, path, kick)
}

function registerWebhook(app: App, context: BillingContext, path: string, kick: () => void): void {
  const route = webhookRoute(path)
  app.openAPIRegistry.registerPath(route)
  // Not through the validating handler: the signature is over the body byte for byte, whatever its type says it is.
  app.post(path, async (http) => {
    const rawBody = Buffer.from(await http.req.arrayBuffer())
    if (await receiveWebhook(context, rawBody, http.req.header('stripe-signature'))) kick()
    return http.json({ received: true as const }, 200)
  })
}

import type { IncomingMessage } from 'node:http'
import type { Logger } from 'pino'
import { MAX_BODY_BYTES, requestIdOf } from '../http/app.ts'
import { readBody, replyOfError, sendReply, type Reply } from '../http/bare.ts'
import type { PreHandler } from '../http/serve.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from './context.ts'
import { receiveWebhook } from './intake.ts'
import { WEBHOOK_PATHS } from './webhook-paths.ts'

export type WebhookHotPathOptions = {
  readonly context: BillingContext
  /** Wakes the worker. */
  readonly kick: () => void
  readonly log: Logger
  readonly onAnswered?: (answered: { method: string; route: string; status: number; seconds: number }) => void
}

/** By the path as it is asked for, also the older one, the route that it is counted as. */
const ROUTES: ReadonlyMap<string, string> = new Map(
  WEBHOOK_PATHS.flatMap((path) => [
    [path, path],
    [path.replace('/api/v1/', '/api/'), path],
  ]),
)

const RECEIVED: Reply = { status: 200, headers: {}, body: '{"received":true}' }

/**
 * Takes webhooks in on bare `node:http`: the same contract as the route in `webhook-routes.ts`. A month's renewals arrive by the
 * thousand, and Stripe puts off an invoice whose webhook is not answered.
 */
export function createWebhookHotPath({ context, kick, log, onAnswered }: WebhookHotPathOptions): PreHandler {
  async function answer(request: IncomingMessage, body: Buffer | null, requestId: string): Promise<Reply> {
    try {
      if (body === null) throw new DomainError('payload_too_large', `A request has at most ${MAX_BODY_BYTES} bytes.`)
      const signature = request.headers['stripe-signature']
      if (await receiveWebhook(context, body, typeof signature === 'string' ? signature : undefined)) kick()
      return RECEIVED
    } catch (error) {
      return replyOfError(error, { log, requestId, path: request.url })
    }
  }

  return (request, response) => {
    const route = request.method === 'POST' ? ROUTES.get(request.url ?? '') : undefined
    // Without a signature, or packed, it is not Stripe: the app says what is wrong.
    if (route === undefined || !('stripe-signature' in request.headers) || 'content-encoding' in request.headers) return false
    const began = performance.now()
    const requestId = requestIdOf(request.headers['x-request-id'])
    readBody(request, (body) => {
      void answer(request, body, requestId).then((reply) => {
        sendReply(response, requestId, reply)
        onAnswered?.({ method: 'POST', route, status: reply.status, seconds: (performance.now() - began) / 1_000 })
      })
    })
    return true
  }
}

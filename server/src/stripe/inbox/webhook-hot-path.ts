import type { Logger } from 'pino'
import { MAX_BODY_BYTES, requestIdOf } from '../../http/app.ts'
import { readBody, replyOfError, sendReply, singleHeader, type Reply } from '../../http/bare.ts'
import type { PlainHandler } from '../../http/plain-connections.ts'
import type { PreHandler } from '../../http/serve.ts'
import { DomainError } from '../../lib/errors.ts'
import type { BillingContext } from '../context.ts'
import { receiveWebhook } from './intake.ts'
import { WEBHOOK_PATHS } from '../../http/webhook-paths.ts'

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

export type WebhookHotPath = {
  /** On `node:http`. */
  readonly preHandler: PreHandler
  /** Before `node:http`, for requests in their plainest form. */
  readonly plainHandler: PlainHandler
}

type Asking = { readonly method: string | undefined; readonly url: string | undefined; readonly requestId: string | null }
type Send = (requestId: string, reply: Reply) => void

/**
 * Takes webhooks in without the app: the same contract as the route in `webhook-routes.ts`. A month's renewals arrive by the
 * thousand, and Stripe puts off an invoice whose webhook is not answered.
 */
export function createWebhookHotPath({ context, kick, log, onAnswered }: WebhookHotPathOptions): WebhookHotPath {
  async function answer(
    body: Buffer | null,
    signature: string | null,
    said: { requestId: string; path: string },
  ): Promise<Reply> {
    try {
      if (body === null) throw new DomainError('payload_too_large', `A request has at most ${MAX_BODY_BYTES} bytes.`)
      if (await receiveWebhook(context, body, signature ?? undefined)) kick()
      return RECEIVED
    } catch (error) {
      return replyOfError(error, { log, ...said })
    }
  }

  /** null for what is the app's. */
  function takerOf({ method, url = '', requestId: given }: Asking) {
    const route = method === 'POST' ? ROUTES.get(url) : undefined
    if (route === undefined) return null
    const began = performance.now()
    const requestId = requestIdOf(given)
    return (body: Buffer | null, signature: string | null, send: Send): void => {
      void answer(body, signature, { requestId, path: url }).then((reply) => {
        send(requestId, reply)
        onAnswered?.({ method: 'POST', route, status: reply.status, seconds: (performance.now() - began) / 1_000 })
      })
    }
  }

  return {
    preHandler(request, response) {
      const { method, url, headers } = request
      // Without a signature, or packed, it is not Stripe: the app says what is wrong.
      if (!('stripe-signature' in headers) || 'content-encoding' in headers) return false
      const take = takerOf({ method, url, requestId: singleHeader(headers['x-request-id']) })
      if (take === null) return false
      const signature = singleHeader(headers['stripe-signature'])
      readBody(request, (body) => take(body, signature, (requestId, reply) => sendReply(response, requestId, reply)))
      return true
    },
    plainHandler({ method, url, headers, body }, send) {
      const signature = headers.get('stripe-signature')
      if (signature === undefined) return false
      const take = takerOf({ method, url, requestId: headers.get('x-request-id') ?? null })
      if (take === null) return false
      take(body, signature, send)
      return true
    },
  }
}

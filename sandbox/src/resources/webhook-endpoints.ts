import { updated } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { list } from '../engine/lists.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import { operation, presenter, type Module } from '../engine/module.ts'
import type { Stored } from '../model/stored.ts'
import { loadSpec } from '../engine/spec.ts'

/** A webhook endpoint that is there from the start. */
export interface EndpointSettings {
  readonly url: string
  /** `whsec_…`; made up when absent. */
  readonly secret?: string
  /** `['*']` unless told. */
  readonly enabledEvents?: readonly string[]
  readonly description?: string
}

/** Adds an endpoint. Used by the API and by the sandbox's own start-up. */
export function createEndpoint(
  ctx: Ctx,
  settings: EndpointSettings & { apiVersion?: string | null; metadata?: Record<string, string> },
): Stored<'webhook_endpoint'> {
  return ctx.create('webhook_endpoint', {
    id: ctx.newId('we', 24),
    object: 'webhook_endpoint',
    api_version: settings.apiVersion ?? null,
    application: null,
    created: ctx.now(),
    description: settings.description ?? null,
    enabled_events: [...(settings.enabledEvents ?? ['*'])],
    livemode: false,
    metadata: settings.metadata ?? {},
    status: 'enabled',
    url: checkedUrl(settings.url),
    _: { secret: settings.secret ?? `whsec_${ctx.token(32)}`, previousSecret: null },
  })
}

/**
 * Gives an endpoint a new secret; the old one signs as well for `overlapSeconds` of real time (Stripe: up to 24 h), so deliveries carry
 * two `v1`. Returns the new secret. Stripe does this in its dashboard; here it is `POST /_sandbox/webhook_endpoints/{id}/roll_secret`.
 */
export function rollSecret(
  ctx: Ctx,
  id: string,
  options: { overlapSeconds: number; realSeconds: number; secret?: string },
): string {
  const endpoint = ctx.require('webhook_endpoint', id)
  const secret = options.secret ?? `whsec_${ctx.token(32)}`
  const previousSecret = { secret: endpoint._.secret, until: options.realSeconds + options.overlapSeconds }
  ctx.update('webhook_endpoint', id, { _: { secret, previousSecret } })
  return secret
}

function checkedUrl(url: string): string {
  if (/^https?:\/\/[^\s/]+/.test(url)) return url
  throw invalidRequest('Invalid URL: An explicit scheme (such as https) must be provided.', { param: 'url', code: 'url_invalid' })
}

const operations = [
  operation({
    on: 'POST /v1/webhook_endpoints',
    takes: ['api_version', 'description', 'enabled_events', 'metadata', 'url', 'connect'],
    run: (ctx, params) => {
      const endpoint = createEndpoint(ctx, {
        url: params.url,
        enabledEvents: params.enabled_events,
        apiVersion: params.api_version ?? loadSpec().version,
        metadata: mergeMetadata({}, params.metadata),
        ...(params.description === undefined || params.description === '' ? {} : { description: params.description }),
      })
      // The secret is shown once, here.
      return { ...ctx.present(endpoint), secret: endpoint._.secret }
    },
  }),
  operation({
    on: 'POST /v1/webhook_endpoints/{id}',
    takes: ['description', 'disabled', 'enabled_events', 'metadata', 'url'],
    run: (ctx, params, { id }) => {
      const old = ctx.require('webhook_endpoint', id)
      return ctx.update('webhook_endpoint', id, {
        description: updated(old.description, params.description),
        enabled_events: params.enabled_events ?? old.enabled_events,
        metadata: mergeMetadata(old.metadata, params.metadata),
        status: params.disabled === undefined ? old.status : params.disabled ? 'disabled' : 'enabled',
        url: params.url === undefined ? old.url : checkedUrl(params.url),
      })
    },
  }),
  operation({
    on: 'GET /v1/webhook_endpoints/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('webhook_endpoint', id),
  }),
  operation({
    on: 'GET /v1/webhook_endpoints',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params) => list(ctx, 'webhook_endpoint', params, { url: '/v1/webhook_endpoints' }),
  }),
  operation({
    on: 'DELETE /v1/webhook_endpoints/{id}',
    takes: [],
    run: (ctx, _params, { id }) => {
      ctx.require('webhook_endpoint', id)
      ctx.delete('webhook_endpoint', id)
      return { id, object: 'webhook_endpoint', deleted: true }
    },
  }),
]

export const webhookEndpointsModule: Module = { operations, presenters: [presenter('webhook_endpoint', {})] }

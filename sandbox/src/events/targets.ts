import type { Ctx } from '../engine/context.ts'
import type { RolledSecret } from '../model/core.ts'
import type { Stored } from '../model/stored.ts'

/** Where events are sent: a webhook endpoint of the API's first generation, or an event destination of its second. */
export interface Target {
  readonly id: string
  readonly url: string
  readonly secret: string
  readonly previousSecret: RolledSecret | null
  readonly isEnabled: boolean
  readonly enabledEvents: readonly string[]
  /** `snapshot` events carry the object, `thin` ones only name it. */
  readonly payload: 'snapshot' | 'thin'
}

/** Every target, in the order of creation. */
export function allTargets(ctx: Ctx): Target[] {
  const targets: Target[] = []
  for (const endpoint of ctx.store.all('webhook_endpoint')) targets.push(endpointTarget(endpoint))
  for (const destination of ctx.store.all('v2.core.event_destination')) targets.push(destinationTarget(destination))
  return targets
}

/** The target with this id, or null when it is gone. */
export function findTarget(ctx: Ctx, id: string): Target | null {
  const endpoint = ctx.get('webhook_endpoint', id)
  if (endpoint !== undefined) return endpointTarget(endpoint)
  const destination = ctx.get('v2.core.event_destination', id)
  return destination === undefined ? null : destinationTarget(destination)
}

/** The targets that want this event. `*` means every event. */
export function listeners(ctx: Ctx, type: string, payload: Target['payload']): Target[] {
  return allTargets(ctx).filter(
    (target) =>
      target.isEnabled &&
      target.payload === payload &&
      (target.enabledEvents.includes(type) || target.enabledEvents.includes('*')),
  )
}

function endpointTarget(endpoint: Stored<'webhook_endpoint'>): Target {
  return {
    id: endpoint.id,
    url: endpoint.url,
    secret: endpoint._.secret,
    previousSecret: endpoint._.previousSecret,
    isEnabled: endpoint.status === 'enabled',
    enabledEvents: endpoint.enabled_events,
    payload: 'snapshot',
  }
}

function destinationTarget(destination: Stored<'v2.core.event_destination'>): Target {
  return {
    id: destination.id,
    url: destination.webhook_endpoint.url,
    secret: destination._.secret,
    previousSecret: destination._.previousSecret,
    isEnabled: destination.status === 'enabled',
    enabledEvents: destination.enabled_events,
    payload: destination.event_payload,
  }
}

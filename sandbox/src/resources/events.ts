import { list } from '../engine/lists.ts'
import { operation, type Module } from '../engine/module.ts'
import { noSuch } from '../engine/errors.ts'

const WINDOW_SECONDS = 30 * 86_400

/** `customer.*` and `*` in the filter of the list of events. */
function matches(pattern: string, type: string): boolean {
  return pattern === type || pattern === '*' || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)))
}

const operations = [
  operation({
    on: 'GET /v1/events',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'type', 'types', 'delivery_success'],
    run: (ctx, params) => {
      const since = ctx.now() - WINDOW_SECONDS
      const patterns = params.types ?? (params.type === undefined ? ['*'] : [params.type])
      return list(ctx, 'event', params, {
        url: '/v1/events',
        where: (event) =>
          (event.created >= since || event._.customer !== null) &&
          patterns.some((pattern) => matches(pattern, event.type)) &&
          (params.delivery_success === undefined || (event.pending_webhooks === 0) === params.delivery_success),
      })
    },
  }),
  operation({
    on: 'GET /v1/events/{id}',
    takes: [],
    run: (ctx, _params, { id }) => {
      const event = ctx.get('event', id)
      if (event === undefined) throw noSuch('event', id)
      return event
    },
  }),
]

export const eventsModule: Module = { operations }

import { createCallCounter, createCoalescingClient, createMemoryQueue, createTollgateClient } from '@tollgate/sdk'
import { tryEverything } from './everything.ts'

type Env = { readonly TOLLGATE_URL: string; readonly TOLLGATE_KEY: string; readonly ORGANIZATION: string }
type Context = { waitUntil(work: Promise<unknown>): void }

const meter = 'episode_search'
let shared: ReturnType<typeof share> | undefined

/** What all requests of a Worker may share: the client, and a counter. */
function share({ TOLLGATE_URL: url, TOLLGATE_KEY: apiKey }: Env) {
  const client = createTollgateClient({ url, apiKey })
  return { client, counter: createCallCounter({ client, meter }) }
}

const routes: Readonly<Record<string, (env: Env, context: Context) => Promise<unknown>>> = {
  '/everything': (env) =>
    tryEverything({
      url: env.TOLLGATE_URL,
      apiKey: env.TOLLGATE_KEY,
      organizationId: env.ORGANIZATION,
      queue: createMemoryQueue(),
    }),
  '/shared': async (env) => (await (shared ??= share(env)).client.consume({ meter })).allowed,
  // Of a request's own: one request of a Worker cannot wait for what another one asked for.
  '/coalesced': async (env) => {
    const many = createCoalescingClient((shared ??= share(env)).client)
    return (await Promise.all([many.consume({ meter }), many.consume({ meter })])).every(({ allowed }) => allowed)
  },
  '/counted': async (env, context) => {
    const { counter } = (shared ??= share(env))
    const url = new URL(`http://app/?tenant_id=${env.ORGANIZATION}`)
    const isCounted = counter.count({ url, headers: new Headers() })
    context.waitUntil(counter.flush())
    return isCounted
  },
}

export default {
  async fetch(request: Request, env: Env, context: Context): Promise<Response> {
    return Response.json(await routes[new URL(request.url).pathname]!(env, context))
  },
}

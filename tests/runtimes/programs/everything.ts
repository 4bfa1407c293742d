import {
  createCallCounter,
  createCoalescingClient,
  createRecorders,
  createResilientClient,
  createTollgateClient,
  TollgateError,
  TollgateUnreachableError,
  type LocalQueue,
} from '@tollgate/sdk'
import { meterHandler, requireStanding } from '@tollgate/sdk/fetch'

export type Place = { readonly url: string; readonly apiKey: string; readonly organizationId: string; readonly queue: LocalQueue }

const meter = 'episode_search'

/** All that the SDK has without a framework, on whatever runs it; answers what each part came to. */
export async function tryEverything({ url, apiKey, organizationId, queue }: Place): Promise<Record<string, unknown>> {
  const client = createTollgateClient({ url, apiKey })
  return {
    check: (await client.check({ meter })).allowed,
    repeat: await consumeTwice(client),
    track: (await client.track({ meter, quantity: '0.5' })).allowed,
    reserve: await reserveAndSettle(client),
    batch: (await client.batch([1, 2, 3].map(() => ({ verb: 'consume', meter, quantity: 1 })))).map(
      (result) => !('error' in result),
    ),
    refused: await client.consume({ meter: 'nothing' }).catch((error: unknown) => error instanceof TollgateError && error.status),
    coalesced: await coalesce(client),
    away: await createTollgateClient({ url: 'http://127.0.0.1:9', apiKey, deadlineMs: 500 })
      .consume({ meter })
      .catch((error: unknown) => error instanceof TollgateUnreachableError),
    letThrough: await letThrough(url, apiKey, queue),
    handler: await answerOf(meterHandler({ client: () => client, meter }, () => Response.json({ found: 1 }))),
    stream: await answerOf(
      meterHandler(
        { client: () => client, meter, quantity: 2, streams: true, settleQuantity: () => 1 },
        () => new Response(streamOf('a', 'b')),
      ),
    ),
    standing: (await requireStanding({ client: () => client }, () => new Response('in'))(new Request('http://app/'))).status,
    recorders: Object.keys(createRecorders(client)),
    counted: await count(client, organizationId),
  }
}

type Client = ReturnType<typeof createTollgateClient>

async function consumeTwice(client: Client): Promise<unknown> {
  const idempotencyKey = crypto.randomUUID()
  const [first, again] = [await client.consume({ meter, idempotencyKey }), await client.consume({ meter, idempotencyKey })]
  return [first.allowed, first.total_credits_used === again.total_credits_used]
}

async function reserveAndSettle(client: Client): Promise<unknown> {
  const held = await client.reserve({ meter, quantity: 2 })
  if (held.reservation_id === undefined) return held
  return (await client.settle(held.reservation_id, { quantity: 1 })).allowed
}

async function coalesce(client: Client): Promise<number> {
  const many = createCoalescingClient(client)
  const answers = await Promise.all(Array.from({ length: 50 }, () => many.consume({ meter })))
  return answers.filter(({ allowed }) => allowed).length
}

/** A use that is let through while nobody answers, and counted when somebody does. */
async function letThrough(url: string, apiKey: string, queue: LocalQueue): Promise<unknown> {
  let isAway = true
  const away: typeof fetch = async (input, init) => {
    if (isAway) throw new TypeError('away')
    return fetch(input, init)
  }
  const client = createTollgateClient({ url, apiKey, fetch: away, retries: 0, awayMs: 0 })
  const resilient = createResilientClient(client, { whenUnreachable: 'open', queue })
  const idempotencyKey = crypto.randomUUID()
  const { allowed } = await resilient.consume({ meter, idempotencyKey })
  const waited = (await queue.list()).length
  isAway = false
  return [allowed, waited, await resilient.replay(), (await client.consume({ meter, idempotencyKey })).allowed]
}

async function answerOf(handler: (request: Request) => Promise<Response>): Promise<unknown> {
  const answer = await handler(new Request('http://app/search', { method: 'POST' }))
  return [answer.status, answer.headers.get('x-credits-total'), await answer.text()]
}

function streamOf(...texts: readonly string[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  return new ReadableStream({
    start(controller) {
      for (const text of texts) controller.enqueue(encoder.encode(text))
      controller.close()
    },
  })
}

async function count(client: Client, organizationId: string): Promise<unknown> {
  const dropped: unknown[] = []
  const counter = createCallCounter({ client, meter, onDropped: (calls) => dropped.push(calls) })
  const isCounted = counter.count({ url: new URL(`http://app/?tenant_id=${organizationId}`), headers: new Headers() })
  await counter.flush()
  await counter.stop()
  return [isCounted, dropped]
}

import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import express from 'express'
import { fastify, type FastifyReply, type FastifyRequest } from 'fastify'
import { Hono } from 'hono'
import { afterEach, describe, expect, it } from 'vitest'
import { TollgateError, TollgateUnreachableError } from './errors.ts'
import { meterRoute as expressMeter } from './express.ts'
import { meterRoute as fastifyMeter } from './fastify.ts'
import { meterHandler } from './fetch.ts'
import { meterRoute as honoMeter } from './hono.ts'
import type { MeteredTerms } from './metered-call.ts'
import { createTollgateClient, type BalanceAnswer, type QuantityInput, type UsageAnswer, type UsageClient } from './usage.ts'

/** A server with one balance of 100: holds, settles and releases, and refuses what is no quantity. */
function createPeer() {
  const said: string[] = []
  let used = 0
  let held = 0
  const answer = (): UsageAnswer & { readonly balance: BalanceAnswer } => {
    const remaining = 100 - used - held
    const about = { balance: 'credits', unit: 'credit', plan: 'free', period_start: null, period_end: null }
    return {
      allowed: true,
      balance: { ...about, amount: 100, used, remaining, overage: 0, reserved: held },
      credits_used: 0,
      total_credits_used: used,
      quota_remaining: remaining,
      quota_exceeded: false,
    }
  }
  const client: UsageClient = {
    ...createTollgateClient({ url: 'http://127.0.0.1:9', apiKey: 'tg_key', retries: 0 }),
    async reserve({ quantity }) {
      held += Number(quantity)
      return { ...answer(), reservation_id: String(quantity) }
    },
    async settle(id, { quantity = id } = {}) {
      const number = Number(quantity)
      if (Number.isNaN(number)) throw new TollgateError(422, { title: 'no', code: 'invalid_quantity' })
      said.push(`settle ${quantity}`)
      used += number
      held -= Number(id)
      return answer()
    },
    async release(id) {
      said.push('release')
      held -= Number(id)
      return answer()
    },
  }
  return { client, said }
}

type Metered = MeteredTerms & {
  readonly client: () => UsageClient
  readonly quantity: QuantityInput
  readonly settleQuantity: () => QuantityInput | undefined
}
type Reply = { readonly status: number; readonly body: string | Readable }

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function listen(server: Server): Promise<string> {
  servers.push(server)
  if (!server.listening) await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A host of each framework, with one metered route that answers what it is given. Those of the web are asked without a socket. */
const hosts: Readonly<
  Record<string, (options: Metered, reply: () => Reply) => Promise<(signal?: AbortSignal) => Promise<Response>>>
> = {
  async hono(options, reply) {
    const app = new Hono()
      .use(honoMeter({ ...options, streams: reply().body instanceof Readable }))
      .get('/', () => webAnswer(reply()))
    return async () => app.request('/')
  },
  async 'fetch handlers'(options, reply) {
    const handler = meterHandler({ ...options, streams: reply().body instanceof Readable }, () => webAnswer(reply()))
    return () => handler(new Request('http://host/'))
  },
  async express(options, reply) {
    const app = express().get('/', expressMeter<express.Request, express.Response>(options), (_request, response) => {
      const { status, body } = reply()
      response.status(status)
      if (typeof body === 'string') response.send(body)
      else body.pipe(response)
    })
    const url = await listen(app.listen(0, '127.0.0.1'))
    return (signal) => fetch(url, { redirect: 'manual', signal: signal ?? null })
  },
  async fastify(options, reply) {
    const app = fastify()
    app.get('/', { ...fastifyMeter<FastifyRequest, FastifyReply>(options) }, (_request, answer) => {
      const { status, body } = reply()
      return answer.code(status).send(body)
    })
    await app.ready()
    const url = await listen(app.server.listen(0, '127.0.0.1'))
    return (signal) => fetch(url, { redirect: 'manual', signal: signal ?? null })
  },
}

function webAnswer({ status, body }: Reply): Response {
  const text = body === '' ? null : body
  return new Response(text instanceof Readable ? (Readable.toWeb(text) as ReadableStream) : text, { status })
}

const used = ({ headers }: Response) => ['used', 'remaining'].map((name) => headers.get(`x-credits-${name}`))

/** Waits for what happens after the caller has gone. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
  }
}

describe.each(Object.keys(hosts))('a route metered in %s', (name) => {
  function meter(reply: () => Reply, options: Partial<Metered> = {}) {
    const { client, said } = createPeer()
    const errors: unknown[] = []
    const onError = (error: unknown) => errors.push(error)
    const terms = { client: () => client, meter: 'tokens', quantity: 40, settleQuantity: () => 12, onError, ...options }
    return { said, errors, host: hosts[name]!(terms, reply) }
  }

  it.each([200, 201, 303, 304])('records an answer with %i, and says how much is left after it (EM-5)', async (status) => {
    const { said, host } = meter(() => ({ status, body: status === 304 ? '' : 'done' }))
    const answer = await (await host)()
    expect(answer.status).toBe(status)
    expect(said).toEqual(['settle 12'])
    expect(used(answer)).toEqual(['12', '88'])
  })

  it.each([400, 404, 500])('gives everything back of an answer with %i, and says so (EM-5)', async (status) => {
    const { said, host } = meter(() => ({ status, body: 'no' }))
    const answer = await (await host)()
    expect(answer.status).toBe(status)
    expect(said).toEqual(['release'])
    expect(used(answer)).toEqual(['0', '100'])
  })

  it('records what was held where what it came to cannot be read, or is no quantity, and tells it', async () => {
    const unreadable = () => {
      throw new Error('no usage in the answer')
    }
    for (const settleQuantity of [unreadable, () => 'many']) {
      const { said, errors, host } = meter(() => ({ status: 200, body: 'done' }), { settleQuantity })
      const answer = await (await host)()
      expect([answer.status, await answer.text()]).toEqual([200, 'done'])
      expect(said).toEqual(['settle 40'])
      expect(errors).toHaveLength(1)
    }
  })

  it('answers a failure also where the hold cannot be given back: it ends by itself', async () => {
    const away = async () => {
      throw new TollgateUnreachableError('no answer')
    }
    const { client } = createPeer()
    const { errors, host } = meter(() => ({ status: 404, body: 'no' }), { client: () => ({ ...client, release: away }) })
    expect((await (await host)()).status).toBe(404)
    expect(errors).toHaveLength(1)
  })

  it('records a stream by what it had come to when it ended', async () => {
    let made = 0
    const tokens = Readable.from(
      (async function* () {
        for (; made < 7; made += 1) yield Buffer.from('token ')
      })(),
    )
    const { said, host } = meter(() => ({ status: 200, body: tokens }), { settleQuantity: () => made })
    expect(await (await (await host)()).text()).toBe('token '.repeat(7))
    await until(() => said.length > 0)
    expect(said).toEqual(['settle 7'])
  })

  it('records a stream that the caller cuts off by what it had come to', async () => {
    const tokens = new PassThrough()
    const { said, host } = meter(() => ({ status: 200, body: tokens }), { settleQuantity: () => 5 })
    tokens.write('token')
    const cut = new AbortController()
    const answer = await (await host)(cut.signal)
    const reader = answer.body!.getReader()
    expect(new TextDecoder().decode((await reader.read()).value)).toBe('token')
    expect(said).toEqual([])
    if (name === 'express' || name === 'fastify') cut.abort()
    await reader.cancel().catch(() => undefined)
    await until(() => said.length > 0)
    expect(said).toEqual(['settle 5'])
  })
})

describe.each(['hono', 'fetch handlers'])('a stream of a route metered in %s', (name) => {
  /** A stream that never ends and that nobody reads. */
  function unread(init: RequestInit) {
    const { client, said } = createPeer()
    let cancelled = false
    const body = new ReadableStream({ cancel: () => void (cancelled = true) })
    const options = { client: () => client, meter: 'tokens', quantity: 40, streams: true, settleQuantity: () => 5 }
    const request = new Request('http://host/', init)
    const handler = meterHandler(options, () => new Response(body))
    const app = new Hono().use(honoMeter(options)).get('/', () => new Response(body))
    return { said, isCancelled: () => cancelled, answer: async () => (name === 'hono' ? app.request(request) : handler(request)) }
  }

  it('is recorded by what it had come to where the caller hangs up before anybody reads it', async () => {
    const gone = new AbortController()
    const { said, isCancelled, answer } = unread({ signal: gone.signal })
    await answer()
    expect(said).toEqual([])
    gone.abort()
    await until(() => said.length > 0)
    expect([said, isCancelled()]).toEqual([['settle 5'], true])
  })

  it('is recorded where the caller has hung up before the answer begins', async () => {
    const { said, isCancelled, answer } = unread({ signal: AbortSignal.abort() })
    await answer()
    await until(() => said.length > 0)
    expect([said, isCancelled()]).toEqual([['settle 5'], true])
  })

  it('is recorded at once where the request is a HEAD, whose answer has no body', async () => {
    const { said, answer } = unread({ method: 'HEAD' })
    expect(used(await answer())).toEqual(['5', '95'])
    expect(said).toEqual(['settle 5'])
  })
})

describe('an Express route whose caller hangs up before the answer begins', () => {
  async function hangUp(answer: (response: express.Response) => void) {
    const { client, said } = createPeer()
    const begun = Promise.withResolvers<express.Response>()
    const metered = expressMeter<express.Request, express.Response>({ client: () => client, meter: 'tokens', quantity: 40 })
    const app = express().get('/', metered, (_request, response) => begun.resolve(response))
    const request = get(await listen(createServer(app).listen(0, '127.0.0.1')))
    request.on('error', () => undefined)
    request.on('response', (message: IncomingMessage) => message.resume())
    const response = await begun.promise
    const closed = once(response, 'close')
    request.destroy()
    await closed
    expect(said).toEqual([])
    answer(response)
    await until(() => said.length > 0)
    return said
  }

  it('is recorded by what its handler answers', async () => {
    expect(await hangUp((response) => void response.json({ done: true }))).toEqual(['settle 40'])
    expect(await hangUp((response) => void response.status(500).json({ done: false }))).toEqual(['release'])
  })

  it('is recorded when its stream begins, since no end of it comes', async () => {
    expect(await hangUp((response) => void Readable.from(['token']).pipe(response))).toEqual(['settle 40'])
  })
})

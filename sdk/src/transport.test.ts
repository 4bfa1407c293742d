import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { TollgateError, TollgateUnreachableError } from './errors.ts'
import { createTollgateClient, type UsageClient } from './usage.ts'

const servers: Server[] = []

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

type Received = { readonly path: string; readonly authorization: string | undefined; readonly body: Record<string, unknown> }

/** A peer that answers each request by the next of these, the last one for ever. */
async function startPeer(
  answers: readonly ((response: ServerResponse) => void)[],
): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    void readBody(request).then((body) => {
      received.push({ path: request.url ?? '', authorization: request.headers.authorization, body })
      answers[Math.min(received.length, answers.length) - 1]!(response)
    })
  }).listen(0, '127.0.0.1')
  servers.push(server)
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('A TCP port was expected.')
  return { url: `http://127.0.0.1:${address.port}`, received }
}

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
}

const json = (status: number, body: unknown) => (response: ServerResponse) => {
  response.writeHead(status, { 'content-type': 'application/json', 'retry-after': '0' }).end(JSON.stringify(body))
}
const hangUp = (response: ServerResponse): void => void response.destroy()
const allowed = json(200, { allowed: true })

describe('the client', () => {
  it('repeats a write that had no answer, with the same idempotency key', async () => {
    const { url, received } = await startPeer([hangUp, json(503, {}), allowed])
    const client = createTollgateClient({ url, apiKey: 'tg_key' })
    expect(await client.consume({ meter: 'search', quantity: '0.1' })).toEqual({ allowed: true })
    expect(received).toHaveLength(3)
    expect(new Set(received.map((request) => request.body['idempotency_key'])).size).toBe(1)
    expect(received[0]).toMatchObject({
      path: '/api/v1/usage/consume',
      authorization: 'Bearer tg_key',
      body: { meter: 'search', quantity: '0.1' },
    })
  })

  it('takes an answer that breaks off, or is no JSON, for none', async () => {
    const breaksOff = (response: ServerResponse): void => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' })
      response.write('{"allowed":')
      setImmediate(() => response.destroy())
    }
    const page = (response: ServerResponse): void => void response.writeHead(200).end('<html>')
    const { url, received } = await startPeer([breaksOff, page, allowed])
    expect(await createTollgateClient({ url, apiKey: 'tg_key' }).consume({ meter: 'search' })).toEqual({ allowed: true })
    expect(received).toHaveLength(3)
    const broken = await startPeer([breaksOff])
    const client = createTollgateClient({ url: broken.url, apiKey: 'tg_key', retries: 1 })
    await expect(client.consume({ meter: 'search' })).rejects.toThrow(TollgateUnreachableError)
  })

  it('sends those items of a batch again, under their keys, that the server could not decide', async () => {
    const busy = { allowed: false, error: { title: 'busy', code: 'overloaded', status: 503 } }
    const wrong = { allowed: false, error: { title: 'wrong', code: 'unknown_meter', status: 422 } }
    const fine = { allowed: true }
    const { url, received } = await startPeer([
      json(200, { results: [fine, busy, wrong, busy] }),
      json(200, { results: [fine, busy] }),
      json(200, { results: [fine] }),
    ])
    const client = createTollgateClient({ url, apiKey: 'tg_key' })
    const items = ['a', 'b', 'c', 'd'].map((meter) => ({ verb: 'track' as const, meter }))
    expect(await client.batch(items)).toEqual([fine, fine, wrong, fine])
    const sent = received.map(({ body }) => body['items'] as Record<string, unknown>[])
    expect(sent.map((each) => each.map(({ meter }) => meter))).toEqual([['a', 'b', 'c', 'd'], ['b', 'd'], ['d']])
    expect(sent[1]![1]!['idempotency_key']).toBe(sent[0]![3]!['idempotency_key'])
  })

  it('keeps what was decided of a batch where the rest cannot be asked about again', async () => {
    const busy = { allowed: false, error: { title: 'busy', code: 'overloaded', status: 503 } }
    const fine = { allowed: true }
    for (const failed of [hangUp, json(403, { title: 'no', code: 'forbidden' })]) {
      const { url } = await startPeer([json(200, { results: [fine, busy, fine] }), failed])
      const client = createTollgateClient({ url, apiKey: 'tg_key' })
      const items = ['a', 'b', 'c'].map((meter) => ({ verb: 'consume' as const, meter }))
      expect(await client.batch(items)).toEqual([fine, busy, fine])
    }
  })

  it('gives each item of a batch its own key, and a check none', async () => {
    const { url, received } = await startPeer([json(200, { results: [] })])
    const client = createTollgateClient({ url, apiKey: 'tg_key' })
    await client.batch([
      { verb: 'consume', meter: 'a' },
      { verb: 'track', meter: 'a', idempotencyKey: 'mine' },
      { verb: 'check', meter: 'a' },
    ])
    const [first, second, third] = received[0]!.body['items'] as Record<string, unknown>[]
    expect(first!['idempotency_key']).toMatch(/^[0-9a-f-]{36}$/)
    expect(second!['idempotency_key']).toBe('mine')
    expect(third).not.toHaveProperty('idempotency_key')
  })

  it('does not repeat what the server refuses, and passes its problem on', async () => {
    const { url, received } = await startPeer([
      json(422, { title: 'No such meter', code: 'unknown_meter', detail: 'No meter is called "x".' }),
    ])
    const client = createTollgateClient({ url, apiKey: 'tg_key' })
    const refused = client.consume({ meter: 'x' })
    await expect(refused).rejects.toThrow(
      expect.objectContaining({ status: 422, code: 'unknown_meter', message: 'No meter is called "x".' }),
    )
    await expect(refused).rejects.toBeInstanceOf(TollgateError)
    expect(received).toHaveLength(1)
  })

  it('says that it does not know when no answer ever arrives', async () => {
    const { url, received } = await startPeer([hangUp])
    const client = createTollgateClient({ url, apiKey: 'tg_key', retries: 1 })
    await expect(client.consume({ meter: 'x' })).rejects.toBeInstanceOf(TollgateUnreachableError)
    expect(received).toHaveLength(2)
  })

  it('says whether a call without an answer may have arrived', async () => {
    const { url } = await startPeer([hangUp])
    const lost = createTollgateClient({ url, apiKey: 'tg_key', retries: 0 }).consume({ meter: 'x' })
    await expect(lost).rejects.toMatchObject({ mayHaveArrived: true })
    const server = servers.pop()!
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
    const unconnected = createTollgateClient({ url, apiKey: 'tg_key', retries: 1 }).consume({ meter: 'x' })
    await expect(unconnected).rejects.toMatchObject({ mayHaveArrived: false })
  })

  it('may have arrived by its first attempt where the last found nobody', async () => {
    const failures = [new Error('other side closed'), Object.assign(new Error('connect'), { code: 'ECONNREFUSED' })]
    const client = createTollgateClient({
      url: 'http://away',
      apiKey: 'tg_key',
      retries: 1,
      fetch: () => Promise.reject(new TypeError('fetch failed', { cause: failures.shift() })),
    })
    await expect(client.consume({ meter: 'x' })).rejects.toMatchObject({ mayHaveArrived: true })
    expect(failures).toEqual([])
  })

  it('gives up on an attempt that takes too long', async () => {
    const { url } = await startPeer([() => undefined])
    const client = createTollgateClient({ url, apiKey: 'tg_key', retries: 0, timeoutMs: 50 })
    await expect(client.usage()).rejects.toBeInstanceOf(TollgateUnreachableError)
  })
})

describe('a server that takes calls and does not answer', { timeout: 20_000 }, () => {
  const hang = (): void => undefined

  it('keeps a caller no longer than the deadline, with all its attempts and also where its `fetch` heeds no signal', async () => {
    let sent = 0
    const heedless = (): Promise<Response> => {
      sent += 1
      return new Promise<Response>(hang)
    }
    const terms = { url: 'http://silent', apiKey: 'tg_key', retries: 1_000, awayMs: 0, fetch: heedless }
    expect(await outcomeOf(createTollgateClient({ ...terms, deadlineMs: 2_000, timeoutMs: 20 }))).toBe('had no answer')
    expect(sent).toBeGreaterThan(1)
    expect(await outcomeOf(createTollgateClient({ ...terms, deadlineMs: 200, timeoutMs: 60_000 }))).toBe('had no answer')
  })

  it('keeps a caller three seconds where nothing else is said', { timeout: 12_000 }, async () => {
    const { url } = await startPeer([hang])
    expect(await outcomeOf(createTollgateClient({ url, apiKey: 'tg_key' }))).toBe('had no answer')
  })

  it('is asked no more for a while, by any client of its address', async () => {
    const { url, received } = await startPeer([hang])
    const terms = { url, apiKey: 'tg_key', deadlineMs: 1_000, retries: 0, awayMs: 60_000 }
    const [client, other] = [createTollgateClient(terms), createTollgateClient({ ...terms, apiKey: 'tg_other' })]
    expect(await outcomeOf(client)).toBe('had no answer')
    expect(await Promise.all([outcomeOf(client), outcomeOf(other)])).toEqual(['not sent', 'not sent'])
    expect(received).toHaveLength(1)
  })

  it('is looked for by one attempt, whatever else is repeated', async () => {
    let sent = 0
    const lost = (): Promise<Response> => {
      sent += 1
      return Promise.reject(new TypeError('fetch failed'))
    }
    const client = createTollgateClient({ url: 'http://away', apiKey: 'tg_key', retries: 2, awayMs: 1, fetch: lost })
    expect(await outcomeOf(client)).toBe('had no answer')
    expect(sent).toBe(3)
    await vi.waitUntil(async () => (await outcomeOf(client)) === 'had no answer')
    expect(sent).toBe(4)
  })

  it('is asked again, where it said that it cannot now, no longer than the deadline lasts', async () => {
    const later = (response: ServerResponse): void => void response.writeHead(503, { 'retry-after': '5' }).end('{}')
    const { url, received } = await startPeer([later])
    const client = createTollgateClient({ url, apiKey: 'tg_key', timeoutMs: 60_000, deadlineMs: 4_900 })
    await expect(client.consume({ meter: 'x' })).rejects.toMatchObject({ status: 503 })
    expect(received).toHaveLength(1)
    const busy = { allowed: false, error: { title: 'busy', code: 'overloaded', status: 503 } }
    let sent = 0
    const overloaded = async (): Promise<Response> => {
      sent += 1
      return Response.json({ results: [busy] })
    }
    const stubborn = createTollgateClient({ url: 'http://busy', apiKey: 'tg_key', retries: 1_000, fetch: overloaded })
    expect(await stubborn.batch([{ verb: 'track', meter: 'x' }])).toEqual([busy])
    expect(sent).toBeLessThan(10)
  })
})

/** How a call ended: answered, without an answer, or not sent at all. */
async function outcomeOf(client: UsageClient): Promise<string> {
  try {
    await client.consume({ meter: 'x' })
    return 'answered'
  } catch (error) {
    if (!(error instanceof TollgateUnreachableError)) throw error
    return error.mayHaveArrived ? 'had no answer' : 'not sent'
  }
}

it.each([
  [{ url: undefined, apiKey: 'tg_key' }, 'url must be the address'],
  [{ url: 'tollgate:3000', apiKey: 'tg_key' }, 'url must be the address'],
  [{ url: 'http://', apiKey: 'tg_key' }, 'url must be the address'],
  [{ url: 'http://tollgate', apiKey: undefined }, 'apiKey must be a key'],
  [{ url: 'http://tollgate', apiKey: '' }, 'apiKey must be a key'],
])('a client of %j is refused when it is made', (options, sentence) => {
  expect(() => createTollgateClient(options as { url: string; apiKey: string })).toThrow(sentence)
})

it.each(['tg_key\ntg_other', 'tg_ключ'])('a key that no header has is refused in words without it: %j', (apiKey) => {
  const told: string[] = []
  try {
    createTollgateClient({ url: 'http://tollgate', apiKey })
  } catch (error) {
    told.push(String(error))
  }
  expect(told).toEqual([expect.stringContaining('apiKey must be a key')])
  expect(told[0]).not.toContain('tg_')
})

it('a client whose `fetch` says who calls needs no key', async () => {
  const said: (string | null)[] = []
  const ask = async (request: Request): Promise<Response> => {
    said.push(request.headers.get('authorization'))
    return Response.json({})
  }
  await createTollgateClient({ url: 'http://in-process', apiKey: '', fetch: ask }).usage()
  expect(said).toEqual(['Bearer'])
})

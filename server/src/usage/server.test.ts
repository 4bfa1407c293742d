import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testDatabase } from '../../test/database.ts'
import { createLog } from '../http/log.ts'
import { serve, type HttpServer } from '../http/serve.ts'
import { createTollgate, type Tollgate } from '../tollgate.ts'

const OPERATOR_KEY = 'the operator key of this test'
const database = testDatabase()

type Running = { tollgate: Tollgate; server: HttpServer; base: string }

async function start(): Promise<Running> {
  const tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: {
      meters: { calls: { groupBy: ['model'] } },
      plans: { free: { name: 'Free', allowances: { calls: { amount: 10, period: 'calendar_month' } } } },
      defaultPlan: 'free',
    },
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: createLog({ level: 'silent', secrets: [] }),
  })
  const { fetch, preHandler } = tollgate
  const server = await serve({ host: '127.0.0.1', port: 0, fetch, preHandler })
  await tollgate.start()
  return { tollgate, server, base: `http://127.0.0.1:${server.port}/api/v1` }
}

async function stop({ tollgate, server }: Running): Promise<void> {
  tollgate.endStreams()
  await server.stop()
  await tollgate.stop()
}

let here: Running
let there: Running
let organizations = 0

beforeAll(async () => {
  here = await start()
  there = await start()
})
afterAll(async () => {
  await Promise.all([stop(here), stop(there)])
})

async function ask(on: Running, key: string, method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
  const headers = { 'x-api-key': key, 'content-type': 'application/json' }
  const response = await fetch(`${on.base}/${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`)
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
}

async function newCustomer(): Promise<{ id: string; key: string; keyId: string }> {
  const id = `live_${(organizations += 1)}`
  await ask(here, OPERATOR_KEY, 'POST', 'organizations', { id, name: id, email: 'a@example.com' })
  const made = await ask(here, OPERATOR_KEY, 'POST', `organizations/${id}/api-keys`, { name: 'live', scopes: ['read', 'write'] })
  return { id, key: String(made['key']), keyId: String(made['id']) }
}

/** A stream with what has arrived of it so far. */
async function listen(on: Running, key: string, headers: Record<string, string> = {}) {
  const leaving = new AbortController()
  const response = await fetch(`${on.base}/usage/stream`, { headers: { 'x-api-key': key, ...headers }, signal: leaving.signal })
  const heard = { status: response.status, type: response.headers.get('content-type'), text: '', ended: false }
  void (async () => {
    for await (const chunk of response.body!) heard.text += new TextDecoder().decode(chunk)
  })()
    .catch(() => {})
    .finally(() => (heard.ended = true))
  return { heard, leave: () => leaving.abort() }
}

const use = (on: Running, key: string, name: string) =>
  ask(on, key, 'POST', 'usage/consume', { meter: 'calls', quantity: 1, idempotency_key: name })

describe('a tenant’s own key, under row-level security', () => {
  it('reads its own use in every way, sent in every form, and nothing of its neighbour', async () => {
    const [mine, other] = [await newCustomer(), await newCustomer()]
    const item = (name: string) => ({
      verb: 'consume',
      meter: 'calls',
      quantity: 1,
      idempotency_key: name,
      properties: { model: name },
    })
    const send = async (key: string, type: string, body: string): Promise<unknown> => {
      const headers = { 'x-api-key': key, 'content-type': type, 'content-encoding': 'gzip' }
      const response = await fetch(`${here.base}/usage/batch`, { method: 'POST', headers, body: new Uint8Array(gzipSync(body)) })
      return ((await response.json()) as { results: { allowed: boolean }[] }).results.map(({ allowed }) => allowed)
    }
    expect(await send(mine.key, 'application/x-ndjson', `${JSON.stringify(item('a'))}\n${JSON.stringify(item('b'))}`)).toEqual([
      true,
      true,
    ])
    expect(await send(other.key, 'application/json', JSON.stringify({ items: [item('theirs')] }))).toEqual([true])

    const get = (path: string) => ask(there, mine.key, 'GET', `usage/${path}`)
    expect(await get('report')).toMatchObject({ rows: [{ meter: 'calls', events: 2, quantity: 2 }] })
    expect(await get('report?meter=calls&group_by=model')).toMatchObject({
      rows: [
        { group: { model: 'a' }, quantity: 1 },
        { group: { model: 'b' }, quantity: 1 },
      ],
    })
    expect(await get('events')).toMatchObject({ events: [{ idempotency_key: 'a' }, { idempotency_key: 'b' }] })
    expect(await get('explain?balance=calls')).toMatchObject({
      balance: { used: 2 },
      events: [{ credits_used: 1 }, { credits_used: 1 }],
    })
    expect(await get('explain?meter=calls')).toMatchObject({ uses: 2, quantity: 2 })
    expect(await get('explain?idempotency_key=a')).toMatchObject({ kind: 'use', counts: 1 })
    await expect(get('explain?idempotency_key=theirs')).rejects.toThrow('404')
    const file = async (path: string): Promise<string> =>
      (await fetch(`${there.base}/usage/${path}`, { headers: { 'x-api-key': mine.key } })).text()
    const events = await file('events/export')
    expect(events.trimEnd().split('\r\n').length).toBe(3)
    expect(events).not.toContain('theirs')
    expect((await file('report/export?format=ndjson')).trimEnd().split('\n').length).toBe(1)
  })
})

const patience = { ...PATIENCE, interval: 20 }

describe('GET /api/v1/usage/stream', () => {
  it('tells what another server counted, and picks up where a reader left', async () => {
    const { key } = await newCustomer()
    const { heard, leave } = await listen(here, key)
    await vi.waitFor(() => expect(heard.text).toContain('event: snapshot'), patience)
    expect(heard).toMatchObject({ status: 200, type: 'text/event-stream' })
    await use(there, key, 'one')
    await vi.waitFor(() => expect(heard.text).toContain('event: change'), patience)
    expect(heard.text).toMatch(
      /event: change\nid: .+\ndata: .*"used":1,"remaining":9.*"meter":"calls","today":\{"events":1,"quantity":1\}/,
    )
    const last = [...heard.text.matchAll(/^id: (.*)$/gm)].at(-1)![1]!
    leave()

    const back = await listen(there, key, { 'last-event-id': last })
    await vi.waitFor(() => expect(back.heard.text).toContain('\n: current\n'), patience)
    expect(back.heard.text).not.toContain('data:')
    await use(here, key, 'two')
    await vi.waitFor(() => expect(back.heard.text).toMatch(/event: change\n.*\n.*"used":2/), patience)
    back.leave()
  })

  it('ends when its key is revoked, on every server', async () => {
    const { id, key, keyId } = await newCustomer()
    const streams = [await listen(here, key), await listen(there, key)]
    for (const { heard } of streams) await vi.waitFor(() => expect(heard.text).toContain('event: snapshot'), patience)
    await ask(here, OPERATOR_KEY, 'DELETE', `organizations/${id}/api-keys/${keyId}`)
    for (const { heard } of streams) await vi.waitFor(() => expect(heard.ended).toBe(true), { timeout: 2_000, interval: 20 })
  })

  it('is for who may read, about an organization that there is', async () => {
    const { id, key } = await newCustomer()
    const { id: other } = await newCustomer()
    const status = async (as: string, query: string): Promise<number> => {
      const response = await fetch(`${here.base}/usage/stream${query}`, { headers: { 'x-api-key': as } })
      await response.body?.cancel()
      return response.status
    }
    expect(await status('nonsense', '')).toBe(401)
    expect(await status(key, `?organization_id=${other}`)).toBe(404)
    expect(await status(OPERATOR_KEY, '')).toBe(400)
    expect(await status(OPERATOR_KEY, '?organization_id=nobody')).toBe(404)
    expect(await status(OPERATOR_KEY, `?organization_id=${id}`)).toBe(200)
  })

  it('does not keep a server from stopping', async () => {
    const own = await start()
    const { key } = await newCustomer()
    const { heard } = await listen(own, key)
    await vi.waitFor(() => expect(heard.text).toContain('event: snapshot'), patience)
    const began = performance.now()
    await stop(own)
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(heard.ended).toBe(true)
  })
})

import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { forward, type SinksContext } from './forward.ts'
import { createFileSink, createHttpSink } from './ndjson.ts'
import { createLagoSink } from './lago.ts'
import type { Sink } from './sink.ts'
import { readHorizon } from './store.ts'

const metered = testMetering()
const directory = mkdtempSync(join(tmpdir(), 'tollgate-sink-'))

/** What the receiver does with the next request; then it takes everything. */
let next: ((request: IncomingMessage, response: ServerResponse, body: string) => void)[] = []
/** What Lago has, by transaction id. */
let lago = new Map<string, { code: string; external_subscription_id: string; properties: { quantity: string } }>()
let requests = 0
let largest = 0

const receiver = createServer((request, response) => {
  let body = ''
  request.on('data', (part: Buffer) => (body += part.toString()))
  request.on('end', () => {
    requests += 1
    const answer = next.shift()
    if (answer) answer(request, response, body)
    else takeAsLago(response, body)
  })
})

/** All or none, and a transaction id once, as Lago does. */
function takeAsLago(response: ServerResponse, body: string): void {
  const { events } = JSON.parse(body) as {
    events: { transaction_id: string; code: string; external_subscription_id: string; properties: { quantity: string } }[]
  }
  largest = Math.max(largest, events.length)
  const faults = Object.fromEntries(
    events.flatMap((event, index): [number, Record<string, string[]>][] => {
      if (lago.has(event.transaction_id)) return [[index, { transaction_id: ['value_already_exist'] }]]
      return event.external_subscription_id === 'unknown' ? [[index, { external_subscription_id: ['not_found'] }]] : []
    }),
  )
  if (Object.keys(faults).length > 0) {
    response.writeHead(422).end(JSON.stringify({ status: 422, code: 'validation_errors', error_details: faults }))
    return
  }
  for (const event of events) lago.set(event.transaction_id, event)
  response.writeHead(200).end('{}')
}

let url = ''
let sink: Sink
let count = 0

beforeAll(async () => {
  receiver.listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`
})
afterAll(async () => {
  receiver.closeAllConnections()
  await new Promise((resolve) => receiver.close(resolve))
  rmSync(directory, { recursive: true, force: true })
})
beforeEach(async () => {
  next = []
  lago = new Map()
  requests = 0
  largest = 0
  sink = createLagoSink({ url, apiKey: 'key' })
  await metered.database.db.query('delete from sink_cursors')
  // The cursor begins when the sink is switched on.
  await deliver()
  metered.clock.advance(MINUTE_MS)
})

const logged: string[] = []
const context = (): SinksContext => ({
  db: metered.database.db,
  clock: metered.clock,
  log: { warn: (_, message) => logged.push(message), error: (_, message) => logged.push(message) },
  timeoutMs: 200,
})

/** Two minutes later, when all that was recorded is surely committed. */
async function deliver(to: Sink = sink): Promise<number> {
  metered.clock.advance(2 * MINUTE_MS)
  return forward(context(), to, new AbortController().signal)
}

async function use(organizationId: string, quantity: number, key?: string): Promise<string> {
  count += 1
  const answer = await metered.metering().ask({
    verb: 'track',
    organizationId,
    meter: 'episode_ingestion',
    quantity: parseQuantity(quantity),
    idempotencyKey: key ?? `use-${count}`,
    occurredAt: null,
    properties: { model: 'large' },
  })
  return answer.eventId!
}

describe('OC-9 use is forwarded to Lago', () => {
  test('each event once, with its id, its organization and its meter, and nothing of before', async () => {
    const id = await metered.newOrganization()
    const first = await use(id, 2)
    await use(id, 3)
    expect(await deliver()).toBe(2)
    expect(lago.get(first)).toMatchObject({
      code: 'episode_ingestion',
      external_subscription_id: id,
      properties: { quantity: '2', model: 'large' },
    })
    expect(await deliver()).toBe(0)
    expect(lago.size).toBe(2)
  })

  test('and what corrects it comes off the same: with the properties of what it corrects, not with its reason', async () => {
    const id = await metered.newOrganization()
    await use(id, 3, 'mistaken')
    const correction = { verb: 'correct', organizationId: id, corrects: 'mistaken', quantity: parseQuantity(-2) } as const
    const corrected = await metered
      .metering()
      .ask({ ...correction, idempotencyKey: 'corrects it', properties: { reason: 'counted twice' } })
    expect(await deliver()).toBe(2)
    expect(lago.get(corrected.eventId!)!.properties).toEqual({ quantity: '-2', model: 'large' })
  })

  test('in batches of a hundred', async () => {
    const id = await metered.newOrganization()
    await Promise.all(Array.from({ length: 250 }, () => use(id, 1)))
    expect(await deliver()).toBe(250)
    expect([lago.size, requests, largest]).toEqual([250, 3, 100])
  })

  test('again after it failed, later each time, and loses nothing', async () => {
    const id = await metered.newOrganization()
    await use(id, 1)
    next = [(_, response) => response.writeHead(500).end(), (_, response) => response.writeHead(503).end()]
    expect(await deliver()).toBe(0)
    expect(await forward(context(), sink, new AbortController().signal), 'not before its pause is over').toBe(0)
    expect(requests).toBe(1)
    expect(await deliver()).toBe(0)
    expect(await deliver()).toBe(1)
    expect(lago.size).toBe(1)
  })

  test('again after a time-out, and an answer that was lost doubles nothing', async () => {
    const id = await metered.newOrganization()
    await use(id, 1)
    // It takes the batch and never answers.
    next = [
      (_, response, body) => {
        const nobody = { writeHead: () => ({ end: () => undefined }) } as unknown as ServerResponse
        takeAsLago(nobody, body)
        response.on('close', () => undefined)
      },
    ]
    expect(await deliver()).toBe(0)
    expect(lago.size).toBe(1)
    await use(id, 5)
    expect(await deliver()).toBe(2)
    expect([...lago.values()].map(({ properties }) => properties.quantity)).toEqual(['1', '5'])
  })

  test('and what it will never take is put aside, and does not hold up the rest', async () => {
    const id = await metered.newOrganization()
    await metered.database.db.query(
      `insert into organizations (id, name, email, created_at) values ('unknown', 'u', 'u@example.com', now()) on conflict do nothing`,
    )
    await use(id, 1)
    const refused = await use('unknown', 2)
    await use(id, 3)
    expect(await deliver()).toBe(3)
    expect(lago.size).toBe(2)
    const { rows } = await metered.database.db.query('select organization_id, event_id, reason from sink_rejections')
    expect(rows).toEqual([{ organization_id: 'unknown', event_id: refused, reason: expect.stringContaining('not_found') }])
  })

  test('as what it counts: a correction takes away, a refusal and a repeat are nothing', async () => {
    const id = await metered.newOrganization()
    await use(id, 4, 'four')
    await use(id, 4, 'four')
    const metering = metered.metering()
    const request = { organizationId: id, meter: 'episode_ingestion', properties: null }
    await metering.ask({ ...request, verb: 'consume', quantity: parseQuantity(1000), idempotencyKey: 'much', occurredAt: null })
    await metering.ask({ ...request, verb: 'correct', corrects: 'four', quantity: parseQuantity(-1), idempotencyKey: 'back' })
    expect(await deliver()).toBe(2)
    expect([...lago.values()].map(({ properties }) => properties.quantity)).toEqual(['4', '-1'])
  })

  test('by one server at a time', async () => {
    const id = await metered.newOrganization()
    await Promise.all(Array.from({ length: 30 }, () => use(id, 1)))
    metered.clock.advance(2 * MINUTE_MS)
    const signal = new AbortController().signal
    const delivered = await Promise.all([1, 2, 3].map(() => forward(context(), sink, signal)))
    expect(delivered.reduce((sum, each) => sum + each, 0)).toBe(30)
    expect(requests).toBe(1)
  })

  test('never before what is recorded earlier is committed', async () => {
    const { db } = metered.database
    const farAhead = new Date('2999-01-01T00:00:00Z')
    const began = await metered.connections().transaction(async (tx) => {
      const { rows } = await tx.query<{ now: Date }>('select now()')
      const horizon = await readHorizon(db, farAhead, 1_000)
      expect(horizon.getTime()).toBeLessThanOrEqual(rows[0]!.now.getTime() - 999)
      return { send: () => [], result: rows[0]!.now }
    })
    expect((await readHorizon(db, farAhead, 1_000)).getTime()).toBeGreaterThan(began.getTime())
  })

  test('and however long others read meanwhile', async () => {
    const { db } = metered.database
    const now = new Date('2999-01-01T00:00:00Z')
    await db.transaction(async (tx) => {
      await tx.query('select now()')
      expect(await readHorizon(db, now, 1_000)).toEqual(new Date(now.getTime() - 1_000))
    })
  })
})

describe('other sinks', () => {
  test('an address gets JSON lines with a key for the batch', async () => {
    const http = createHttpSink({ url, key: 'secret' })
    await deliver(http)
    metered.clock.advance(MINUTE_MS)
    const id = await metered.newOrganization()
    const event = await use(id, 2)
    let seen: { body: string; headers: IncomingMessage['headers'] } | null = null
    next = [
      (request, response, body) => {
        seen = { body, headers: request.headers }
        response.writeHead(204).end()
      },
    ]
    expect(await deliver(http)).toBe(1)
    expect(seen!.headers).toMatchObject({ authorization: 'Bearer secret', 'idempotency-key': `${event}/${event}` })
    expect(JSON.parse(seen!.body)).toMatchObject({ id: event, organization_id: id, quantity: '2' })
  })

  test('a file is appended to', async () => {
    const path = join(directory, 'use.ndjson')
    const file = createFileSink({ path })
    await deliver(file)
    metered.clock.advance(MINUTE_MS)
    const id = await metered.newOrganization()
    await use(id, 1)
    await deliver(file)
    await use(id, 2)
    await deliver(file)
    const lines = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { quantity: string })
    expect(lines.map(({ quantity }) => quantity)).toEqual(['1', '2'])
  })

  test('a file whose last line was torn is gone on with on a line of its own, and nothing of it is lost', async () => {
    const path = join(directory, 'torn.ndjson')
    const file = createFileSink({ path })
    const event = (id: string) => ({
      id,
      organizationId: 'org',
      meter: 'calls',
      quantity: '1',
      occurredAt: new Date(0),
      recordedAt: new Date(0),
      properties: null,
    })
    const batch = ['first', 'second'].map(event)
    const never = new AbortController().signal
    await file.deliver(batch, never)
    truncateSync(path, statSync(path).size - 40)
    await file.deliver(batch, never)
    const lines = readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line.endsWith('}'))
    expect(lines.map((line) => (JSON.parse(line) as { id: string }).id)).toEqual(['first', 'first', 'second'])
  })
})

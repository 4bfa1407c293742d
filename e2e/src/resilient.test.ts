import {
  createMemoryQueue,
  createResilientClient,
  createTollgateClient,
  type LocalQueue,
  type ResilientClient,
  type UsageClient,
} from '@tollgate/sdk'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import catalog from '../../examples/episodic-memory/billing.config.ts'
import { ManualClock } from '../../server/src/lib/clock.ts'
import { createTollgate, type Tollgate } from '../../server/src/tollgate.ts'
import { testDatabase } from '../../server/test/database.ts'

const OPERATOR_KEY = 'operator-key-of-the-resilient-test'
const MINUTE_MS = 60_000
const database = testDatabase()
const clock = new ManualClock(new Date('2026-03-10T09:00:00Z'))
let tollgate: Tollgate
let line: 'up' | 'cut before' | 'cut in the middle' | 'cut after'
let direct: UsageClient
let client: ResilientClient
let queue: LocalQueue

beforeAll(async () => {
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog,
    stripe: null,
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://in-process',
    log: pino({ level: 'silent' }),
    processMetrics: false,
    clock,
  })
  await tollgate.start()
})
afterAll(() => tollgate.stop())

beforeEach(async () => {
  line = 'up'
  const { id } = await operate('/api/v1/organizations', { name: 'Host', email: 'host@example.com' })
  const { key } = await operate(`/api/v1/organizations/${id}/api-keys`, { name: 'host', scopes: ['read', 'write'] })
  direct = createTollgateClient({ url: 'http://in-process', apiKey: key!, retries: 0, awayMs: 0, fetch: overTheLine })
  queue = createMemoryQueue()
  client = createResilientClient(direct, {
    meters: { reflection: 'open', episode_search: 'closed' },
    queue,
    now: () => clock.now(),
  })
})

async function overTheLine(request: Request): Promise<Response> {
  if (line === 'cut before') throw new TypeError('The line is cut.')
  const response = await tollgate.fetch(line === 'cut in the middle' ? await halfOf(request) : request)
  if (line !== 'up') throw new TypeError('The line is cut.')
  return response
}

/** What a server has taken of a batch that dies after the first of its groups. */
async function halfOf(request: Request): Promise<Request> {
  const { items } = (await request.clone().json()) as { readonly items: readonly unknown[] }
  return new Request(request.url, {
    method: 'POST',
    headers: request.headers,
    body: JSON.stringify({ items: items.slice(0, items.length / 2) }),
  })
}

async function operate(path: string, body: unknown): Promise<Readonly<Record<string, string>>> {
  const headers = { authorization: `Bearer ${OPERATOR_KEY}`, 'content-type': 'application/json' }
  const request = new Request(`http://in-process${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
  return (await (await tollgate.fetch(request)).json()) as Record<string, string>
}

const used = async () => (await client.usage()).credits_used

describe('a host whose server goes away and comes back', () => {
  it.each(['cut before', 'cut after'] as const)(
    'has held work counted once that was settled meanwhile (%s), also where the hold has ended',
    async (cut) => {
      for (const awayMs of [MINUTE_MS, 24 * 60 * MINUTE_MS]) {
        const before = Number(await used())
        const held = await client.reserve({ meter: 'reflection', quantity: 5 })
        line = cut
        expect(await client.settle(held.reservation_id!, { quantity: 3 })).toMatchObject({ allowed: true })
        clock.advance(awayMs)
        line = 'up'
        expect(await client.replay()).toBe(0)
        expect(await client.replay()).toBe(0)
        expect(Number(await used()) - before).toBe(6)
      }
    },
  )

  it('is not billed for what it was told to refuse, and is for the same use once it is done', async () => {
    const use = { meter: 'episode_search', quantity: 10, idempotencyKey: 'search-1' }
    line = 'cut after'
    expect(await client.consume(use)).toMatchObject({ allowed: false, code: 'tollgate_unreachable' })
    expect(await client.consume({ meter: 'episode_search' })).toMatchObject({ allowed: false })
    line = 'up'
    expect(await used()).toBe(1.1)
    expect(await client.replay()).toBe(0)
    expect(await used()).toBe(0)
    expect((await client.consume(use)).allowed).toBe(true)
    expect((await client.consume(use)).allowed).toBe(true)
    expect(await client.replay()).toBe(0)
    expect(await used()).toBe(1)
  })

  it('is billed once for what another process of it asks for again under a key that was taken back', async () => {
    const use = { meter: 'episode_search', quantity: 10, idempotencyKey: 'search-1' }
    const beside = createResilientClient(direct, { queue: createMemoryQueue() })
    line = 'cut after'
    expect((await client.consume(use)).allowed).toBe(false)
    line = 'up'
    expect(await client.replay()).toBe(0)
    // The plain client says what became of it.
    expect(await direct.consume(use)).toMatchObject({ allowed: false, code: 'taken_back' })
    for (const process of [beside, client]) expect(await process.consume(use)).toMatchObject({ allowed: true, credits_used: 1 })
    expect(await used()).toBe(1)
  })

  it.each(['cut before', 'cut after'] as const)(
    'has a use that was let through (%s) permitted as before where it asks again, in every process, and is billed once for it, when it was',
    async (cut) => {
      const use = { meter: 'reflection', quantity: 2, idempotencyKey: 'summary-1' }
      const asked = { verb: 'consume' as const, ...use }
      line = cut
      expect(await client.consume(use)).toMatchObject({ allowed: true, code: 'tollgate_unreachable', credits_used: 2 })
      clock.advance(MINUTE_MS)
      line = 'up'
      expect(await client.replay()).toBe(0)
      for (const process of [client, direct]) {
        expect(await process.consume(use)).toMatchObject({ allowed: true, credits_used: 4, total_credits_used: 4 })
        expect(await process.batch([asked])).toMatchObject([{ allowed: true, credits_used: 4, total_credits_used: 4 }])
      }
      expect([await client.replay(), await used(), await queue.parked()]).toEqual([0, 4, []])
    },
  )

  it('has a use that was let through permitted as before where it asks again when there is no quota left, until it is counted', async () => {
    const use = { meter: 'reflection', idempotencyKey: 'summary-1' }
    await client.track({ meter: 'episode_ingestion', quantity: 100 })
    line = 'cut before'
    await client.consume(use)
    line = 'up'
    expect(await client.consume(use)).toMatchObject({ allowed: true, code: 'tollgate_unreachable', credits_used: 1 })
    expect(await client.batch([{ verb: 'consume', ...use }])).toMatchObject([{ allowed: true, code: 'tollgate_unreachable' }])
    expect(await client.consume({ ...use, idempotencyKey: 'summary-2' })).toMatchObject({
      allowed: false,
      code: 'quota_exceeded',
    })
    expect(await client.replay()).toBe(0)
    expect(await used()).toBe(102)
  })

  it.each(['cut before', 'cut in the middle', 'cut after'] as const)(
    'has each item of a batch answered as its meter declares (%s), and is billed once for what was let through',
    async (cut) => {
      const items = Array.from({ length: 20 }, (_, index) => [
        { verb: 'consume' as const, meter: 'reflection', idempotencyKey: `open-${index}` },
        { verb: 'consume' as const, meter: 'episode_search', idempotencyKey: `closed-${index}` },
        { verb: 'track' as const, meter: 'episode_search', idempotencyKey: `done-${index}` },
      ]).flat()
      line = cut
      const results = await client.batch(items)
      expect(results.map(({ allowed }) => allowed)).toEqual(items.map(({ idempotencyKey: key }) => !key.startsWith('closed')))
      line = 'up'
      clock.advance(MINUTE_MS)
      expect(await client.replay()).toBe(0)
      expect([await used(), await queue.parked()]).toEqual([42, []])
      const closed = items.filter(({ idempotencyKey: key }) => key.startsWith('closed'))
      expect((await client.batch(closed)).map(({ allowed }) => allowed)).toEqual(closed.map(() => true))
      expect(await used()).toBe(44)
    },
  )

  it('is not billed where its use had never arrived, nor where it had been refused', async () => {
    await client.track({ meter: 'episode_ingestion', quantity: 100 })
    for (const cut of ['cut before', 'cut after'] as const) {
      line = cut
      expect((await client.consume({ meter: 'episode_search' })).allowed).toBe(false)
    }
    line = 'up'
    expect(await client.replay()).toBe(2)
    clock.advance(MINUTE_MS)
    expect(await client.replay()).toBe(0)
    expect(await used()).toBe(100)
    expect(await queue.parked()).toEqual([])
  })
})

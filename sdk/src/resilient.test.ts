import { mkdtempSync, rmSync, appendFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { TollgateError, TollgateUnreachableError } from './errors.ts'
import { createFileQueue } from './file-queue.ts'
import { createMemoryQueue, type ParkedUse } from './queue.ts'
import { createResilientClient } from './resilient.ts'
import type { UsageAnswer, UsageClient, UsageInput } from './usage.ts'

const directory = mkdtempSync(join(tmpdir(), 'tollgate-queue-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const answer = (allowed: boolean): UsageAnswer => ({
  allowed,
  balance: null,
  credits_used: 1,
  total_credits_used: 1,
  quota_remaining: 0,
  quota_exceeded: !allowed,
})

type Line = 'up' | 'cut before' | 'cut after' | { readonly status: number }

const problem = (status: number, code: string, field?: string) => new TollgateError(status, { title: code, code, status, field })

/** A server with a quota, which knows keys, and whose line can be cut before or after a request arrives. */
function createPeer(quota: number) {
  const counted = new Map<string, UsageInput>()
  const first = new Map<string, { readonly verb: string; readonly input: UsageInput; readonly answer: UsageAnswer }>()
  let line: Line = 'up'
  async function call(input: UsageInput, verb: 'track' | 'consume' | 'check'): Promise<UsageAnswer> {
    if (line === 'cut before') throw new TollgateUnreachableError('no answer')
    if (typeof line === 'object') throw problem(line.status, 'refused')
    if (input.meter === 'unknown') throw problem(422, 'unknown_meter')
    if (input.meter === 'poison') throw problem(500, 'internal_error')
    const key = input.idempotencyKey!
    const known = first.get(key)
    if (known !== undefined && known.verb !== verb) throw problem(409, 'idempotency_conflict', 'verb')
    if (known !== undefined && known.input.occurredAt !== input.occurredAt) {
      throw problem(409, 'idempotency_conflict', 'occurred_at')
    }
    const decided = known?.answer ?? answer(verb === 'track' || counted.size < quota)
    first.set(key, { verb, input, answer: decided })
    if (decided.allowed && !counted.has(key)) counted.set(key, input)
    if (line === 'cut after') throw new TollgateUnreachableError('no answer')
    return decided
  }
  const refuse = () => Promise.reject(new Error('not part of this peer'))
  const client: UsageClient = {
    check: (input) => call({ ...input, idempotencyKey: 'check' }, 'check'),
    consume: (input) => call(input, 'consume'),
    track: (input) => call(input, 'track'),
    reserve: (input) => call(input, 'consume'),
    settle: refuse,
    release: refuse,
    batch: refuse,
    balances: refuse,
    usage: refuse,
    gate: refuse,
  }
  return { client, counted, setLine: (next: Line) => void (line = next) }
}

describe('a meter declared open', () => {
  it('lets a use through while the server is away, and counts it once when it is back, whether or not it had arrived', async () => {
    for (const cut of ['cut before', 'cut after'] as const) {
      const peer = createPeer(10)
      const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: createMemoryQueue() })
      peer.setLine(cut)
      expect((await client.consume({ meter: 'search' })).allowed).toBe(true)
      expect(await client.replay()).toBe(1)
      peer.setLine('up')
      expect(await client.replay()).toBe(0)
      expect(await client.replay()).toBe(0)
      expect(peer.counted.size).toBe(1)
    }
  })

  it('tracks a use that was let through although the quota was used up', async () => {
    const peer = createPeer(0)
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: createMemoryQueue() })
    peer.setLine('cut before')
    await client.consume({ meter: 'search' })
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(1)
  })

  it('settles a reservation made while away as a use of its own, and forgets a released one', async () => {
    const peer = createPeer(10)
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: createMemoryQueue() })
    peer.setLine('cut before')
    const [held, dropped] = [await client.reserve({ meter: 'search', quantity: 5 }), await client.reserve({ meter: 'search' })]
    peer.setLine('up')
    await client.settle(held.reservation_id!, { quantity: 3 })
    await client.release(dropped.reservation_id!)
    await client.replay()
    expect([...peer.counted.values()].map((use) => use.quantity)).toEqual([3])
  })
})

describe('what was let through', () => {
  const at = (hour: number) => new Date(Date.UTC(2026, 2, 10, hour))

  it('is kept while the server answers that it cannot, or does not know the key', async () => {
    for (const status of [408, 429, 500, 502, 503, 504, 401, 403]) {
      const peer = createPeer(10)
      const errors: unknown[] = []
      const queue = createMemoryQueue()
      const client = createResilientClient(peer.client, {
        whenUnreachable: 'open',
        queue,
        onError: (error) => errors.push(error),
      })
      peer.setLine('cut before')
      await client.consume({ meter: 'search' })
      await client.track({ meter: 'search' })
      peer.setLine({ status })
      expect(await client.replay(), String(status)).toBe(2)
      expect(await queue.list()).toHaveLength(2)
      expect(errors.length).toBeGreaterThan(0)
      peer.setLine('up')
      expect(await client.replay()).toBe(0)
      expect(peer.counted.size).toBe(2)
    }
  })

  it('is queued too when the server says at first that it cannot; a wrong key opens nothing, but loses no use either', async () => {
    const peer = createPeer(10)
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: createMemoryQueue() })
    peer.setLine({ status: 503 })
    expect(await client.consume({ meter: 'search' })).toMatchObject({ allowed: true, code: 'tollgate_unreachable' })
    peer.setLine({ status: 401 })
    await expect(client.consume({ meter: 'search' })).rejects.toMatchObject({ status: 401 })
    expect(await client.track({ meter: 'search' })).toMatchObject({ allowed: true })
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(2)
  })

  it('is given up only where it is wrong in itself, and does not keep what is behind it', async () => {
    const peer = createPeer(10)
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue })
    peer.setLine('cut before')
    for (const meter of ['unknown', 'poison', 'search']) await client.consume({ meter })
    peer.setLine('up')
    expect(await client.replay()).toBe(1)
    expect((await queue.list()).map(({ meter }) => meter)).toEqual(['poison'])
    expect([...peer.counted.values()].map(({ meter }) => meter)).toEqual(['search'])
  })

  it('puts aside what the server refuses for what it is, and what it fails about ten times, and says so', async () => {
    for (const queue of [createMemoryQueue(), createFileQueue(join(directory, 'parked.ndjson'))]) {
      const peer = createPeer(10)
      const told: string[] = []
      const onParked = ({ meter }: ParkedUse) => void told.push(meter)
      const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue, now: () => at(9), onParked })
      peer.setLine('cut before')
      for (const meter of ['poison', 'unknown', 'search']) await client.consume({ meter })
      peer.setLine('up')
      for (let round = 0; round < 9; round += 1) expect(await client.replay()).toBe(1)
      expect(told).toEqual(['unknown'])
      expect(await client.replay()).toBe(0)
      expect(told).toEqual(['unknown', 'poison'])
      expect([...peer.counted.values()].map(({ meter }) => meter)).toEqual(['search'])
      expect(await queue.parked()).toMatchObject([
        { meter: 'unknown', parked: { tries: 1, status: 422, at: at(9).toISOString() } },
        { meter: 'poison', parked: { tries: 10, status: 500 } },
      ])
    }
    const later = createFileQueue(join(directory, 'parked.ndjson'))
    const [unknown, poison] = await later.parked()
    await later.append(unknown!)
    await later.remove(poison!.idempotencyKey)
    expect((await later.list()).map(({ meter }) => meter)).toEqual(['unknown'])
    expect(await createFileQueue(join(directory, 'parked.ndjson')).parked()).toEqual([])
  })

  it('counts at the time when it happened, whichever way it was sent at first', async () => {
    const peer = createPeer(10)
    let hour = 9
    const client = createResilientClient(peer.client, {
      whenUnreachable: 'open',
      queue: createMemoryQueue(),
      now: () => at(hour),
    })
    peer.setLine('cut before')
    await client.consume({ meter: 'search' })
    hour = 10
    await client.track({ meter: 'search' })
    await client.track({ meter: 'search', occurredAt: '2026-03-09T00:00:00Z' })
    peer.setLine('up')
    hour = 23
    expect(await client.replay()).toBe(0)
    const times = [...peer.counted.values()].map(({ occurredAt }) => occurredAt)
    expect(times).toEqual([at(9).toISOString(), at(10).toISOString(), '2026-03-09T00:00:00Z'])
  })

  it('counts once when it had arrived, with or without a time of the caller’s own', async () => {
    for (const occurredAt of [undefined, '2026-03-09T00:00:00Z']) {
      const peer = createPeer(1)
      const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: createMemoryQueue() })
      peer.setLine('cut after')
      const dated = occurredAt === undefined ? {} : { occurredAt }
      for (const verb of ['consume', 'track'] as const) await client[verb]({ meter: 'search', ...dated })
      // Refused, as its answer would have said: it was let through all the same.
      await client.consume({ meter: 'search', ...dated })
      peer.setLine('up')
      expect(await client.replay()).toBe(0)
      expect(peer.counted.size).toBe(3)
    }
  })
})

describe('a meter declared closed', () => {
  it('refuses while the server is away, and keeps what has happened already', async () => {
    const peer = createPeer(10)
    const client = createResilientClient(peer.client, { meters: { search: 'closed' }, queue: createMemoryQueue() })
    peer.setLine('cut before')
    expect(await client.consume({ meter: 'search' })).toMatchObject({ allowed: false, code: 'tollgate_unreachable' })
    expect(await client.check({ meter: 'search' })).toMatchObject({ allowed: false })
    expect(await client.track({ meter: 'search' })).toMatchObject({ allowed: true })
    peer.setLine('up')
    await client.replay()
    expect(peer.counted.size).toBe(1)
  })
})

describe('the file queue', () => {
  it('gives a later process what an earlier one had not yet sent, without a line that was cut short', async () => {
    const path = join(directory, 'uses.ndjson')
    const earlier = createFileQueue(path)
    await earlier.append({ meter: 'search', idempotencyKey: 'a' })
    await earlier.append({ meter: 'search', idempotencyKey: 'b' })
    await earlier.remove('a')
    appendFileSync(path, '{"add":{"meter":"sea')
    const later = createFileQueue(path)
    expect(await later.list()).toEqual([{ meter: 'search', idempotencyKey: 'b' }])
    await later.remove('b')
    expect(await createFileQueue(path).list()).toEqual([])
  })
})

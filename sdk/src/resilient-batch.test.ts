import { describe, expect, it } from 'vitest'
import { createPeer } from '../test/usage-peer.ts'
import { createMemoryQueue, type LocalQueue, type QueuedCall } from './queue.ts'
import { createResilientClient, type ResilientOptions } from './resilient.ts'
import type { BatchItem } from './usage.ts'

const MINUTE_MS = 60_000

const item = (verb: BatchItem['verb'], meter: string, idempotencyKey: string): BatchItem => ({ verb, meter, idempotencyKey })

/** A host that lets `open` through and refuses `shut` while the server is away. */
function host(options: Partial<ResilientOptions> = {}) {
  const peer = createPeer(10)
  const queue = options.queue ?? createMemoryQueue()
  let time = Date.UTC(2026, 2, 10, 9)
  const client = createResilientClient(peer.client, {
    meters: { open: 'open' },
    now: () => new Date(time),
    ...options,
    queue,
  })
  const keys = () => [...peer.counted.keys()].map((key) => key.trim()).toSorted()
  return { peer, queue, client, keys, passMinute: () => void (time += MINUTE_MS) }
}

const keyOf = (call: QueuedCall) => ('idempotencyKey' in call ? call.idempotencyKey : null)

describe('a batch of a resilient client', () => {
  const mixed = [
    item('consume', 'open', 'a'),
    item('consume', 'shut', 'b'),
    item('track', 'shut', 'c'),
    item('check', 'open', 'd'),
    item('check', 'shut', 'e'),
    item('consume', 'shut', 'f'),
    item('track', 'open', 'g'),
    item('consume', 'open', 'h'),
  ]

  it('is the server’s while that answers', async () => {
    const { client, keys, queue } = host()
    const results = await client.batch(mixed)
    expect(results.map(({ allowed }) => allowed)).toEqual(mixed.map(() => true))
    expect([keys(), await queue.list()]).toEqual([['a', 'b', 'c', 'f', 'g', 'h'], []])
  })

  it.each(['cut before', 'cut in the middle', 'cut after', { status: 503 }] as const)(
    'has the declared answer of each item, in order, where the server dies (%j), and what was let through counts once',
    async (line) => {
      const { peer, client, keys, queue, passMinute } = host()
      peer.setLine(line)
      const results = await client.batch(mixed)
      const declared = [true, false, true, true, false, false, true, true]
      expect(results).toMatchObject(declared.map((allowed) => ({ allowed, code: 'tollgate_unreachable' })))
      expect((await queue.list()).map(keyOf)).toEqual(['a', 'b', 'c', 'f', 'g', 'h'])
      peer.setLine('up')
      passMinute()
      expect(await client.replay()).toBe(0)
      expect([keys(), await queue.parked()]).toEqual([['a', 'c', 'g', 'h'], []])
    },
  )

  it('counts once what is told again, by the caller or by the queue', async () => {
    const { peer, client, keys } = host()
    peer.setLine('cut in the middle')
    await client.batch(mixed)
    peer.setLine('up')
    // The closed ones were refused; asked for again, they count, and are not taken back any more.
    expect((await client.batch(mixed.filter(({ verb }) => verb === 'consume'))).map(({ allowed }) => allowed)).toEqual([
      true,
      true,
      true,
      true,
    ])
    expect(await client.replay()).toBe(0)
    expect(keys()).toEqual(['a', 'b', 'c', 'f', 'g', 'h'])
  })

  it('has the declared answer of an item about which alone the server fails, and keeps the problem of one that is wrong', async () => {
    const { client, queue } = host({ meters: { open: 'open', poison: 'open' } })
    const results = await client.batch([
      item('consume', 'poison', 'a'),
      item('consume', 'unknown', 'b'),
      item('track', 'poison', 'c'),
      item('consume', 'shut', 'd'),
    ])
    expect(results).toMatchObject([
      { allowed: true, code: 'tollgate_unreachable' },
      { allowed: false, error: { code: 'unknown_meter', status: 422 } },
      { allowed: true, code: 'tollgate_unreachable' },
      { allowed: true, credits_used: 1 },
    ])
    expect((await queue.list()).map(keyOf)).toEqual(['a', 'c'])
  })

  it('has the declared answer of what the server left out', async () => {
    const { peer, queue } = host()
    const short = { ...peer.client, batch: async (items: readonly BatchItem[]) => peer.client.batch(items.slice(0, 1)) }
    const client = createResilientClient(short, { meters: { open: 'open' }, queue })
    const results = await client.batch([item('consume', 'open', 'a'), item('consume', 'open', 'b'), item('check', 'shut', 'c')])
    expect(results.map(({ allowed }) => allowed)).toEqual([true, true, false])
    expect((await queue.list()).map(keyOf)).toEqual(['b'])
  })

  it('keeps what has happened through a wrong key, which opens nothing', async () => {
    const { peer, client, queue, keys } = host()
    peer.setLine({ status: 401 })
    const results = await client.batch([item('consume', 'open', 'a'), item('track', 'open', 'b'), item('check', 'open', 'c')])
    expect(results).toMatchObject([{ error: { status: 401 } }, { allowed: true }, { error: { status: 401 } }])
    expect((await queue.list()).map(keyOf)).toEqual(['b'])
    await expect(client.batch([item('consume', 'open', 'a')])).rejects.toMatchObject({ status: 401 })
    peer.setLine({ status: 413 })
    await expect(client.batch([item('track', 'open', 'b')])).rejects.toMatchObject({ status: 413 })
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(keys()).toEqual(['b'])
  })

  it('lets nothing through that could not be written down, and loses nothing else for it', async () => {
    const memory = createMemoryQueue()
    const full: LocalQueue = {
      ...memory,
      append: (call) => (keyOf(call) === 'b' ? Promise.reject(new Error('ENOSPC')) : memory.append(call)),
    }
    const errors: unknown[] = []
    const { peer, client, keys } = host({ queue: full, onError: (error) => errors.push(error) })
    peer.setLine('cut before')
    const results = await client.batch([item('consume', 'open', 'a'), item('track', 'open', 'b'), item('track', 'open', 'c')])
    expect(results).toMatchObject([{ allowed: true }, { allowed: false, error: { status: 503 } }, { allowed: true }])
    expect(errors).toMatchObject([{ message: 'ENOSPC' }])
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(keys()).toEqual(['a', 'c'])
  })

  it('asks anew for what was taken back, under a key that another process finds as well', async () => {
    const { peer, client, keys } = host()
    const uses = [item('consume', 'shut', 'a'), item('consume', 'shut', 'b')]
    peer.setLine('cut in the middle')
    await client.batch(uses)
    peer.setLine('up')
    await client.replay()
    expect(keys()).toEqual([])
    const beside = createResilientClient(peer.client, { queue: createMemoryQueue() })
    for (const process of [beside, client]) {
      expect((await process.batch(uses)).map(({ allowed }) => allowed)).toEqual([true, true])
    }
    expect(keys()).toEqual(['a:again', 'b'])
  })

  it('carries a key of its own for an item that has none', async () => {
    const { peer, client } = host()
    peer.setLine('cut after')
    await client.batch([
      { verb: 'track', meter: 'open' },
      { verb: 'track', meter: 'open' },
    ])
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(2)
  })
})

import { describe, expect, it } from 'vitest'
import { createPeer } from '../test/usage-peer.ts'
import { TollgateUnreachableError } from './errors.ts'
import { createMemoryQueue, type LocalQueue } from './queue.ts'
import { createResilientClient } from './resilient.ts'
import type { UsageClient } from './usage.ts'

/** What can go on by itself has gone on. */
const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('a use refused without an answer', () => {
  const minute = { at: 0 }
  function closed(quota = 10) {
    minute.at = 0
    const peer = createPeer(quota)
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { queue, now: () => new Date(Date.UTC(2026, 2, 10, 9, minute.at)) })
    return { peer, queue, client }
  }

  it('is taken back if it was counted all the same', async () => {
    const { peer, client, queue } = closed()
    peer.setLine('cut after')
    expect((await client.consume({ meter: 'search' })).allowed).toBe(false)
    expect(peer.counted.size).toBe(1)
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(0)
    expect(await queue.list()).toEqual([])
  })

  it('is looked for until nothing of it can be under way any more', async () => {
    const { peer, client } = closed()
    peer.setLine('cut before')
    await client.consume({ meter: 'search', idempotencyKey: 'late' })
    peer.setLine('up')
    expect(await client.replay()).toBe(1)
    // What was on its way arrives.
    await peer.client.consume({ meter: 'search', idempotencyKey: 'late' })
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(0)
    peer.setLine('cut before')
    await client.consume({ meter: 'search', idempotencyKey: 'never' })
    peer.setLine('up')
    minute.at = 1
    expect(await client.replay()).toBe(0)
  })

  it('waits while the server cannot take it back', async () => {
    for (const line of ['cut before', { status: 503 }, { status: 500 }, { status: 401 }] as const) {
      const { peer, client, queue } = closed()
      peer.setLine('cut after')
      await client.consume({ meter: 'search' })
      peer.setLine(line)
      minute.at = 2
      expect(await client.replay()).toBe(1)
      expect(await queue.list()).toHaveLength(1)
      peer.setLine('up')
      expect(await client.replay()).toBe(0)
      expect(peer.counted.size).toBe(0)
    }
  })

  it('counts when it is asked for again by a later process, or while it is being taken back', async () => {
    const use = { meter: 'search', idempotencyKey: 'order-1' }
    for (const isUnderWay of [false, true]) {
      const { peer, client, queue } = closed()
      peer.setLine('cut after')
      await client.consume(use)
      peer.setLine('up')
      const asked = isUnderWay ? client : createResilientClient(peer.client, { queue })
      const replaying = isUnderWay ? client.replay() : Promise.resolve(0)
      expect((await asked.consume(use)).allowed).toBe(true)
      await replaying
      expect(await asked.replay()).toBe(0)
      expect(peer.counted.size).toBe(1)
    }
  })

  it('counts when it is asked for again under its key, before or after it was taken back', async () => {
    for (const replayed of [false, true]) {
      const { peer, client } = closed()
      const use = { meter: 'search', idempotencyKey: 'order-1' }
      peer.setLine('cut after')
      expect((await client.consume(use)).allowed).toBe(false)
      peer.setLine('up')
      if (replayed) await client.replay()
      expect((await client.consume(use)).allowed).toBe(true)
      expect((await client.consume(use)).allowed).toBe(true)
      expect(await client.replay()).toBe(0)
      expect(peer.counted.size).toBe(1)
    }
  })

  it('waits for a taking back that is under way, which would else take back what the repeat was permitted', async () => {
    const { peer, queue } = closed()
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const slow: UsageClient = { ...peer.client, correct: (input) => gate.then(() => peer.client.correct(input)) }
    const client = createResilientClient(slow, { queue })
    const use = { meter: 'search', idempotencyKey: 'order-1' }
    peer.setLine('cut after')
    await client.consume(use)
    peer.setLine('up')
    const replaying = client.replay()
    const asking = client.consume(use)
    await turn()
    open()
    expect((await asking).allowed).toBe(true)
    expect(await replaying).toBe(0)
    expect([...peer.counted.keys()]).toEqual([' order-1:again'])
  })

  it('is not taken back any more once it was asked for again, however long its queue takes to forget it', async () => {
    const { peer, queue } = closed()
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const slow: LocalQueue = { ...queue, remove: (call) => gate.then(() => queue.remove(call)) }
    const client = createResilientClient(peer.client, { queue: slow })
    const use = { meter: 'search', idempotencyKey: 'order-1' }
    peer.setLine('cut after')
    await client.consume(use)
    peer.setLine('up')
    const asking = client.consume(use)
    await turn()
    const replaying = client.replay()
    await turn()
    open()
    expect((await asking).allowed).toBe(true)
    expect(await replaying).toBe(0)
    expect([...peer.counted.keys()]).toEqual([' order-1'])
  })

  it('is not taken back where it was asked for again while others were', async () => {
    const { peer, queue } = closed()
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const slow: UsageClient = { ...peer.client, correct: (input) => gate.then(() => peer.client.correct(input)) }
    const client = createResilientClient(slow, { queue })
    const uses = ['a', 'b'].map((idempotencyKey) => ({ meter: 'search', idempotencyKey }))
    peer.setLine('cut after')
    for (const use of uses) await client.consume(use)
    peer.setLine('up')
    const replaying = client.replay()
    await turn()
    expect((await client.consume(uses[1]!)).allowed).toBe(true)
    open()
    expect(await replaying).toBe(0)
    expect([...peer.counted.keys()]).toEqual([' b'])
  })

  it('leaves nothing behind where no connection came about, so that nothing can have arrived', async () => {
    const { peer, client, queue } = closed()
    const unconnected = new TollgateUnreachableError('refused', { mayHaveArrived: false })
    const off = createResilientClient({ ...peer.client, consume: () => Promise.reject(unconnected) }, { queue })
    expect((await off.consume({ meter: 'search' })).allowed).toBe(false)
    expect(await queue.list()).toEqual([])
    expect(await client.replay()).toBe(0)
  })

  it('is refused also where that cannot be written down', async () => {
    const { peer } = closed()
    const errors: unknown[] = []
    const full: LocalQueue = { ...createMemoryQueue(), append: () => Promise.reject(new Error('ENOSPC')) }
    const client = createResilientClient(peer.client, { queue: full, onError: (error) => errors.push(error) })
    peer.setLine('cut before')
    expect((await client.consume({ meter: 'search' })).allowed).toBe(false)
    expect(errors).toMatchObject([{ message: 'ENOSPC' }])
  })
})

import { mkdtempSync, rmSync, appendFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createPeer } from '../test/usage-peer.ts'
import { createFileQueue } from './file-queue.ts'
import { createMemoryQueue, type LocalQueue, type QueuedCall } from './queue.ts'
import { createResilientClient } from './resilient.ts'
import { createTollgateClient } from './usage.ts'

const directory = mkdtempSync(join(tmpdir(), 'tollgate-queue-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const metersOf = async (queue: LocalQueue) => (await queue.list()).map((call) => ('meter' in call ? call.meter : call.kind))

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

  it('lets nothing through that could not be written down', async () => {
    const peer = createPeer(10)
    const full: LocalQueue = { ...createMemoryQueue(), append: () => Promise.reject(new Error('ENOSPC')) }
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: full })
    peer.setLine('cut before')
    await expect(client.consume({ meter: 'search' })).rejects.toThrow('ENOSPC')
    await expect(client.track({ meter: 'search' })).rejects.toThrow('ENOSPC')
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
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue })
    peer.setLine('cut before')
    const held = await client.reserve({ meter: 'search', quantity: 5, idempotencyKey: 'order-1' })
    const dropped = await client.reserve({ meter: 'search' })
    peer.setLine('up')
    await client.settle(held.reservation_id!, { quantity: 3 })
    // Under the caller's own key the reservation may have arrived, which is no use.
    expect(await queue.list()).toMatchObject([{ idempotencyKey: 'order-1:settled', quantity: 3 }])
    await client.release(dropped.reservation_id!)
    await client.replay()
    expect([...peer.counted.values()].map((use) => use.quantity)).toEqual([3])
  })
})

describe('while the server is known to be away', () => {
  it('each use has its declared answer at once, without waiting for an answer of its own', async () => {
    let sent = 0
    const silent = (): Promise<Response> => {
      sent += 1
      return new Promise(() => undefined)
    }
    const direct = createTollgateClient({
      url: 'http://away',
      apiKey: 'tg_key',
      deadlineMs: 50,
      retries: 0,
      awayMs: 60_000,
      fetch: silent,
    })
    const queue = createMemoryQueue()
    const client = createResilientClient(direct, { meters: { open: 'open' }, queue })
    for (let times = 0; times < 20; times += 1) {
      expect(await client.consume({ meter: 'open' })).toMatchObject({ allowed: true, code: 'tollgate_unreachable' })
      expect(await client.consume({ meter: 'shut' })).toMatchObject({ allowed: false, code: 'tollgate_unreachable' })
    }
    expect(sent).toBe(1)
    // What was never sent is not looked for at the server either.
    expect(await metersOf(queue)).toEqual(Array.from({ length: 20 }, () => 'open'))
  })
})

describe('held work', () => {
  it.each(['cut before', 'cut after', { status: 503 }, { status: 401 }] as const)(
    'that is settled while the server is away (%j) is counted once when it is back',
    async (line) => {
      const peer = createPeer(10)
      const queue = createMemoryQueue()
      const client = createResilientClient(peer.client, { queue })
      const held = await client.reserve({ meter: 'search', quantity: 5 })
      peer.setLine(line)
      expect(await client.settle(held.reservation_id!, { quantity: 3 })).toMatchObject({ allowed: true, credits_used: 3 })
      expect(await client.replay()).toBe(1)
      peer.setLine('up')
      expect(await client.replay()).toBe(0)
      expect(await client.replay()).toBe(0)
      expect([...peer.counted.values()].map(({ quantity }) => quantity)).toEqual([3])
      expect(await queue.list()).toEqual([])
    },
  )

  it('that is given back while the server is away is left to end by itself', async () => {
    const peer = createPeer(10)
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { queue })
    const held = await client.reserve({ meter: 'search' })
    peer.setLine('cut before')
    expect(await client.release(held.reservation_id!)).toMatchObject({ allowed: true })
    expect(await queue.list()).toEqual([])
  })

  it('is counted under a key of the longest length too, and so is a use that had not fitted', async () => {
    const peer = createPeer(0)
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue: createMemoryQueue() })
    peer.setLine('cut before')
    const keys = ['j', 'k'].map((letter) => letter.repeat(255))
    for (const idempotencyKey of keys) {
      const held = await client.reserve({ meter: 'search', quantity: 5, idempotencyKey })
      await client.settle(held.reservation_id!, { quantity: 3 })
    }
    peer.setLine('cut after')
    await client.consume({ meter: 'search', idempotencyKey: 'l'.repeat(255) })
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(3)
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
    const errors: unknown[] = []
    const client = createResilientClient(peer.client, {
      whenUnreachable: 'open',
      queue: createMemoryQueue(),
      onError: (error) => errors.push(error),
    })
    peer.setLine({ status: 503 })
    expect(await client.consume({ meter: 'search' })).toMatchObject({ allowed: true, code: 'tollgate_unreachable' })
    peer.setLine({ status: 401 })
    await expect(client.consume({ meter: 'search' })).rejects.toMatchObject({ status: 401 })
    expect(await client.track({ meter: 'search' })).toMatchObject({ allowed: true })
    // Somebody has to mend the key, and is told so; that the server is away mends itself.
    expect(errors).toMatchObject([{ status: 401 }])
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(2)
  })

  it('is put aside where it is wrong in itself, and does not keep what is behind it', async () => {
    const peer = createPeer(10)
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue })
    peer.setLine('cut before')
    for (const meter of ['unknown', 'poison', 'search']) await client.consume({ meter })
    peer.setLine('up')
    expect(await client.replay()).toBe(1)
    expect(await metersOf(queue)).toEqual(['poison'])
    expect(await queue.parked()).toMatchObject([{ meter: 'unknown', parked: { status: 422, error: 'unknown_meter' } }])
    expect([...peer.counted.values()].map(({ meter }) => meter)).toEqual(['search'])
  })

  it('is put aside where its key is that of another use, and not taken for that one', async () => {
    const peer = createPeer(10)
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { whenUnreachable: 'open', queue })
    await client.track({ meter: 'search', idempotencyKey: 'order-1', occurredAt: '2026-03-10T09:00:00.000Z' })
    peer.setLine('cut before')
    await client.consume({ meter: 'search', idempotencyKey: 'order-1' })
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(await queue.parked()).toMatchObject([{ idempotencyKey: 'order-1', parked: { status: 409 } }])
  })

  it('is not given up for a few failures, however long they lie apart', async () => {
    const peer = createPeer(10)
    const queue = createMemoryQueue()
    let hour = 0
    const client = createResilientClient(peer.client, { queue, now: () => at(hour) })
    peer.setLine('cut before')
    await client.track({ meter: 'search' })
    peer.setLine({ status: 500 })
    for (; hour < 9; hour += 1) expect(await client.replay()).toBe(1)
    expect(await queue.parked()).toEqual([])
    expect(await client.replay()).toBe(0)
    expect(await queue.parked()).toHaveLength(1)
  })

  it('starts anew to count failures once the server has taken it', async () => {
    const peer = createPeer(10)
    const queue = createMemoryQueue()
    let hour = 0
    const client = createResilientClient(peer.client, { queue, now: () => at(hour) })
    const trackWhileAway = async () => {
      peer.setLine('cut before')
      await client.track({ meter: 'search', idempotencyKey: 'order-1' })
      peer.setLine({ status: 500 })
    }
    await trackWhileAway()
    for (; hour < 9; hour += 1) expect(await client.replay()).toBe(1)
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    await trackWhileAway()
    expect(await client.replay()).toBe(1)
    expect(await queue.parked()).toEqual([])
  })

  it('belongs to one organization: two may use the same key', async () => {
    const path = join(directory, 'organizations.ndjson')
    for (const make of [createMemoryQueue, () => createFileQueue(path)]) {
      const peer = createPeer(10)
      const queue = make()
      const client = createResilientClient(peer.client, { queue })
      peer.setLine('cut before')
      for (const organizationId of ['a', 'b']) {
        await client.track({ meter: 'search', idempotencyKey: 'order-1', organizationId })
      }
      expect(await queue.list()).toHaveLength(2)
      peer.setLine('up')
      expect(await client.replay()).toBe(0)
      expect([...peer.counted.values()].map(({ organizationId }) => organizationId)).toEqual(['a', 'b'])
      expect(await make().list()).toEqual([])
    }
  })

  it('is put aside where the server fails about it for an hour, told, kept, and counted when it is queued again', async () => {
    const path = join(directory, 'parked.ndjson')
    for (const make of [createMemoryQueue, () => createFileQueue(path)]) {
      const peer = createPeer(10)
      const queue = make()
      const told: QueuedCall[] = []
      let minute = 0
      const client = createResilientClient(peer.client, {
        queue,
        now: () => new Date(Date.UTC(2026, 2, 10, 9, minute)),
        onError: (_error, call) => void told.push(call!),
        onParked: (call) => void told.push(call),
      })
      peer.setLine('cut before')
      await client.track({ meter: 'search' })
      peer.setLine({ status: 500 })
      // Ten times within the hour may be an outage of the server's own.
      for (; minute < 59; minute += 5) expect(await client.replay()).toBe(1)
      expect(await queue.parked()).toEqual([])
      expect(await client.replay()).toBe(0)
      expect(told.slice(-2)).toMatchObject([{ meter: 'search' }, { parked: { tries: 13, status: 500 } }])
      peer.setLine('up')
      expect([await client.replay(), peer.counted.size]).toEqual([0, 0])
      const [parked] = await queue.parked()
      await queue.append(parked!)
      expect(await queue.parked()).toEqual([])
      expect([await client.replay(), peer.counted.size]).toEqual([0, 1])
      expect([await queue.list(), await queue.parked()]).toEqual([[], []])
    }
  })

  it('is counted also where the report of an error fails itself', async () => {
    const peer = createPeer(10)
    const client = createResilientClient(peer.client, {
      queue: createMemoryQueue(),
      onError() {
        throw new Error('The log is full.')
      },
      onParked() {
        throw new Error('The log is full.')
      },
    })
    peer.setLine({ status: 401 })
    await client.track({ meter: 'search' })
    expect(await client.replay()).toBe(1)
    peer.setLine('up')
    expect(await client.replay()).toBe(0)
    expect(peer.counted.size).toBe(1)
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
  it('keeps for a later process what was put aside', async () => {
    const path = join(directory, 'aside.ndjson')
    const call = { meter: 'search', idempotencyKey: 'a', organizationId: 'o' }
    const parked = { ...call, parked: { at: '2026-03-10T09:00:00Z', tries: 1, status: 422, error: 'unknown_meter' } }
    const queue = createFileQueue(path)
    await queue.append(call)
    await queue.park(parked)
    const later = createFileQueue(path)
    expect([await later.list(), await later.parked()]).toEqual([[], [parked]])
    await later.remove(call)
    expect(await createFileQueue(path).parked()).toEqual([])
  })

  it('gives a later process what an earlier one had not yet sent, without a line that was cut short', async () => {
    const path = join(directory, 'uses.ndjson')
    const earlier = createFileQueue(path)
    await earlier.append({ meter: 'search', idempotencyKey: 'a' })
    await earlier.append({ meter: 'search', idempotencyKey: 'b' })
    await earlier.remove({ meter: 'search', idempotencyKey: 'a' })
    appendFileSync(path, '{"add":{"meter":"sea')
    const later = createFileQueue(path)
    expect(await later.list()).toEqual([{ meter: 'search', idempotencyKey: 'b' }])
    await later.remove({ meter: 'search', idempotencyKey: 'b' })
    expect(await createFileQueue(path).list()).toEqual([])
  })
})

import { mkdtempSync, rmSync, appendFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { TollgateUnreachableError } from './errors.ts'
import { createFileQueue } from './file-queue.ts'
import { createMemoryQueue } from './queue.ts'
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

/** A server with a quota, whose line can be cut before or after a request arrives. */
function createPeer(quota: number) {
  const counted = new Map<string, UsageInput>()
  const first = new Map<string, UsageAnswer>()
  let line: 'up' | 'cut before' | 'cut after' = 'up'
  function call(input: UsageInput, tracked: boolean): Promise<UsageAnswer> {
    if (line === 'cut before') return Promise.reject(new TollgateUnreachableError('no answer'))
    const key = input.idempotencyKey!
    const decided = first.get(key) ?? answer(tracked || counted.size < quota)
    first.set(key, decided)
    if (decided.allowed) counted.set(key, input)
    return line === 'cut after' ? Promise.reject(new TollgateUnreachableError('no answer')) : Promise.resolve(decided)
  }
  const refuse = () => Promise.reject(new Error('not part of this peer'))
  const client: UsageClient = {
    check: (input) => call({ ...input, idempotencyKey: 'check' }, false),
    consume: (input) => call(input, false),
    track: (input) => call(input, true),
    reserve: (input) => call(input, false),
    settle: refuse,
    release: refuse,
    batch: refuse,
    balances: refuse,
    usage: refuse,
    gate: refuse,
  }
  return { client, counted, setLine: (next: typeof line) => void (line = next) }
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

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createCallCounter, type DroppedCalls } from './call-counter.ts'
import { TollgateError } from './errors.ts'
import type { BatchItem, BatchResult, UsageAnswer } from './usage.ts'

const fine: UsageAnswer = {
  allowed: true,
  balance: null,
  credits_used: 1,
  total_credits_used: 1,
  quota_remaining: null,
  quota_exceeded: false,
}

/** A server that remembers each key once, and can be away. */
function createPeer() {
  const counted = new Map<string, BatchItem>()
  const sent: number[] = []
  let away: 'no' | 'before' | 'after' = 'no'
  /** By tenant: the status that its items get instead of being counted. */
  const refused = new Map<string, number>()
  const resultOf = (item: BatchItem): BatchResult => {
    const status = refused.get(item.organizationId!)
    if (status !== undefined) return { allowed: false, error: { title: 'refused', code: 'refused', status } }
    counted.set(item.idempotencyKey!, item)
    return fine
  }
  return {
    refused,
    counted,
    sent,
    setAway: (how: typeof away) => void (away = how),
    total: (tenant: string) =>
      [...counted.values()]
        .filter((item) => item.organizationId === tenant)
        .reduce((sum, item) => sum + Number(item.quantity), 0),
    batch: async (items: readonly BatchItem[]) => {
      sent.push(items.length)
      if (away === 'before') throw new Error('away')
      const results = items.map(resultOf)
      if (away === 'after') throw new Error('the answer was lost')
      return results
    },
  }
}

const call = (path: string, headers: Record<string, string> = {}) => ({
  url: new URL(path, 'http://host'),
  headers: new Headers(headers),
})

describe('the call counter', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('KF-10 sends after a hundred calls, without waiting for the time', async () => {
    const peer = createPeer()
    const counter = createCallCounter({ client: peer })
    for (let i = 0; i < 99; i++) counter.count(call('/cases?tenant_id=a'))
    await vi.advanceTimersByTimeAsync(0)
    expect(peer.sent).toEqual([])
    counter.count(call('/cases?tenant_id=b'))
    await vi.advanceTimersByTimeAsync(0)
    expect([peer.total('a'), peer.total('b')]).toEqual([99, 1])
    await counter.stop()
  })

  it('KF-10 sends a lone call after a second, so that none is lost on a quiet server', async () => {
    const peer = createPeer()
    const counter = createCallCounter({ client: peer })
    counter.count(call('/cases', { 'x-tenant-id': 'a' }))
    await vi.advanceTimersByTimeAsync(1_000)
    expect(peer.total('a')).toBe(1)
    await counter.stop()
  })

  it('KF-10 sends what is left when it stops', async () => {
    const peer = createPeer()
    const counter = createCallCounter({ client: peer })
    counter.count(call('/tenants/a/cases'))
    await counter.stop()
    expect(peer.total('a')).toBe(1)
  })

  it('KF-10 keeps what the server could not take for the moment, and tells what it never will', async () => {
    const peer = createPeer()
    const errors: unknown[] = []
    const counter = createCallCounter({ client: peer, onError: (error) => errors.push(error) })
    peer.refused.set('busy', 503).set('nobody', 404)
    for (const tenant of ['busy', 'nobody', 'fine', 'busy']) counter.count(call(`/cases?tenant_id=${tenant}`))
    await vi.advanceTimersByTimeAsync(1_000)
    expect([peer.total('busy'), peer.total('nobody'), peer.total('fine')]).toEqual([0, 0, 1])
    expect(errors).toMatchObject([{ status: 503 }, { status: 404 }])
    peer.refused.clear()
    await vi.advanceTimersByTimeAsync(1_000)
    expect([peer.total('busy'), peer.total('nobody'), peer.total('fine')]).toEqual([2, 0, 1])
    await counter.stop()
  })

  it('counts once what had to be sent twice, whether or not the first attempt arrived', async () => {
    for (const how of ['before', 'after'] as const) {
      const peer = createPeer()
      const errors: unknown[] = []
      const counter = createCallCounter({ client: peer, onError: (error) => errors.push(error) })
      counter.count(call('/cases?tenant_id=a'))
      peer.setAway(how)
      await vi.advanceTimersByTimeAsync(1_000)
      peer.setAway('no')
      counter.count(call('/cases?tenant_id=a'))
      await vi.advanceTimersByTimeAsync(1_000)
      expect(errors).toHaveLength(1)
      expect(peer.total('a')).toBe(2)
      await counter.stop()
    }
  })

  it('KF-10 sends each count with the time of its first call, however late it arrives', async () => {
    vi.setSystemTime('2026-03-31T23:59:59.500Z')
    const peer = createPeer()
    const counter = createCallCounter({ client: peer })
    counter.count(call('/cases?tenant_id=a'))
    peer.setAway('before')
    await vi.advanceTimersByTimeAsync(5_000)
    peer.setAway('no')
    await counter.stop()
    expect([...peer.counted.values()].map(({ occurredAt }) => occurredAt)).toEqual(['2026-03-31T23:59:59.500Z'])
  })

  it('keeps what the server does not know the key for, asks ever less often, and sends it once that is mended', async () => {
    const peer = createPeer()
    const batch = vi.fn<typeof peer.batch>(() =>
      Promise.reject(new TollgateError(401, { title: 'Nobody is authenticated', code: 'unauthenticated' })),
    )
    const client = { batch: batch as typeof peer.batch }
    const dropped: DroppedCalls[] = []
    const counter = createCallCounter({
      client: { batch: (items) => client.batch(items) },
      onDropped: (one) => dropped.push(one),
    })
    for (let minute = 0; minute < 30; minute += 1) {
      counter.count(call('/cases?tenant_id=a'))
      await vi.advanceTimersByTimeAsync(60_000)
    }
    expect(batch.mock.calls.length).toBeLessThan(40)
    expect(dropped).toEqual([])
    client.batch = peer.batch
    await vi.advanceTimersByTimeAsync(60_000)
    expect(peer.total('a')).toBe(30)
    await counter.stop()
  })

  it('keeps no more than it may, drops the oldest, and says how many calls that are', async () => {
    const peer = createPeer()
    const dropped: DroppedCalls[] = []
    const counter = createCallCounter({ client: peer, maxWaiting: 3, onDropped: (one) => dropped.push(one) })
    peer.setAway('before')
    for (const tenant of ['a', 'a', 'b', 'c', 'd', 'e']) {
      counter.count(call(`/cases?tenant_id=${tenant}`))
    }
    await counter.flush()
    expect(dropped).toMatchObject([{ calls: 3, items: [{ organizationId: 'a', quantity: 2 }, { organizationId: 'b' }] }])
    peer.setAway('no')
    await counter.stop()
    expect(['a', 'b', 'c', 'd', 'e'].map(peer.total)).toEqual([0, 0, 1, 1, 1])
  })

  it('keeps what did not fit the first request while the server is away', async () => {
    const peer = createPeer()
    const counter = createCallCounter({ client: peer, batchSize: 5_000 })
    peer.setAway('before')
    const tenants = Array.from({ length: 1_001 }, (_, index) => `t${index}`)
    for (const tenant of tenants) counter.count(call(`/cases?tenant_id=${tenant}`))
    await counter.flush()
    peer.setAway('no')
    await counter.stop()
    expect(tenants.filter((tenant) => peer.total(tenant) !== 1)).toEqual([])
  })

  it('gives up what the server always fails about or refuses, tells it, and lets it stand in nothing’s way', async () => {
    const peer = createPeer()
    const dropped: DroppedCalls[] = []
    const counter = createCallCounter({ client: peer, onDropped: (one) => dropped.push(one) })
    peer.refused.set('poison', 500)
    counter.count(call('/cases?tenant_id=poison'))
    for (let round = 0; round < 10; round += 1) {
      counter.count(call('/cases?tenant_id=fine'))
      await counter.flush()
    }
    expect(peer.total('fine')).toBe(10)
    expect(dropped).toMatchObject([{ calls: 1, items: [{ organizationId: 'poison' }], error: { status: 500 } }])
    await counter.stop()
    expect(dropped).toHaveLength(1)
  })

  it('asks a bounded number of times where every body is refused, loses nothing, and sends all of it once that is mended', async () => {
    // The last refusal is that of several, or of one.
    for (const [status, count] of [
      [400, 1_500],
      [404, 1_500],
      [413, 600],
      [422, 1_500],
    ] as const) {
      const peer = createPeer()
      const refuseAll = (): Promise<BatchResult[]> => Promise.reject(new TollgateError(status, { title: 'no', code: 'unknown' }))
      const refusing = vi.fn<typeof peer.batch>(refuseAll)
      const client = { batch: refusing as typeof peer.batch }
      const dropped: DroppedCalls[] = []
      const counter = createCallCounter({
        client: { batch: (items) => client.batch(items) },
        batchSize: 5_000,
        onDropped: (one) => dropped.push(one),
      })
      const tenants = Array.from({ length: count }, (_, index) => `t${index}`)
      for (const tenant of tenants) counter.count(call(`/cases?tenant_id=${tenant}`))
      await counter.flush()
      const perRound = refusing.mock.calls.length
      expect(perRound).toBeLessThanOrEqual(32)
      // Ten minutes, with pauses that grow to a minute.
      await vi.advanceTimersByTimeAsync(600_000)
      expect(refusing.mock.calls.length).toBeLessThanOrEqual(16 * perRound)
      client.batch = peer.batch
      await counter.flush()
      expect(tenants.filter((tenant) => peer.total(tenant) !== 1)).toEqual([])
      expect(dropped).toEqual([])
      await counter.stop()
    }
  })

  it('finds many that are refused by themselves a part at a time, drops those alone, and nothing for a server that takes nothing', async () => {
    const peer = createPeer()
    const isPoison = ({ organizationId }: BatchItem) => organizationId!.startsWith('4242')
    const batch = vi.fn<typeof peer.batch>((items) => {
      if (items.some(isPoison)) return Promise.reject(new TollgateError(422, { title: 'no', code: 'invalid_request' }))
      return peer.batch(items)
    })
    const dropped: DroppedCalls[] = []
    const counter = createCallCounter({ client: { batch }, batchSize: 5_000, onDropped: (one) => dropped.push(one) })
    const poison = Array.from({ length: 40 }, (_, index) => `4242${index}`)
    const fine = Array.from({ length: 900 }, (_, index) => `t${index}`)
    for (const tenant of poison) counter.count(call(`/cases?tenant_id=${tenant}`))
    await counter.flush()
    expect(dropped).toEqual([])
    for (const tenant of fine) counter.count(call(`/cases?tenant_id=${tenant}`))
    let before = batch.mock.calls.length
    for (let round = 0; round < 12; round += 1) {
      counter.count(call('/cases?tenant_id=later'))
      await counter.flush()
      expect(batch.mock.calls.length - before).toBeLessThanOrEqual(64)
      before = batch.mock.calls.length
    }
    expect([peer.total('later'), fine.filter((tenant) => peer.total(tenant) !== 1)]).toEqual([12, []])
    const lost = dropped.flatMap(({ items }) => items.map(({ organizationId }) => organizationId))
    expect([lost.length, new Set(lost)]).toEqual([poison.length, new Set(poison)])
    await counter.stop()
    expect(dropped.every(({ error }) => error instanceof TollgateError && error.status === 422)).toBe(true)
  })

  it('loses nobody’s calls for those of one tenant for which the server refuses the whole body', async () => {
    for (const status of [400, 413, 422]) {
      const peer = createPeer()
      const batch = async (items: readonly BatchItem[]) => {
        if (items.some(({ organizationId }) => organizationId === '4242424242424242')) {
          throw new TollgateError(status, { title: 'no', code: 'invalid_request' })
        }
        return peer.batch(items)
      }
      const dropped: DroppedCalls[] = []
      const counter = createCallCounter({ client: { batch }, onDropped: (one) => dropped.push(one) })
      const tenants = ['a', 'b', '4242424242424242', 'c', 'd']
      for (const tenant of [...tenants, 'a']) counter.count(call(`/cases?tenant_id=${tenant}`))
      await counter.flush()
      expect(tenants.map(peer.total)).toEqual([2, 1, 0, 1, 1])
      expect(dropped).toMatchObject([{ calls: 1, items: [{ organizationId: '4242424242424242' }], error: { status } }])
      await counter.stop()
    }
  })

  it('keeps what is left of a body that was refused whole where the server goes away before its second half', async () => {
    const peer = createPeer()
    const batch = async (items: readonly BatchItem[]) => {
      if (items.length > 2) throw new TollgateError(413, { title: 'too large', code: 'unknown' })
      const results = await peer.batch(items)
      peer.setAway('before')
      return results
    }
    const counter = createCallCounter({ client: { batch } })
    const tenants = ['a', 'b', 'c', 'd']
    for (const tenant of tenants) counter.count(call(`/cases?tenant_id=${tenant}`))
    await counter.flush()
    expect(tenants.map(peer.total)).toEqual([1, 1, 0, 0])
    peer.setAway('no')
    await counter.stop()
    expect(tenants.map(peer.total)).toEqual([1, 1, 1, 1])
  })

  it('goes on where a report fails itself', async () => {
    const peer = createPeer()
    const full = () => {
      throw new Error('The log is full.')
    }
    const counter = createCallCounter({ client: peer, onError: full, onDropped: full })
    peer.setAway('before')
    counter.count(call('/cases?tenant_id=a'))
    await counter.flush()
    peer.setAway('no')
    peer.refused.set('nobody', 404)
    for (const tenant of ['nobody', 'a']) counter.count(call(`/cases?tenant_id=${tenant}`))
    await counter.flush()
    expect(peer.total('a')).toBe(2)
    await counter.stop()
  })

  it('says what it could not send before its end', async () => {
    const peer = createPeer()
    const dropped: DroppedCalls[] = []
    const counter = createCallCounter({ client: peer, onDropped: (one) => dropped.push(one) })
    for (let i = 0; i < 5; i += 1) counter.count(call('/cases?tenant_id=a'))
    peer.setAway('before')
    await counter.stop()
    expect(dropped).toMatchObject([{ calls: 5, items: [{ organizationId: 'a', quantity: 5 }] }])
  })

  it('KF-10 takes the first place that names a tenant, and a path as it is meant', async () => {
    const peer = createPeer()
    const counter = createCallCounter({ client: peer })
    counter.count(call('/tenants/b/cases?tenant_id=', { 'x-tenant-id': 'a' }))
    counter.count(call('/tenants/b/cases?tenant_id=', { 'x-tenant-id': '' }))
    counter.count(call('/tenants/J%C3%B6rg/cases'))
    counter.count(call('/tenants/100%/cases'))
    expect(counter.count(call('/cases?tenant_id=', { 'x-tenant-id': '' }))).toBe(false)
    await counter.stop()
    expect([...peer.counted.values()].map(({ organizationId }) => organizationId)).toEqual(['a', 'b', 'Jörg', '100%'])
  })

  it('KF-10 leaves out health and docs, and what names no tenant', () => {
    const counter = createCallCounter({ client: createPeer() })
    for (const path of ['/health', '/healthz?tenant_id=a', '/docs/x?tenant_id=a', '/cases'])
      expect(counter.count(call(path))).toBe(false)
    expect(counter.count(call('/healthy?tenant_id=a'))).toBe(true)
  })
})

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createCallCounter } from './call-counter.ts'
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

  it('KF-10 leaves out health and docs, and what names no tenant', () => {
    const counter = createCallCounter({ client: createPeer() })
    for (const path of ['/health', '/healthz?tenant_id=a', '/docs/x?tenant_id=a', '/cases'])
      expect(counter.count(call(path))).toBe(false)
    expect(counter.count(call('/healthy?tenant_id=a'))).toBe(true)
  })
})

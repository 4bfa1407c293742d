import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createCallCounter } from './call-counter.ts'
import type { BatchItem } from './usage.ts'

/** A server that remembers each key once, and can be away. */
function createPeer() {
  const counted = new Map<string, BatchItem>()
  const sent: number[] = []
  let away: 'no' | 'before' | 'after' = 'no'
  return {
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
      for (const item of items) counted.set(item.idempotencyKey!, item)
      if (away === 'after') throw new Error('the answer was lost')
      return []
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

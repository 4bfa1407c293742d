import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createCoalescingClient } from './coalesce.ts'
import { TollgateError, TollgateUnreachableError } from './errors.ts'
import { createMemoryQueue } from './queue.ts'
import { createResilientClient } from './resilient.ts'
import type { BatchItem, BatchResult, UsageAnswer, UsageClient } from './usage.ts'

/** A server that answers batches one at a time, when told to. */
function createPeer() {
  const batches: (readonly BatchItem[])[] = []
  const open: (() => void)[] = []
  const refuse = () => Promise.reject(new Error('not part of this peer'))
  const batch = (items: readonly BatchItem[]) =>
    new Promise<readonly BatchResult[]>((resolve) => {
      batches.push(items)
      open.push(() => resolve(items.map(resultOf)))
    })
  const client: UsageClient = {
    batch,
    check: refuse,
    track: refuse,
    consume: refuse,
    reserve: refuse,
    settle: refuse,
    release: refuse,
    correct: refuse,
    balances: refuse,
    usage: refuse,
    gate: refuse,
    entitlement: refuse,
    entitlements: refuse,
  }
  return { client, batches, answerNext: () => open.shift()!() }
}

function resultOf(item: BatchItem): BatchResult {
  if (item.meter === 'unknown') return { allowed: false, error: { title: 'No such meter', code: 'unknown_meter', status: 422 } }
  const answer: UsageAnswer = {
    allowed: true,
    balance: null,
    credits_used: item.quantity ?? 1,
    total_credits_used: 0,
    quota_remaining: null,
    quota_exceeded: false,
  }
  return answer
}

/** Lets everything that is ready run. */
const settle = () =>
  new Promise((resolve) => {
    setImmediate(resolve)
  })

describe('the coalescing client', () => {
  it('sends a lone call at once, and what gathers meanwhile together', async () => {
    const peer = createPeer()
    const client = createCoalescingClient(peer.client)
    const first = client.consume({ meter: 'search', quantity: 1 })
    await settle()
    const others = [2, 3, 4].map((quantity) => client.track({ meter: 'search', quantity }))
    await settle()
    expect(peer.batches.map((items) => items.length)).toEqual([1])
    peer.answerNext()
    expect((await first).credits_used).toBe(1)
    await settle()
    expect(peer.batches.map((items) => items.length)).toEqual([1, 3])
    peer.answerNext()
    expect((await Promise.all(others)).map((answer) => answer.credits_used)).toEqual([2, 3, 4])
  })

  it('gives each call its own answer: a wrong item fails alone', async () => {
    const peer = createPeer()
    const client = createCoalescingClient(peer.client)
    const [good, wrong] = [client.consume({ meter: 'search' }), client.consume({ meter: 'unknown' })]
    const failed = wrong.catch((error: unknown) => error)
    await settle()
    peer.answerNext()
    expect((await good).allowed).toBe(true)
    expect(await failed).toBeInstanceOf(TollgateError)
  })

  it('sends no more bytes than a request holds, and what is larger by itself alone', async () => {
    const sizes: number[] = []
    const { client: peer } = createPeer()
    const batch = async (items: readonly BatchItem[]) => {
      const bytes = new TextEncoder().encode(JSON.stringify({ items })).byteLength
      sizes.push(items.length)
      if (bytes > 4 * 1_024 * 1_024) throw new TollgateError(413, { title: 'too large', code: 'payload_too_large' })
      return items.map(resultOf)
    }
    const client = createCoalescingClient({ ...peer, batch })
    // Three bytes a character.
    const text = '€'.repeat(3_400)
    const answers = await Promise.all(Array.from({ length: 600 }, () => client.track({ meter: 'search', properties: { text } })))
    expect(answers).toHaveLength(600)
    expect([sizes.length, Math.max(...sizes) < 400]).toEqual([2, true])
    const huge = client.track({ meter: 'search', properties: { text: '€'.repeat(2_000_000) } }).catch((error: unknown) => error)
    await expect(client.track({ meter: 'search' })).resolves.toMatchObject({ allowed: true })
    expect(await huge).toMatchObject({ status: 413 })
  })

  it('sends in halves what is too large for what stands before the server', async () => {
    const { client: peer } = createPeer()
    const batch = async (items: readonly BatchItem[]) => {
      if (items.length > 3) throw new TollgateError(413, { title: 'too large', code: 'unknown' })
      return items.map(resultOf)
    }
    const client = createCoalescingClient({ ...peer, batch })
    const answers = await Promise.all(Array.from({ length: 10 }, (_, quantity) => client.track({ meter: 'search', quantity })))
    expect(answers.map(({ credits_used }) => credits_used)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('answers with the error only the call for which the server refuses the whole body', async () => {
    const { client: peer } = createPeer()
    for (const status of [400, 422]) {
      const batch = async (items: readonly BatchItem[]) => {
        if (items.some(({ quantity }) => quantity === 3))
          throw new TollgateError(status, { title: 'no', code: 'invalid_request' })
        return items.map(resultOf)
      }
      const client = createCoalescingClient({ ...peer, batch })
      const ask = async (quantity: number) => {
        try {
          return (await client.track({ meter: 'search', quantity })).credits_used
        } catch (error) {
          return error
        }
      }
      expect(await Promise.all([0, 1, 2, 3, 4, 5, 6].map(ask))).toMatchObject([0, 1, 2, { status }, 4, 5, 6])
    }
  })

  it('sends no more than a batch holds', async () => {
    const peer = createPeer()
    const client = createCoalescingClient(peer.client, { maxItems: 2 })
    const answers = [1, 2, 3].map(() => client.check({ meter: 'search' }))
    await settle()
    peer.answerNext()
    await settle()
    peer.answerNext()
    await Promise.all(answers)
    expect(peer.batches.map((items) => items.length)).toEqual([2, 1])
  })

  it('sends what fills further batches beside the first, four at once, and what does not with the next', async () => {
    for (const options of [{ maxItems: 2 }, { maxBytes: 400 }]) {
      const peer = createPeer()
      const client = createCoalescingClient(peer.client, options)
      const answers = Array.from({ length: 11 }, () => client.track({ meter: 'search' }))
      await settle()
      expect(peer.batches.map((items) => items.length)).toEqual([2, 2, 2, 2])
      peer.answerNext()
      await settle()
      expect(peer.batches.map((items) => items.length)).toEqual([2, 2, 2, 2, 2])
      for (let answered = 0; answered < 4; answered += 1) {
        expect(peer.batches).toHaveLength(5)
        peer.answerNext()
        await settle()
      }
      expect(peer.batches.map((items) => items.length)).toEqual([2, 2, 2, 2, 2, 1])
      peer.answerNext()
      expect(await Promise.all(answers)).toHaveLength(11)
    }
  })

  it('is given to a resilient client, and refuses one: in a batch no meter has its declared answer', () => {
    const { client } = createPeer()
    const resilient = createResilientClient(client, { whenUnreachable: 'open', queue: createMemoryQueue() })
    // @ts-expect-error The types say it too.
    expect(() => createCoalescingClient(resilient)).toThrow('the coalescing client to the resilient one')
  })
})

describe('the deadline of a coalesced call', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const outcomeOf = async (call: Promise<UsageAnswer>) => {
    try {
      return (await call).allowed ? 'answered' : 'refused'
    } catch (error) {
      if (!(error instanceof TollgateUnreachableError)) throw error
      return error.mayHaveArrived ? 'had no answer' : 'not sent'
    }
  }

  it('counts from when the call is made: one that waits for others until then was never sent', async () => {
    const peer = createPeer()
    const client = createCoalescingClient(peer.client)
    const outcomes: string[] = []
    const ask = () => void outcomeOf(client.consume({ meter: 'search' })).then((outcome) => outcomes.push(outcome))
    ask()
    await vi.advanceTimersByTimeAsync(1_000)
    ask()
    await vi.advanceTimersByTimeAsync(1_999)
    expect(outcomes).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(outcomes).toEqual(['had no answer'])
    await vi.advanceTimersByTimeAsync(1_000)
    expect(outcomes).toEqual(['had no answer', 'not sent'])
    ask()
    peer.answerNext()
    await vi.advanceTimersByTimeAsync(0)
    expect(peer.batches.map((items) => items.length)).toEqual([1, 1])
    peer.answerNext()
    await vi.advanceTimersByTimeAsync(0)
    expect(outcomes).toEqual(['had no answer', 'not sent', 'answered'])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('holds for 3,000 calls at once and a server that takes 1.5 seconds for each batch', async () => {
    const { client: peer } = createPeer()
    const batch = async (items: readonly BatchItem[]) => {
      await new Promise((resolve) => {
        setTimeout(resolve, 1_500)
      })
      return items.map(resultOf)
    }
    const client = createCoalescingClient({ ...peer, batch })
    const calls = Promise.all(Array.from({ length: 3_000 }, () => outcomeOf(client.consume({ meter: 'search' }))))
    await vi.advanceTimersByTimeAsync(3_000)
    expect((await calls).slice(0, 2_000).every((outcome) => outcome === 'answered')).toBe(true)
  })

  it('ends the halves of a refused batch too: later nobody waits for them', async () => {
    const { client: peer } = createPeer()
    let sent = 0
    const batch = async () => {
      sent += 1
      await new Promise((resolve) => {
        setTimeout(resolve, 1_000)
      })
      throw new TollgateError(422, { title: 'no', code: 'invalid_request' })
    }
    const client = createCoalescingClient({ ...peer, batch }, { deadlineMs: 2_500 })
    const calls = Promise.all(Array.from({ length: 16 }, () => outcomeOf(client.consume({ meter: 'search' }))))
    await vi.advanceTimersByTimeAsync(20_000)
    expect(new Set(await calls)).toEqual(new Set(['had no answer']))
    expect(sent).toBeLessThan(8)
  })
})

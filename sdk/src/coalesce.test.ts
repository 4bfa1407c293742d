import { describe, expect, it } from 'vitest'
import { createCoalescingClient } from './coalesce.ts'
import { TollgateError } from './errors.ts'
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
})

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

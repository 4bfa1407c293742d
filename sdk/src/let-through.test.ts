import { describe, expect, it } from 'vitest'
import { createPeer } from '../test/usage-peer.ts'
import { createMemoryQueue } from './queue.ts'
import { createResilientClient } from './resilient.ts'

describe('a use that was let through', () => {
  const use = { meter: 'search', idempotencyKey: 'order-1' }

  async function letThrough(quota: number) {
    const peer = createPeer(quota)
    const queue = createMemoryQueue()
    const client = createResilientClient(peer.client, { meters: { search: 'open' }, queue })
    peer.setLine('cut before')
    await client.consume(use)
    peer.setLine('up')
    return { peer, queue, client }
  }

  it('is permitted as before where its caller asks again while it waits to be counted, and no other is that is over quota', async () => {
    const { peer, queue, client } = await letThrough(0)
    expect(await client.consume(use)).toMatchObject({ allowed: true, code: 'tollgate_unreachable' })
    expect(await client.consume({ ...use, idempotencyKey: 'order-2' })).toMatchObject({ allowed: false })
    expect(await client.consume({ ...use, organizationId: 'b' })).toMatchObject({ allowed: false })
    expect([await client.replay(), await queue.parked(), peer.counted.size]).toEqual([0, [], 1])
  })

  it('is permitted where its caller asks again once it is counted, and counts once', async () => {
    const { peer, queue, client } = await letThrough(10)
    expect(await client.replay()).toBe(0)
    expect(await client.consume(use)).toMatchObject({ allowed: true })
    expect([await client.replay(), await queue.parked(), peer.counted.size]).toEqual([0, [], 1])
  })

  it('leaves a refusal a refusal where the queue cannot be read', async () => {
    const errors: unknown[] = []
    const queue = { ...createMemoryQueue(), list: () => Promise.reject(new Error('EIO')) }
    const onError = (error: unknown) => void errors.push(error)
    const client = createResilientClient(createPeer(0).client, { whenUnreachable: 'open', queue, onError })
    expect((await client.consume(use)).allowed).toBe(false)
    expect(errors).toMatchObject([{ message: 'EIO' }])
  })
})

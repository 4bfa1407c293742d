import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { payloadsOf } from './changes.ts'
import { nameOfState, type LiveState, type LiveUsage } from './live.ts'
import { startLiveStreams, type LiveStreams, type StreamsOptions } from './streams.ts'

const usage = (meter: string, quantity: number): LiveUsage => ({
  meter,
  today: { events: 1, quantity },
  month: { events: 1, quantity },
})

/** Streams over states that the test says, without a database. */
function openStreams(over: Partial<StreamsOptions> = {}) {
  const states = new Map<string, LiveState>()
  const reads: string[][] = []
  let tell: (organizationIds: readonly string[] | null) => void = () => {}
  const streams = startLiveStreams({
    feed: { listen: (listener) => void (tell = listener) },
    read: async (ids) => {
      reads.push([...ids])
      return new Map([...states].filter(([id]) => ids.includes(id)))
    },
    onError: (error) => {
      throw error
    },
    lookEveryMs: 5,
    refreshEveryMs: 60_000,
    ...over,
  })
  started.push(streams)
  return {
    streams,
    reads,
    set: (id: string, ...of: LiveUsage[]): void => {
      states.set(id, { balances: [], usage: of })
      tell([id])
    },
    ask: (id: string, lastEventId: string | null = null, mayStillRead: () => Promise<boolean> = async () => true) =>
      streams.open({ organizationId: id, lastEventId, mayStillRead }),
  }
}

const started: LiveStreams[] = []
afterEach(async () => {
  await Promise.all(started.splice(0).map((streams) => streams.stop()))
})

type Told = { event: string; id: string; data: LiveState }

/** Reads events as a browser does, until there are as many as asked for, or the stream ends. */
async function readEvents(stream: ReadableStream<Uint8Array>, count = Number.POSITIVE_INFINITY): Promise<Told[]> {
  const reader = stream.getReader()
  const told: Told[] = []
  let text = ''
  while (told.length < count) {
    const { done, value } = await reader.read()
    if (done) break
    text += new TextDecoder().decode(value)
    const blocks = text.split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map((line) => line.split(/: (.*)/s) as [string, string]))
      if (fields.has('data')) {
        told.push({ event: fields.get('event')!, id: fields.get('id')!, data: JSON.parse(fields.get('data')!) as LiveState })
      }
    }
  }
  reader.releaseLock()
  return told
}

describe('a live stream', () => {
  it('begins with everything and goes on with what changed, and with everything again where something is gone', async () => {
    const { ask, set } = openStreams()
    set('a', usage('calls', 1), usage('tokens', 1))
    const stream = ask('a')
    expect(await readEvents(stream, 1)).toMatchObject([
      { event: 'snapshot', data: { usage: [{ meter: 'calls' }, { meter: 'tokens' }] } },
    ])
    set('a', usage('calls', 1), usage('tokens', 2))
    expect(await readEvents(stream, 1)).toMatchObject([{ event: 'change', data: { balances: [], usage: [usage('tokens', 2)] } }])
    set('a', usage('tokens', 2))
    const [again] = await readEvents(stream, 1)
    const state = { balances: [], usage: [usage('tokens', 2)] }
    expect(again).toEqual({ event: 'snapshot', id: nameOfState(state), data: state })
  })

  it('tells a reader that comes back nothing while nothing changed, and everything once something has', async () => {
    const { ask, set } = openStreams()
    set('a', usage('calls', 1))
    const [first] = await readEvents(ask('a'), 1)
    const same = ask('a', first!.id)
    const other = ask('a', 'the name of something else')
    expect(await readEvents(other, 1)).toMatchObject([{ event: 'snapshot', data: { usage: [usage('calls', 1)] } }])
    set('a', usage('calls', 2))
    expect(await readEvents(same, 1)).toMatchObject([{ event: 'change', data: { usage: [usage('calls', 2)] } }])
  })

  it('is read once for all who look, and not at all where nobody looks', async () => {
    const { ask, set, reads } = openStreams()
    const readers = Array.from({ length: 40 }, (_, index) => ask(index % 2 === 0 ? 'a' : 'b'))
    set('a', usage('calls', 1))
    set('b', usage('calls', 1))
    set('nobody', usage('calls', 1))
    await Promise.all(readers.map((stream) => readEvents(stream, 1)))
    expect(reads.flat()).not.toContain('nobody')
    const before = reads.length
    set('a', usage('calls', 2))
    set('b', usage('calls', 2))
    await Promise.all(readers.map((stream) => readEvents(stream, 1)))
    expect(reads.length - before).toBe(1)
  })

  it('keeps nothing for a reader that does not read, which gets the difference once it does', async () => {
    const { ask, set, reads } = openStreams()
    const long = (quantity: number): LiveUsage => ({ ...usage('calls', quantity), meter: `m${'x'.repeat(40_000)}` })
    set('a', long(0))
    const stream = ask('a')
    for (let quantity = 1; quantity <= 20; quantity += 1) {
      const before = reads.length
      set('a', long(quantity), usage('tokens', quantity))
      await vi.waitFor(() => expect(reads.length).toBeGreaterThan(before), { ...PATIENCE, interval: 2 })
    }
    const told: Told[] = []
    while (told.at(-1)?.data.usage[0]?.today.quantity !== 20) told.push(...(await readEvents(stream, 1)))
    expect(told.length).toBeLessThan(6)
  })

  it('ends when its reader has not read for long, or leaves, and then costs nothing', async () => {
    const { ask, set, streams, reads } = openStreams({ refreshEveryMs: 10 })
    set('a', { ...usage('calls', 1), meter: 'x'.repeat(200_000) })
    ask('a')
    const left = ask('a')
    expect(streams.running()).toBe(2)
    await left.cancel()
    expect(streams.running()).toBe(1)
    await vi.waitFor(() => expect(streams.running()).toBe(0), PATIENCE)
    const before = reads.length
    set('a', usage('calls', 2))
    const other = ask('b')
    await vi.waitFor(() => expect(reads.flat()).toContain('b'), PATIENCE)
    expect(reads.slice(before).flat()).not.toContain('a')
    await other.cancel()
  })

  it('ends when its caller may read no more, at once when told so', async () => {
    const { ask, set, streams } = openStreams()
    set('a', usage('calls', 1))
    let may = true
    const stream = ask('a', null, async () => may)
    const unknown = ask('a', null, async () => {
      throw new Error('the database is away')
    })
    await readEvents(stream, 1)
    may = false
    streams.recheck()
    expect(await readEvents(stream)).toEqual([])
    await readEvents(unknown)
    expect(streams.running()).toBe(0)
  })

  it('is one of so many of its organization and of all, and none is opened while the server stops', async () => {
    const { ask, streams } = openStreams({ most: 3, mostOfOne: 2 })
    const open = [ask('a'), ask('a')]
    expect(() => ask('a')).toThrow(expect.objectContaining({ code: 'overloaded' }) as Error)
    open.push(ask('b'))
    expect(() => ask('c')).toThrow(expect.objectContaining({ code: 'overloaded' }) as Error)
    await open[0]!.cancel()
    ask('c')
    streams.end()
    expect(await Promise.all(open.slice(1).map((stream) => readEvents(stream)))).toEqual([[], []])
    expect(() => ask('a')).toThrow(expect.objectContaining({ code: 'stopping' }) as Error)
  })
})

describe('what is told to other processes', () => {
  it('fits into notifications and names every organization, or any', () => {
    const id = fc.string({ minLength: 1, maxLength: 100, unit: 'grapheme' }).filter((text) => !text.includes('\n'))
    fc.assert(
      fc.property(fc.uniqueArray(id, { maxLength: 300 }), (ids) => {
        const payloads = payloadsOf(ids)
        expect(payloads.every((payload) => Buffer.byteLength(payload) < 8_000)).toBe(true)
        expect(payloads.flatMap((payload) => payload.split('\n'))).toEqual(ids)
      }),
    )
    expect(payloadsOf(Array.from({ length: 2_000 }, (_, index) => `org_${index}`))).toEqual([''])
  })
})

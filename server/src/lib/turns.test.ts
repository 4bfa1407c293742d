import { describe, expect, it, vi } from 'vitest'
import { createTurns } from './turns.ts'

/** Work of which the test says when it is done, and the order in which it began. */
function work() {
  const begun: string[] = []
  const ends: (() => void)[] = []
  const begin = (name: string) => async (): Promise<string> => {
    begun.push(name)
    await new Promise<void>((resolve) => ends.push(resolve))
    return name
  }
  return { begun, begin, endOne: () => ends.shift()!() }
}

describe('turns', () => {
  it('let run at once what may, and one more for each that ends', async () => {
    const { begun, begin, endOne } = work()
    const turns = createTurns({ atOnce: 2, mostWaiting: 10 })
    const taken = ['1', '2', '3'].map((name) => turns.take('a', begin(name)))
    await vi.waitFor(() => expect(begun).toEqual(['1', '2']))
    endOne()
    expect(await taken[0]).toBe('1')
    await vi.waitFor(() => expect(begun).toEqual(['1', '2', '3']))
  })

  it('go around: who asks for much keeps nobody else waiting for more than one of it', async () => {
    const { begun, begin, endOne } = work()
    const turns = createTurns({ atOnce: 1, mostWaiting: 10 })
    const taken = ['a1', 'a2', 'a3', 'a4'].map((name) => turns.take('a', begin(name)))
    taken.push(turns.take('b', begin('b1')), turns.take('c', begin('c1')))
    for (const count of [1, 2, 3, 4, 5, 6]) {
      await vi.waitFor(() => expect(begun).toHaveLength(count))
      endOne()
    }
    await Promise.all(taken)
    expect(begun).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'a4'])
  })

  it('refuse who has as much waiting as may be, and nobody else', async () => {
    const { begin, begun } = work()
    const turns = createTurns({ atOnce: 1, mostWaiting: 1 })
    void turns.take('a', begin('a1'))
    void turns.take('a', begin('a2'))
    await expect(turns.take('a', begin('a3'))).rejects.toMatchObject({ code: 'overloaded' })
    void turns.take('b', begin('b1'))
    await vi.waitFor(() => expect(begun).toEqual(['a1']))
  })

  it('go on after work that failed', async () => {
    const turns = createTurns({ atOnce: 1, mostWaiting: 1 })
    await expect(turns.take('a', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
    expect(await turns.take('a', async () => 'done')).toBe('done')
  })
})

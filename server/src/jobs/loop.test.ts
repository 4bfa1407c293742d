import { expect, it, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { startLoop } from './loop.ts'

const never = 1_000_000

it('goes on while there is something to do, rests, and goes on at once when it is kicked', async () => {
  const work = [2, 1, 0]
  let runs = 0
  const loop = startLoop({
    run: async () => {
      runs += 1
      return work.shift() ?? 0
    },
    pollMs: never,
    onFailure: () => undefined,
  })
  await vi.waitFor(() => expect(runs).toBe(3), PATIENCE)
  loop.kick()
  await vi.waitFor(() => expect(runs).toBe(4), PATIENCE)
  await loop.stop()
})

it('does not lose a kick that comes while it works, and waits for its work when it is stopped', async () => {
  let runs = 0
  let finish = (): void => undefined
  const loop = startLoop({
    run: async () => {
      runs += 1
      await new Promise<void>((resolve) => {
        finish = resolve
      })
      return 0
    },
    pollMs: never,
    onFailure: () => undefined,
  })
  loop.kick()
  finish()
  await vi.waitFor(() => expect(runs).toBe(2), PATIENCE)
  let stopped = false
  const stopping = loop.stop().then(() => {
    stopped = true
  })
  await Promise.resolve()
  expect(stopped).toBe(false)
  finish()
  await stopping
  expect(runs).toBe(2)
})

it('outlives a failure', async () => {
  const failures: unknown[] = []
  let runs = 0
  const loop = startLoop({
    run: async () => {
      runs += 1
      if (runs === 1) throw new Error('once')
      return 0
    },
    pollMs: never,
    onFailure: (error) => void failures.push(error),
  })
  await vi.waitFor(() => expect(failures).toHaveLength(1), PATIENCE)
  await vi.waitFor(() => {
    loop.kick()
    expect(runs).toBeGreaterThan(1)
  }, PATIENCE)
  await loop.stop()
})

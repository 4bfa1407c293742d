import { expect, test } from 'vitest'
import { eachApart } from './apart.ts'

async function run(failing: readonly number[]): Promise<{ done: number[]; told: number[]; failed: unknown }> {
  const [done, told]: [number[], number[]] = [[], []]
  const work = async (item: number): Promise<void> => {
    if (failing.includes(item)) throw new Error(String(item))
    done.push(item)
  }
  const failed = await eachApart([1, 2, 3, 4, 5, 6], work, (item) => void told.push(item)).catch((error: unknown) => error)
  return { done, told, failed }
}

test('one that fails keeps nobody else, and is thrown after the others', async () => {
  expect(await run([])).toEqual({ done: [1, 2, 3, 4, 5, 6], told: [], failed: undefined })
  expect(await run([2, 4, 5])).toEqual({ done: [1, 3, 6], told: [2, 4, 5], failed: new Error('2') })
})

test('three in a row end the run', async () => {
  expect(await run([2, 3, 4])).toEqual({ done: [1], told: [2, 3, 4], failed: new Error('2') })
})

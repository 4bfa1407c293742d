import { afterAll, beforeAll, expect, it } from 'vitest'
import { createLoop, runLoop } from './loop.ts'
import { createPlace, startProgram, type Program } from './process.ts'

let program: Program
let place: Awaited<ReturnType<typeof createPlace>>

beforeAll(async () => {
  place = await createPlace()
  program = await startProgram({ ...place, program: { kind: 'example', name: 'episodic-memory' } })
})

afterAll(async () => {
  await program?.end('SIGINT')
  await place?.remove()
})

it('runs the whole loop: quota, checkout, renewal, failed payment, plan changes, trial', async () => {
  const told: string[] = []
  const headings: string[] = []
  await runLoop(
    createLoop(program, (line) => told.push(line)),
    (title) => headings.push(title),
  )
  expect(headings).toHaveLength(7)
  const story = told.join('\n')
  for (const words of ['50 allowed, 150 refused', 'A day into the next period: renewal paid', 'Unused time on Pro'])
    expect(story).toContain(words)
  expect(story, 'a credit is written as -$1.00').not.toContain('$-')
})

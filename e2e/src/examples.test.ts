import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPlace, ROOT, startProgram, type Program } from './process.ts'
import { runShown } from './shown-commands.ts'

// What the README of each example tells to type, typed in order into a shell, against the example as it runs.

const names = readdirSync(join(ROOT, 'examples'))
const variables = { TOLLGATE_TENANT_PREFIX: 'Jeturing_' }

it('there is one of every system', () => {
  expect(names).toEqual(['core-billing', 'episodic-memory', 'kali-forensics', 'mini-rag', 'ops-center'])
})

describe.each(names)('the README of %s', (name) => {
  let program: Program
  let place: Awaited<ReturnType<typeof createPlace>>

  beforeAll(async () => {
    place = await createPlace()
    program = await startProgram({ ...place, program: { kind: 'example', name }, env: variables })
  }, 90_000)

  afterAll(async () => {
    await program?.end('SIGINT')
    await place?.remove()
  })

  it('shows a flow that works as it is written', { timeout: 120_000 }, async () => {
    const run = await runShown(`examples/${name}/README.md`, program, { TOLLGATE_CATALOG: `examples/${name}/billing.config.ts` })
    const strays = run.filter(({ code, output, expected }) => code !== 0 || !output.includes(expected ?? ''))
    expect(strays).toEqual([])
    expect(run.filter(({ expected }) => expected !== null).length).toBeGreaterThan(5)
  })
})

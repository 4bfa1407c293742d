import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPlace, ROOT, startProgram, type Program } from './process.ts'
import { commandsOf, runShown } from './shown-commands.ts'

// What the README of each example tells to type, typed in order into a shell, against the example as it runs.

const names = readdirSync(join(ROOT, 'examples'))
const variables = { TOLLGATE_TENANT_PREFIX: 'Jeturing_' }

it('there is one of every system', () => {
  expect(names).toEqual(['core-billing', 'episodic-memory', 'kali-forensics', 'mini-rag', 'ops-center'])
})

it.each(names)('the README of %s names the variables that its catalog reads, where .env.example does not', (name) => {
  const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
  const variables = [...read(`examples/${name}/billing.config.ts`).matchAll(/(?:priceVariable: |variables\[)'([A-Z_]+)'/g)]
  const told = read(`examples/${name}/README.md`) + read('.env.example')
  expect(variables.map(([, variable]) => variable!).filter((variable) => !told.includes(variable))).toEqual([])
})

describe.each(names)('the README of %s', (name) => {
  let program: Program
  let place: Awaited<ReturnType<typeof createPlace>>

  beforeAll(async () => {
    place = await createPlace()
    const dataDir = join(place.dataDir, 'examples', name, '.tollgate')
    const here = { cwd: place.dataDir, env: { ...variables, TOLLGATE_DATA_DIR: '' } }
    program = await startProgram({ ...place, ...here, dataDir, program: { kind: 'example', name } })
  })

  afterAll(async () => {
    await program?.end('SIGINT')
    await place?.remove()
  })

  it('shows a flow that works as it is written', async () => {
    const readme = `examples/${name}/README.md`
    const shown = commandsOf(readme).map(({ command }) => command)
    const asksTheCommand = shown.some((command) => command.includes('npx tollgate'))
    expect(shown.filter((command) => command.startsWith('export TOLLGATE_DATA_DIR='))).toEqual(
      asksTheCommand ? [`export TOLLGATE_DATA_DIR=examples/${name}/.tollgate`] : [],
    )
    const run = await runShown(readme, program)
    const strays = run.filter(({ code, output, expected }) => code !== 0 || !output.includes(expected ?? ''))
    expect(strays).toEqual([])
    expect(run.filter(({ expected }) => expected !== null).length).toBeGreaterThan(5)
  })
})

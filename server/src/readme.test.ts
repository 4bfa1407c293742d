import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { runCli, startProgram, variablesFor } from '../test/program.ts'
import { variablesSchema } from './config.ts'
import { readRuntime } from './runtime-file.ts'

// What the README tells a newcomer to type, typed.

vi.setConfig({ testTimeout: 60_000 })

const readme = readFileSync('README.md', 'utf8')
const commands = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => commandsOf(block!))

/** The commands of a block, each on one line. */
function commandsOf(block: string): string[] {
  return block
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

/** The words of a command as a shell splits them, with variables filled in outside of single quotes. */
function wordsOf(command: string, variables: ReadonlyMap<string, string>): string[] {
  const fill = (text: string): string => text.replace(/\$(\w+)/g, (_whole, name: string) => variables.get(name) ?? '')
  return [...command.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, bare]) => single ?? fill(double ?? bare!))
}

/** Does what this curl command would. */
async function curl(words: readonly string[]): Promise<unknown> {
  const valuesOf = (flag: string): string[] => words.filter((_word, index) => words[index - 1] === flag)
  const headers = Object.fromEntries(valuesOf('-H').map((header) => header.split(': ') as [string, string]))
  const body = valuesOf('-d')[0] ?? null
  const url = words.find((word) => word.startsWith('http'))!
  const response = await fetch(url, { method: body === null ? 'GET' : 'POST', headers, body })
  const answer: unknown = await response.json()
  expect([response.ok, answer]).toEqual([true, answer])
  return answer
}

describe('the README', () => {
  it('names scripts and commands that there are', async () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
    const npm = commands.map((command) => /^npm (?:run )?(\w+)/.exec(command)?.[1]).filter((name) => name !== undefined)
    expect(npm).toContain('start')
    expect(npm.filter((name) => scripts[name] === undefined)).toEqual([])
    const { out } = await runCli(['--help'], variablesFor('nowhere'))
    const tollgate = commands.map((command) => /^npx tollgate (\w+)/.exec(command)?.[1]).filter((name) => name !== undefined)
    expect(tollgate).toContain('start')
    expect(tollgate.filter((name) => !new RegExp(`^ +${name} `, 'm').test(out))).toEqual([])
  })

  it('names variables that there are', () => {
    const named = [...readme.matchAll(/`((?:TOLLGATE|STRIPE|DATABASE)_[A-Z_]+)`/g)].map(([, name]) => name!)
    expect(named).toContain('DATABASE_URL')
    expect(named.filter((name) => !(name in variablesSchema.shape))).toEqual([])
  })

  it('shows a first use that works as it is written', async () => {
    const parent = mkdtempSync(join(tmpdir(), 'tollgate-readme-'))
    chmodSync(parent, 0o711)
    const env = variablesFor(join(parent, 'data'))
    const { child } = await startProgram(env)
    const { url, operatorKey } = readRuntime(env['TOLLGATE_DATA_DIR']!)!
    const variables = new Map<string, string>()
    let last: unknown = null
    const answers: unknown[] = []
    try {
      const first = commands.findIndex((command) => command.startsWith('TOLLGATE='))
      const use = commands.slice(first, commands.findIndex((command) => command.startsWith('npx tollgate clock')) + 1)
      for (const command of use) {
        const assignment = /^(\w+)=(.*)$/.exec(command)
        if (assignment?.[1] === 'TOLLGATE') variables.set('TOLLGATE', url)
        else if (assignment?.[1] === 'OPERATOR') variables.set('OPERATOR', operatorKey)
        else if (assignment?.[1] === 'KEY') variables.set('KEY', (last as { key: string }).key)
        else {
          const words = wordsOf(command, variables)
          last = words[0] === 'curl' ? await curl(words) : JSON.parse((await runCli(words.slice(2), env)).out)
          answers.push(last)
        }
      }
    } finally {
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
      rmSync(parent, { recursive: true, force: true, maxRetries: 10 })
    }
    expect(answers).toMatchObject([
      { id: 'acme' },
      { key: expect.stringMatching(/^tg_/) as string },
      { allowed: true, credits_used: 0.1 },
      { url: expect.stringMatching(/^http/) as string },
      {},
    ])
  })
})

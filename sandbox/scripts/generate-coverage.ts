/**
 * Writes the coverage table of `README.md`: every operation of the contract and which of its parameters the sandbox understands, taken
 * from the operations' own declarations. `test/generated.test.ts` fails when the table is not what this makes.
 * Run it after operations change: `node sandbox/scripts/generate-coverage.ts`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadSpec, type OperationSpec } from '../src/engine/spec.ts'
import type { Operation } from '../src/engine/module.ts'
import { operationsOf } from '../src/http/api.ts'
import { modules } from '../src/modules.ts'

const BEGIN = '<!-- coverage: written by scripts/generate-coverage.ts -->'
const END = '<!-- end of coverage -->'

/** Understood by the engine for every operation. */
const ALWAYS = ['expand']

interface Coverage {
  readonly spec: OperationSpec
  readonly operation: Operation | undefined
  readonly understood: string[]
  readonly refused: string[]
}

function coverageOf(spec: OperationSpec, operation: Operation | undefined): Coverage {
  const all = Object.keys(spec.params.properties ?? {}).filter((name) => !ALWAYS.includes(name))
  const takes = operation?.takes ?? []
  const parts = (operation?.refuses ?? []).filter((path) => takes.includes(path.split('.')[0] ?? ''))
  return {
    spec,
    operation,
    understood: all.filter((name) => takes.includes(name)),
    refused: [...all.filter((name) => !takes.includes(name)), ...parts],
  }
}

function row({ spec, operation, understood, refused }: Coverage): string {
  const total = Object.keys(spec.params.properties ?? {}).filter((name) => !ALWAYS.includes(name)).length
  const answer = operation === undefined ? 'no' : `${understood.length}/${total}`
  const missing = operation === undefined ? '' : refused.map((name) => `\`${name}\``).join(' ')
  return `| \`${spec.key}\` | ${answer} | ${missing} |`
}

/** The README with its coverage table brought up to date. */
export function withCoverage(readme: string): string {
  const operations = operationsOf(modules)
  const specs = [...loadSpec().operations.values()].sort(
    (left, right) => compare(left.path, right.path) || compare(left.method, right.method),
  )
  const table = specs.map((spec) => coverageOf(spec, operations.get(spec.key)))
  const implemented = table.filter(({ operation }) => operation !== undefined)
  const parameters = implemented.reduce((sum, { understood }) => sum + understood.length, 0)
  const known = implemented.reduce(
    (sum, { understood, refused }) => sum + understood.length + refused.filter((name) => !name.includes('.')).length,
    0,
  )
  const text = [
    BEGIN,
    '',
    `${implemented.length} of ${table.length} operations of the contract are emulated, with ${parameters} of their ${known} parameters (\`expand\` not counted).`,
    'A parameter that is listed as refused, and an operation that is not emulated, answers a Stripe error that names it.',
    '',
    '| operation | parameters understood | refused |',
    '|---|---|---|',
    ...table.map(row),
    '',
    END,
  ].join('\n')
  const [before, rest] = readme.split(BEGIN)
  const after = rest?.split(END)[1]
  if (before === undefined || after === undefined) throw new Error(`README.md lacks the markers ${BEGIN} and ${END}.`)
  return before + text + after
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}

export const readmeFile = fileURLToPath(new URL('../README.md', import.meta.url))

if (import.meta.main) writeFileSync(readmeFile, withCoverage(readFileSync(readmeFile, 'utf8')))

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { generateTypes, specFile, typesFile } from '../scripts/generate-types.ts'
import { readmeFile, withCoverage } from '../scripts/generate-coverage.ts'
import { knowsParameter } from '../src/engine/params.ts'
import { loadSpec } from '../src/engine/spec.ts'
import { operationsOf } from '../src/http/api.ts'
import { modules } from '../src/modules.ts'

test('the types are those of the contract', () => {
  const document = JSON.parse(readFileSync(specFile, 'utf8')) as Parameters<typeof generateTypes>[0]
  expect(readFileSync(typesFile, 'utf8') === generateTypes(document), 'run node sandbox/scripts/generate-types.ts').toBe(true)
})

test('the coverage table is true', () => {
  const readme = readFileSync(readmeFile, 'utf8')
  expect(readme === withCoverage(readme), 'run node sandbox/scripts/generate-coverage.ts').toBe(true)
})

test('operations name only parameters that the contract knows', () => {
  const spec = loadSpec()
  const unknown = [...operationsOf(modules).values()].flatMap((operation) => {
    const params = spec.operations.get(operation.on)?.params ?? {}
    return [...operation.takes, ...operation.refuses]
      .filter((path) => !knowsParameter(params, path, spec.schemas))
      .map((path) => `${operation.on}: ${path}`)
  })
  expect(unknown).toEqual([])
})

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packSdk, run, type PackedSdk } from './packed-sdk.ts'

const root = join(import.meta.dirname, '..')
const manifestOf = (path: string) => readFileSync(join(path, 'package.json'), 'utf8')

describe('the package that `npm pack` makes of the SDK', () => {
  let sdk: PackedSdk
  let installed: string

  beforeAll(() => {
    sdk = packSdk()
    installed = join(sdk.application, 'node_modules/@tollgate/sdk')
  })
  afterAll(() => sdk.remove())

  it('has JavaScript and types, and neither sources nor tests', () => {
    const { files } = sdk
    expect(files.filter((path) => !/^dist\/[a-z-]+(\.d\.ts|\.js)$/.test(path)).toSorted()).toEqual(['README.md', 'package.json'])
    expect(files).toContain('dist/index.d.ts')
    expect(files.some((path) => path.includes('.test.'))).toBe(false)
  })

  it('leaves the folder as it was', () => {
    expect(manifestOf(sdk.source)).toBe(manifestOf(join(root, 'sdk')))
  })

  it('depends on nothing', () => {
    expect(JSON.parse(manifestOf(installed))).not.toHaveProperty('dependencies')
  })

  it('runs in an application, by every name that it exports', () => {
    const names = Object.keys((JSON.parse(manifestOf(installed)) as { exports: object }).exports)
    const paths = names.map((name) => `@tollgate/sdk${name.slice(1)}`)
    const program = `for (const path of ${JSON.stringify(paths)}) console.log(path, Object.keys(await import(path)).length > 0)`
    const told = run(process.execPath, ['--input-type=module', '--eval', program], sdk.application)
    expect(told.trim().split('\n')).toEqual(paths.map((path) => `${path} true`))
    expect(paths).toContain('@tollgate/sdk/file-queue')
  })

  it('has the types of its source', () => {
    const program = `import { createTollgateClient } from '@tollgate/sdk'
import { meterRoute } from '@tollgate/sdk/express'
const client = createTollgateClient({ url: 'http://localhost', apiKey: 'tg_key' })
export const allowed: Promise<boolean> = client.consume({ meter: 'search' }).then((answer) => answer.allowed)
// @ts-expect-error a meter has a name
meterRoute({ client: () => client, meter: 1 })
`
    writeFileSync(join(sdk.application, 'main.ts'), program)
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', 'main.ts']
    const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), options, { cwd: sdk.application, encoding: 'utf8' })
    expect(stdout).toBe('')
  })
})

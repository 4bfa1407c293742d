import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'tollgate-package-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const run = (command: string, args: readonly string[], cwd: string): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

const manifestOf = (path: string) => readFileSync(join(path, 'package.json'), 'utf8')

describe('the package that `npm pack` makes of the SDK', () => {
  const repository = join(folder, 'repository')
  const source = join(repository, 'sdk')
  const application = join(folder, 'application')
  const installed = join(application, 'node_modules/@tollgate/sdk')
  let files: readonly string[]

  beforeAll(() => {
    // A copy, since packing changes the folder for a moment.
    cpSync(join(root, 'sdk'), source, { recursive: true, filter: (path) => !/node_modules|\/dist$/.test(path) })
    cpSync(join(root, 'tsconfig.json'), join(repository, 'tsconfig.json'))
    symlinkSync(join(root, 'node_modules'), join(repository, 'node_modules'))
    const [packed] = JSON.parse(run('npm', ['pack', '--json', '--silent', '--offline'], source)) as {
      filename: string
      files: { path: string }[]
    }[]
    files = packed!.files.map(({ path }) => path)
    mkdirSync(application)
    writeFileSync(join(application, 'package.json'), '{ "type": "module", "private": true }')
    run('npm', ['install', '--offline', '--no-audit', '--no-fund', join(source, packed!.filename)], application)
  })

  it('has JavaScript and types, and neither sources nor tests', () => {
    expect(files.filter((path) => !/^dist\/[a-z-]+(\.d\.ts|\.js)$/.test(path)).toSorted()).toEqual(['README.md', 'package.json'])
    expect(files).toContain('dist/index.d.ts')
    expect(files.some((path) => path.includes('.test.'))).toBe(false)
  })

  it('leaves the folder as it was', () => {
    expect(manifestOf(source)).toBe(manifestOf(join(root, 'sdk')))
  })

  it('depends on nothing', () => {
    expect(JSON.parse(manifestOf(installed))).not.toHaveProperty('dependencies')
  })

  it('runs in an application, by every name that it exports', () => {
    const names = Object.keys((JSON.parse(manifestOf(installed)) as { exports: object }).exports)
    const paths = names.map((name) => `@tollgate/sdk${name.slice(1)}`)
    const program = `for (const path of ${JSON.stringify(paths)}) console.log(path, Object.keys(await import(path)).length > 0)`
    const told = run(process.execPath, ['--input-type=module', '--eval', program], application)
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
    writeFileSync(join(application, 'main.ts'), program)
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', 'main.ts']
    const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), options, { cwd: application, encoding: 'utf8' })
    expect(stdout).toBe('')
  })
})

import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..')

export type PackedSdk = {
  /** The sources that were packed: a copy, since packing changes the folder for a moment. */
  readonly source: string
  /** An application in whose `node_modules` the package is installed. */
  readonly application: string
  /** What the package has in it. */
  readonly files: readonly string[]
  remove(): void
}

/** Runs a program to its end; answers what it printed. @throws when it fails, with what it said */
export function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** The SDK as `npm pack` makes it, installed as a user would. */
export function packSdk(): PackedSdk {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-package-'))
  const repository = join(folder, 'repository')
  const source = join(repository, 'sdk')
  const application = join(folder, 'application')
  cpSync(join(ROOT, 'sdk'), source, { recursive: true, filter: (path) => !/node_modules|\/dist$/.test(path) })
  cpSync(join(ROOT, 'tsconfig.json'), join(repository, 'tsconfig.json'))
  symlinkSync(join(ROOT, 'node_modules'), join(repository, 'node_modules'))
  const [packed] = JSON.parse(run('npm', ['pack', '--json', '--silent', '--offline'], source)) as {
    filename: string
    files: { path: string }[]
  }[]
  mkdirSync(application)
  writeFileSync(join(application, 'package.json'), '{ "type": "module", "private": true }')
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', join(source, packed!.filename)], application)
  return {
    source,
    application,
    files: packed!.files.map(({ path }) => path),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

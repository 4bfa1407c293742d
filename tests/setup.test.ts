import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'tollgate-setup-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Nothing is asked of a registry. */
const npm = (args: readonly string[], cwd = folder) => execFileSync('npm', [...args, '--offline'], { cwd, stdio: 'ignore' })

function writePackage(path: string, manifest: object): string {
  mkdirSync(join(folder, path), { recursive: true })
  writeFileSync(join(folder, path, 'package.json'), JSON.stringify(manifest))
  return join(folder, path)
}

/** Packs a package of nothing but its manifest. */
function pack(name: string, version: string): void {
  npm(['pack', '--pack-destination', folder], writePackage(`${name}-${version}`, { name, version }))
}

function setUp(environment: Readonly<Record<string, string>> = {}): { status: number | null; told: string } {
  const env = { ...process.env, npm_config_offline: 'true', ...environment }
  const { status, stderr } = spawnSync(process.execPath, [join(folder, 'scripts/setup.mjs')], { env, encoding: 'utf8' })
  return { status, told: stderr }
}

/** Of the whole repository, of one workspace, and optional. */
const PATHS = ['node_modules/plain', 'part/node_modules/plain', 'node_modules/native']
const isInstalled = (path: string) => existsSync(join(folder, path, 'package.json'))

describe('the set-up', () => {
  beforeAll(() => {
    cpSync(join(import.meta.dirname, '../scripts/setup.mjs'), join(folder, 'scripts/setup.mjs'))
    for (const [name, version] of [
      ['plain', '1.0.0'],
      ['plain', '2.0.0'],
      ['native', '1.0.0'],
    ] as const)
      pack(name, version)
    const dependencies = { plain: 'file:plain-1.0.0.tgz' }
    writePackage('.', { workspaces: ['part'], dependencies, optionalDependencies: { native: 'file:native-1.0.0.tgz' } })
    writePackage('part', { name: 'part', version: '1.0.0', dependencies: { plain: 'file:../plain-2.0.0.tgz' } })
    npm(['install', '--package-lock-only'])
  })

  it('installs everything where nothing is installed', () => {
    expect(setUp()).toMatchObject({ status: 0, told: expect.stringContaining('Installing packages (all)') as string })
    expect(PATHS.filter(isInstalled)).toEqual(PATHS)
  })

  it('does nothing where everything is installed: it does not even ask for npm', () => {
    expect(setUp({ PATH: '' })).toEqual({ status: 0, told: '' })
  })

  it.each(PATHS)('installs %s again, which an interrupted install left out and has in its list', (path) => {
    rmSync(join(folder, path), { recursive: true })
    expect(setUp()).toMatchObject({ status: 0, told: expect.stringContaining(`Installing packages (${path})`) as string })
    expect(isInstalled(path)).toBe(true)
    expect(setUp({ PATH: '' })).toEqual({ status: 0, told: '' })
  })

  it('fails where it cannot install what is missing', () => {
    rmSync(join(folder, 'node_modules/plain'), { recursive: true })
    expect(setUp({ PATH: '' })).toMatchObject({ status: 1, told: expect.stringContaining('could not be installed') as string })
  })
})

/**
 * Builds the package that is published, in `sandbox/dist`: compiled files (Node strips types, but not under `node_modules`), their type
 * declarations, the contract, and a `package.json` that points at them. Publish it with `npm publish sandbox/dist`.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Builds into `target`, which is emptied first. */
export function buildPackage(target: string): void {
  rmSync(target, { recursive: true, force: true })
  mkdirSync(join(target, 'spec'), { recursive: true })
  compile(target)
  cpSync(join(root, 'bin'), join(target, 'bin'), { recursive: true })
  cpSync(join(root, 'README.md'), join(target, 'README.md'))
  cpSync(join(root, '../LICENSE'), join(target, 'LICENSE'))
  const contract: unknown = JSON.parse(readFileSync(join(root, 'spec/stripe-openapi.json'), 'utf8'))
  writeFileSync(join(target, 'spec/stripe-openapi.json'), JSON.stringify(contract))
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(manifest(), null, 2)}\n`)
}

function compile(target: string): void {
  const compiler = createRequire(import.meta.url)
    .resolve('typescript/package.json')
    .replace(/package\.json$/, 'bin/tsc')
  const args = ['--project', join(root, 'tsconfig.build.json'), '--outDir', target]
  execFileSync(process.execPath, [compiler, ...args], { stdio: 'inherit' })
}

function manifest(): object {
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>
  const { devDependencies: _dev, private: _private, scripts: _scripts, ...kept } = own
  return {
    ...kept,
    engines: { node: '>=24' },
    exports: { '.': { types: './src/index.d.ts', default: './src/index.js' } },
  }
}

if (import.meta.main) {
  buildPackage(join(root, 'dist'))
  console.log('Built sandbox/dist. Publish it with: npm publish sandbox/dist')
}

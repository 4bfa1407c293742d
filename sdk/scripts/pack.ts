import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

// In the repository the package is its source, which Node runs as it is. An application that installs it gets JavaScript with types, since Node
// strips no types below node_modules. `npm pack` and `npm publish` run this before and after they read the folder.

const folder = join(import.meta.dirname, '..')
const manifest = join(folder, 'package.json')
const built = join(folder, 'dist')

type Target = string | { readonly types: string; readonly default: string }

function mapExports(map: (target: Target) => Target): void {
  const read = JSON.parse(readFileSync(manifest, 'utf8')) as { exports: Record<string, Target> }
  const exports = Object.fromEntries(Object.entries(read.exports).map(([name, target]) => [name, map(target)]))
  writeFileSync(manifest, `${JSON.stringify({ ...read, exports }, null, 2)}\n`)
}

function toBuilt(target: Target): Target {
  if (typeof target !== 'string') return target
  const base = target.replace(/^\.\/src\//, './dist/').replace(/\.ts$/, '')
  return { types: `${base}.d.ts`, default: `${base}.js` }
}

function toSource(target: Target): Target {
  return typeof target === 'string' ? target : target.default.replace(/^\.\/dist\//, './src/').replace(/\.js$/, '.ts')
}

function build(): void {
  rmSync(built, { recursive: true, force: true })
  execFileSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: folder, stdio: 'inherit' })
  // The compiler renames what JavaScript imports, but not what its declarations do.
  for (const name of readdirSync(built).filter((each) => each.endsWith('.d.ts'))) {
    const text = readFileSync(join(built, name), 'utf8')
    writeFileSync(join(built, name), text.replace(/(from |import\()(['"]\.[^'"]*)\.ts(['"])/g, '$1$2.js$3'))
  }
}

if (process.argv[2] === 'before') {
  build()
  mapExports(toBuilt)
} else {
  mapExports(toSource)
  rmSync(built, { recursive: true, force: true })
}

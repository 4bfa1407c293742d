import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

// The files git tracks or would track: what a fresh clone holds.
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((path) => path !== '' && existsSync(join(root, path)))
const code = files.filter((path) => /\.(ts|tsx|mjs)$/.test(path) && !path.endsWith('.gen.ts') && path !== 'tests/tidy.test.ts')
const source = code.filter((path) => !isTest(path))
const contents = new Map(code.map((path) => [path, readFileSync(join(root, path), 'utf8')]))

function isTest(path: string): boolean {
  return /\.test\.tsx?$/.test(path) || /(^|\/)(test|tests|e2e|bench)\//.test(path)
}

function linesWith(paths: readonly string[], pattern: RegExp): string[] {
  return paths.flatMap((path) =>
    contents
      .get(path)!
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  )
}

/** The files that a file imports by a relative path, from the repository's root. */
function importsOf(path: string): string[] {
  return [...contents.get(path)!.matchAll(/(?:from|import\(|import)\s*'(\.[^']+)'/g)].map(([, target]) =>
    normalize(join(dirname(path), target!)),
  )
}

/** Those of them that are loaded with it, and by these in turn: what is imported for its types alone is not. */
function loadedBy(paths: readonly string[]): string[] {
  const loads =
    /^(?:import\s+(?!type\b)(?:[\w$,\s*]*(?:\{[^}]*\})?\s*from\s*)?|export\s+(?:\*[^'\n]*|\{[^}]*\}\s*)from\s*)'(\.[^']+)'/gm
  const loaded = new Set(paths)
  // A set goes on with what is added to it meanwhile.
  for (const path of loaded)
    for (const [, target] of contents.get(path)?.matchAll(loads) ?? []) loaded.add(normalize(join(dirname(path), target!)))
  return [...loaded]
}

function packagesOf(path: string): string[] {
  return [...contents.get(path)!.matchAll(/(?:from|import\(|import)\s*'([^.'][^']*)'/g)].map(([, name]) => name!)
}

/** The server's domains, each built upon those before it (design: routes and jobs → actions → rules, store → lib). */
const DOMAINS = [
  'lib',
  'db',
  'catalog',
  'auth',
  'events',
  'mail',
  'audit',
  'organizations',
  'identity',
  'grants',
  'metering',
  'usage',
  'sinks',
  'stripe',
  'pricing',
  'standing',
  'entitlements',
  'subscriptions',
  'top-ups',
  'plan-migrations',
  'simulation',
  'invoices',
  'billing-details',
  'webhooks',
  'notifications',
  'analytics',
  'exports',
  'operators',
]

function domainOf(path: string): string {
  return /^server\/src\/([^/]+)\//.exec(path)?.[1] ?? ''
}

describe('time, chance and the environment have one place each', () => {
  it('reads the time only in a clock', () => {
    const others = source.filter((path) => !path.endsWith('/clock.ts') && !path.startsWith('scripts/'))
    expect(linesWith(others, /Date\.now\(|new Date\(\)/)).toEqual([])
  })

  it('draws chance only where ids and seeds are made', () => {
    expect(linesWith(source, /Math\.random\(/)).toEqual([])
  })

  it('reads the environment only where a program is put together', () => {
    const others = source.filter((path) => !/\/(main|config)\.ts$/.test(path) && !path.startsWith('scripts/'))
    expect(linesWith(others, /process\.env\b/)).toEqual([])
  })

  it('parses no money and no quantity with floats', () => {
    expect(linesWith(source, /parseFloat\(/)).toEqual([])
  })
})

describe('dependencies point one way', () => {
  it('lets only stripe/gateway/client.ts import the stripe package in the server', () => {
    const importers = source.filter((path) => path.startsWith('server/src/') && packagesOf(path).includes('stripe'))
    expect(importers).toEqual(['server/src/stripe/gateway/client.ts'])
  })

  it('keeps the sandbox and the SDK free of the server', () => {
    const inside = source.filter((path) => path.startsWith('sandbox/') || path.startsWith('sdk/'))
    const strays = inside.flatMap((path) =>
      [...importsOf(path), ...packagesOf(path)]
        .filter((name) => name.startsWith('server/') || name.startsWith('@tollgate/server'))
        .map((name) => `${path} → ${name}`),
    )
    expect(strays).toEqual([])
  })

  it('keeps lib free of everything of ours', () => {
    const inside = source.filter((path) => path.startsWith('server/src/lib/'))
    expect(inside.flatMap((path) => importsOf(path).filter((target) => !target.startsWith('server/src/lib/')))).toEqual([])
  })

  it('lets the domains of the server build upon those before them', () => {
    const strays = source.flatMap((path) => {
      const rank = DOMAINS.indexOf(domainOf(path))
      return (
        importsOf(path)
          // Rules are pure, and may be used from anywhere.
          .filter((target) => rank !== -1 && DOMAINS.indexOf(domainOf(target)) > rank && !target.endsWith('/rules.ts'))
          .map((target) => `${path} → ${target}`)
      )
    })
    expect(strays).toEqual([])
  })

  it('has no files that import each other in a circle, be it for types', () => {
    const left = new Map(source.map((path) => [path, importsOf(path).filter((target) => contents.has(target))]))
    const isImported = (path: string) => [...left.values()].some((targets) => targets.includes(path))
    // What imports nothing that is left, or is imported by nothing that is left, is in no circle.
    for (let before = -1; before !== left.size;) {
      before = left.size
      for (const [path, targets] of left) if (!targets.some((target) => left.has(target)) || !isImported(path)) left.delete(path)
    }
    expect([...left.keys()]).toEqual([])
  })

  it.each([
    ['stripe', ['gateway', 'mirror', 'intents', 'push', 'inbox', 'reconcile']],
    ['metering', ['decide', 'write', 'wire']],
  ])('lets the rooms of %s build upon those before them', (domain, rooms) => {
    const rankOf = (path: string) => (domainOf(path) === domain ? rooms.indexOf(path.split('/')[3]!) : -1)
    const strays = source
      .filter((path) => rankOf(path) !== -1)
      .flatMap((path) => importsOf(path).flatMap((target) => (rankOf(target) > rankOf(path) ? [`${path} → ${target}`] : [])))
    expect(strays).toEqual([])
  })

  it('decides about use without a database', () => {
    const inside = source.filter((path) => path.startsWith('server/src/metering/decide/'))
    expect(inside.length).toBeGreaterThan(10)
    const strays = inside.flatMap((path) =>
      importsOf(path)
        .filter((target) => target.startsWith('server/src/db/'))
        .map((target) => `${path} → ${target}`),
    )
    expect(strays).toEqual([])
    // Nor with one behind what it uses, as a store of another domain.
    expect(loadedBy(inside).filter((path) => /^server\/src\/db\/|store\.ts$/.test(path))).toEqual([])
  })

  it('lets only routes, and the places that put programs together, know of HTTP', () => {
    const strays = source
      .filter((path) => DOMAINS.includes(domainOf(path)) && !/(routes|calls|hot-path)\.ts$/.test(path))
      .flatMap((path) =>
        importsOf(path)
          .filter((target) => target.startsWith('server/src/http/'))
          .map((target) => `${path} → ${target}`),
      )
    expect(strays).toEqual([])
  })

  it('lets nothing but the program and other routes import routes', () => {
    const strays = source
      .filter((path) => DOMAINS.includes(domainOf(path)) && !path.endsWith('routes.ts'))
      .flatMap((path) =>
        importsOf(path)
          .filter((target) => target.endsWith('routes.ts'))
          .map((target) => `${path} → ${target}`),
      )
    expect(strays).toEqual([])
  })

  it('keeps SQL in stores, and stores free of use cases', () => {
    const stores = source.filter((path) => /^server\/src\/.*store\.ts$/.test(path))
    expect(stores.length).toBeGreaterThan(5)
    const strays = stores.flatMap((path) =>
      importsOf(path)
        .filter((target) => /\/(actions|routes|jobs)\.ts$/.test(target))
        .map((target) => `${path} → ${target}`),
    )
    expect(strays).toEqual([])
  })

  it('lets rules import only rules, lib, and types of the catalog and of use', () => {
    const rules = source.filter((path) => /^server\/src\/.*\/rules\.ts$/.test(path))
    expect(rules.length).toBeGreaterThan(0)
    const strays = rules.flatMap((path) =>
      importsOf(path)
        .filter(
          (target) =>
            !target.startsWith('server/src/lib/') &&
            !/\/(rules|book|periods|catalog|define|usage)\.ts$/.test(target) &&
            dirname(target) !== dirname(path),
        )
        .map((target) => `${path} → ${target}`),
    )
    expect(strays).toEqual([])
  })
})

describe('a newcomer finds their way', () => {
  it('has a README in each folder that owns something', () => {
    const folders = new Set(
      source.flatMap((path) => {
        const domain = /^(server\/src\/[^/]+|sandbox\/src\/[^/]+|sandbox|sdk|server|bench|e2e|tests|examples\/[^/]+)\//.exec(path)
        return domain ? [domain[1]!] : []
      }),
    )
    expect([...folders].filter((folder) => !files.includes(`${folder}/README.md`))).toEqual([])
  })

  it('keeps every file of ours under 400 lines', () => {
    const long = code.filter((path) => contents.get(path)!.split('\n').length > 401)
    expect(long).toEqual([])
  })

  it('has no source file that nothing reads', () => {
    const read = new Set(code.flatMap((path) => importsOf(path)))
    const manifests = files
      .filter((path) => /(^|\/)package\.json$/.test(path))
      .map((path) => readFileSync(join(root, path), 'utf8'))
      .join('\n')
    const orphans = source.filter(
      (path) =>
        !read.has(path) &&
        !/(^|\/)(main|index|billing\.config|vitest\.config)\.ts$/.test(path) &&
        // Loaded by name: `npm run example -- <name>`.
        !/^examples\/[^/]+\/host\.ts$/.test(path) &&
        !manifests.includes(path.replace(/^[^/]+\//, '')) &&
        !manifests.includes(path) &&
        !/(^|\/)scripts\//.test(path),
    )
    expect(orphans).toEqual([])
  })
})

describe('nothing is left over', () => {
  it('has no unfinished marks, silenced checks or skipped tests', () => {
    const marks =
      /\b(TODO|FIXME|XXX|HACK)\b|@ts-ignore|@ts-nocheck|(eslint|oxlint)-disable|\b(it|test|describe)\.(only|todo)\(|\bas any\b/
    expect(linesWith(code, marks)).toEqual([])
  })

  it('names no path of anybody’s machine', () => {
    const texts = files.filter(
      (path) =>
        /\.(ts|tsx|mjs|md|json|sql|yml|yaml|sh)$/.test(path) && path !== 'package-lock.json' && path !== 'tests/tidy.test.ts',
    )
    const paths = texts.filter((path) => /\/(home|Users)\/[a-z]|\/root\/|\/work\//.test(readFileSync(join(root, path), 'utf8')))
    expect(paths).toEqual([])
  })
})

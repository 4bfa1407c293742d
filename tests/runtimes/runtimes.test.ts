import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createCaller } from '../../e2e/src/http.ts'
import { createCustomer, createLoop, type Customer } from '../../e2e/src/loop.ts'
import { createPlace, startProgram, waitUntil, type Program } from '../../e2e/src/process.ts'
import { packSdk, run, type PackedSdk } from '../packed-sdk.ts'

/** Of each runtime the package for this machine, and the program in it. */
function runtimeOf(packages: Readonly<Record<string, string>>, program: string): string {
  const name = packages[`${process.platform}-${process.arch}`]
  return name === undefined ? '' : join(import.meta.dirname, 'node_modules', name, program)
}

const BUN = runtimeOf(
  {
    'linux-x64': '@oven/bun-linux-x64',
    'linux-arm64': '@oven/bun-linux-aarch64',
    'darwin-x64': '@oven/bun-darwin-x64',
    'darwin-arm64': '@oven/bun-darwin-aarch64',
  },
  'bin/bun',
)
const DENO = runtimeOf(
  {
    'linux-x64': '@deno/linux-x64-glibc',
    'linux-arm64': '@deno/linux-arm64-glibc',
    'darwin-x64': '@deno/darwin-x64',
    'darwin-arm64': '@deno/darwin-arm64',
  },
  'deno',
)
const WORKERD = runtimeOf(
  {
    'linux-x64': '@cloudflare/workerd-linux-64',
    'linux-arm64': '@cloudflare/workerd-linux-arm64',
    'darwin-x64': '@cloudflare/workerd-darwin-64',
    'darwin-arm64': '@cloudflare/workerd-darwin-arm64',
  },
  'bin/workerd',
)

const EVERYTHING = {
  check: true,
  repeat: [true, true],
  track: true,
  reserve: true,
  batch: [true, true, true],
  refused: 422,
  coalesced: 50,
  away: true,
  letThrough: [true, 1, 0, true],
  handler: [200, '100', '{"found":1}'],
  stream: [200, '100', 'ab'],
  standing: 402,
  recorders: ['tokens', 'apiCalls', 'scrapingTasks'],
  counted: [true, []],
}
/** Searches that it uses, at 0.1 credits each. */
const SEARCHES = 1 + 0.5 + 1 + 3 + 50 + 1 + 1 + 1 + 1

let place: Awaited<ReturnType<typeof createPlace>>
let program: Program
let sdk: PackedSdk

beforeAll(async () => {
  place = await createPlace()
  program = await startProgram({ ...place, program: { kind: 'dev' } })
  sdk = packSdk()
  cpSync(join(import.meta.dirname, 'programs'), sdk.application, { recursive: true })
})
afterAll(async () => {
  await program.end('SIGINT')
  await place.remove()
  sdk.remove()
})

const newCustomer = (): Promise<Customer> =>
  createCustomer(
    createLoop(program, () => undefined),
    'Elsewhere',
  )

async function searchesOf({ app }: Customer): Promise<number> {
  return Number((Number((await app.get('/api/v1/usage')).body['credits_used']) * 10).toFixed(6))
}

describe('the package of the SDK does everything', () => {
  // Each runtime is skipped where it is made for no such machine.
  describe.each([
    ['Node', process.execPath, []],
    ['Bun', BUN, ['run']],
    ['Deno', DENO, ['run', '--no-remote', '--allow-net=127.0.0.1', '--allow-read=.', '--allow-write=.']],
  ])('on %s', (name, runtime, args) => {
    it.skipIf(runtime === '')('and counts it exactly', async () => {
      expect(existsSync(runtime), `${runtime}: node scripts/setup.mjs tests/runtimes installs it`).toBe(true)
      const customer = await newCustomer()
      const { url } = program.runtime
      const asked = ['process.ts', url, customer.key, customer.organizationId, `queue-${name}/calls`]
      expect(JSON.parse(run(runtime, [...args, ...asked], sdk.application))).toEqual(EVERYTHING)
      expect(await searchesOf(customer)).toBe(SEARCHES)
    })
  })
})

describe.skipIf(WORKERD === '')('in a Worker', () => {
  let customer: Customer
  let worker: ChildProcess
  let url: string

  beforeAll(async () => {
    customer = await newCustomer()
    const folder = join(sdk.application, 'worker')
    writeFileSync(join(folder, 'worker.capnp'), configOf(customer, writeModules(folder)))
    worker = spawn(WORKERD, ['serve', 'worker.capnp', '--control-fd=3'], {
      cwd: folder,
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
    })
    // It tells the port that it took: {"event":"listen","socket":"http","port":…}
    const [line] = (await once(worker.stdio[3] as NodeJS.ReadableStream, 'data')) as [Buffer]
    const { port } = JSON.parse(line.toString()) as { port: number }
    url = `http://127.0.0.1:${port}`
  })
  afterAll(async () => {
    const ended = once(worker, 'exit')
    worker.kill('SIGKILL')
    await ended
  })

  const ask = async (path: string): Promise<unknown> => (await createCaller(url, '').get(path)).body

  it('the package of the SDK does everything', async () => {
    expect(await ask('/everything')).toEqual(EVERYTHING)
    expect(await searchesOf(customer)).toBe(SEARCHES)
  })

  it.each([
    ['/shared', 1],
    ['/coalesced', 2],
    ['/counted', 1],
  ])('requests at one moment are each counted (%s)', async (path, each) => {
    const before = await searchesOf(customer)
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(path)))
    expect(answers).toEqual(Array.from({ length: 20 }, () => true))
    await waitUntil('all to be counted', 60_000, async () => (await searchesOf(customer)) === before + 20 * each)
  })
})

/** What a bundler would do for a Worker: JavaScript whose imports are files. Answers their names, the Worker's first. */
function writeModules(folder: string): readonly string[] {
  mkdirSync(join(folder, 'sdk'), { recursive: true })
  const dist = join(sdk.application, 'node_modules/@tollgate/sdk/dist')
  const files = readdirSync(dist).filter((name) => name.endsWith('.js') && name !== 'file-queue.js')
  for (const name of files) cpSync(join(dist, name), join(folder, 'sdk', name))
  const programs = ['worker', 'everything'].map((name) => {
    const script = stripTypeScriptTypes(readFileSync(join(sdk.application, `${name}.ts`), 'utf8'))
    const linked = script.replaceAll(/'@tollgate\/sdk(?:\/([a-z-]+))?'/g, (_all, part = 'index') => `'./sdk/${part}.js'`)
    writeFileSync(join(folder, `${name}.ts`), linked)
    return `${name}.ts`
  })
  return [...programs, ...files.map((name) => `sdk/${name}`)]
}

function configOf({ key, organizationId }: Customer, modules: readonly string[]): string {
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), (name = "internet", network = (allow = ["local"]))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const main :Workerd.Worker = (
  modules = [${modules.map((name) => `(name = "${name}", esModule = embed "${name}")`).join(', ')}],
  bindings = [
    (name = "TOLLGATE_URL", text = "${program.runtime.url}"),
    (name = "TOLLGATE_KEY", text = "${key}"),
    (name = "ORGANIZATION", text = "${organizationId}"),
  ],
  compatibilityDate = "2026-01-01",
  globalOutbound = "internet",
);
`
}

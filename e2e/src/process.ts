import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** What a running development server tells the CLI about itself. */
export type Runtime = { readonly url: string; readonly operatorKey: string; readonly sandboxUrl: string; readonly pid: number }

export type Program = {
  readonly runtime: Runtime
  readonly dataDir: string
  /** Ends the program by a signal and waits until it has gone. */
  end(signal: NodeJS.Signals): Promise<void>
}

export type ProgramOptions = {
  /** `dev` is `npm start`; a name is `npm run example -- <name>`. */
  readonly program: { kind: 'dev' } | { kind: 'example'; name: string }
  readonly dataDir: string
  readonly port: number
  readonly sandboxPort: number
  /** Where it is started; the root of the repository unless said. */
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
}

const READY_WITHIN_MS = 60_000

/** Starts Tollgate as a user would and answers when it is ready; fails with its output when it ends before. */
export async function startProgram(options: ProgramOptions): Promise<Program> {
  const runtimePath = join(options.dataDir, 'runtime.json')
  await rm(runtimePath, { force: true })
  const script =
    options.program.kind === 'dev'
      ? [join(ROOT, 'server/src/cli/main.ts'), 'dev']
      : [join(ROOT, 'scripts/example.ts'), options.program.name]
  const child = spawn(process.execPath, script, {
    cwd: options.cwd ?? ROOT,
    env: {
      ...process.env,
      PORT: String(options.port),
      TOLLGATE_SANDBOX_PORT: String(options.sandboxPort),
      TOLLGATE_DATA_DIR: options.dataDir,
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output: string[] = []
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => output.push(chunk.toString()))
  try {
    await waitUntil(`${script.join(' ')} to be ready`, READY_WITHIN_MS, () => {
      if (child.exitCode !== null) throw new Error(`It ended with ${child.exitCode}:\n${output.join('')}`)
      return existsSync(runtimePath)
    })
  } catch (error) {
    await endProcess(child, 'SIGINT')
    throw error
  }
  const runtime = JSON.parse(readFileSync(runtimePath, 'utf8')) as Runtime
  return { runtime, dataDir: options.dataDir, end: (signal) => endProcess(child, signal) }
}

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}

/** A directory of its own for one run, and ports that were free a moment ago. */
export async function createPlace(): Promise<{ dataDir: string; port: number; sandboxPort: number; remove(): Promise<void> }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'tollgate-e2e-'))
  // As root, PostgreSQL runs under nobody, which passes through here.
  await chmod(dataDir, 0o711)
  const [port, sandboxPort] = await Promise.all([findFreePort(), findFreePort()])
  return { dataDir, port, sandboxPort, remove: () => rm(dataDir, { recursive: true, force: true }) }
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('A TCP port was expected.')
  return address.port
}

/** Waits for a condition, looking every 25 ms; fails by name when it does not come true in time. */
export async function waitUntil(what: string, withinMs: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Waited ${withinMs} ms for ${what}.`)
    await new Promise((resolve) => {
      setTimeout(resolve, 25)
    })
  }
}

/** Runs `tollgate …` against a running program and answers what it printed as JSON. */
export async function runCli<Answer>(program: Program, args: readonly string[]): Promise<Answer> {
  const child = spawn(process.execPath, ['server/src/cli/main.ts', ...args, '--json'], {
    cwd: ROOT,
    env: { ...process.env, TOLLGATE_DATA_DIR: program.dataDir },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [stdout, stderr, [code]] = await Promise.all([readAll(child.stdout), readAll(child.stderr), once(child, 'exit')])
  if (code !== 0) throw new Error(`tollgate ${args.join(' ')} ended with ${String(code)}: ${stderr}${stdout}`)
  return JSON.parse(stdout) as Answer
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  return text
}

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { vi } from 'vitest'
import { readRuntime } from '../src/runtime-file.ts'

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const CLI = 'server/src/cli/main.ts'

export type Ended = { readonly code: number | null; readonly out: string; readonly err: string }

/** Variables of a development server on ports of its own. */
export function variablesFor(dataDir: string, more: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '', PORT: '0', TOLLGATE_SANDBOX_PORT: '0', TOLLGATE_DATA_DIR: dataDir, ...more }
}

/** Runs `tollgate …` to its end. */
export function runCli(args: readonly string[], env: Record<string, string>): Promise<Ended> {
  return runScript([CLI, ...args], env)
}

export async function runScript(script: readonly string[], env: Record<string, string>): Promise<Ended> {
  const child = spawnScript(script, env)
  const [out, err] = [collect(child.stdout), collect(child.stderr)]
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out: out(), err: err() }
}

/** Starts `tollgate dev` (or another script) and answers when it is ready. */
export async function startProgram(
  env: Record<string, string>,
  script = [CLI, 'dev'],
): Promise<{ child: ChildProcess; out: () => string }> {
  const child = spawnScript(script, env)
  const [out, err] = [collect(child.stdout), collect(child.stderr)]
  const isReady = () => {
    if (child.exitCode !== null) throw new Error(`It ended with ${child.exitCode}: ${out()}${err()}`)
    if (readRuntime(env['TOLLGATE_DATA_DIR']!)?.pid !== child.pid) throw new Error(`It is not ready: ${out()}${err()}`)
  }
  try {
    await vi.waitFor(isReady, { timeout: 50_000, interval: 20 })
  } catch (error) {
    // Nobody else knows of it, nor of its PostgreSQL.
    if (child.exitCode === null && child.kill('SIGINT')) await once(child, 'close')
    throw error
  }
  return { child, out }
}

export function spawnScript(script: readonly string[], env: Record<string, string>) {
  return spawn(process.execPath, script, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = ''
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return () => text
}

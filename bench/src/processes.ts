import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

export type ServerProcess = { readonly port: number; readonly pid: number; stop(): Promise<void> }

function start(script: string, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [fileURLToPath(new URL(script, import.meta.url)), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

/** Starts a server of this folder and waits for the line that tells its port. */
export async function startServer(script: string, args: readonly string[] = []): Promise<ServerProcess> {
  const child = start(script, args)
  const ended = once(child, 'close')
  const lines = createInterface({ input: child.stdout! })
  const [line] = (await Promise.race([
    once(lines, 'line'),
    ended.then(() => Promise.reject(new Error(`${script} ended early.`))),
  ])) as [string]
  const { port } = JSON.parse(line) as { port: number }
  return {
    port,
    pid: child.pid!,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** Runs a script of this folder with a task and answers what it prints. */
export async function runTask<Result>(script: string, task: unknown): Promise<Result> {
  const child = start(script, [])
  child.stdin!.end(JSON.stringify(task))
  const [output, [code]] = await Promise.all([text(child.stdout!), once(child, 'close')])
  if (code !== 0) throw new Error(`${script} ended with ${String(code)}.`)
  return JSON.parse(output) as Result
}

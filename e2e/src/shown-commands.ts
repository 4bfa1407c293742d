import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROOT, type Program } from './process.ts'

/** A command as a README shows it, and what the README says its answer holds. */
export type ShownCommand = { readonly command: string; readonly expected: string | null }

/** The commands of a README's `sh` blocks; ` # → text` behind one says what its answer holds. */
export function commandsOf(readme: string): ShownCommand[] {
  return [...readFileSync(join(ROOT, readme), 'utf8').matchAll(/```sh\n([\s\S]*?)```/g)]
    .flatMap(([, block]) => block!.replaceAll('\\\n', ' ').split('\n'))
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [command, expected] = line.split(' # → ')
      return { command: command!, expected: expected ?? null }
    })
}

export type RunCommand = ShownCommand & { readonly code: number; readonly output: string }

/**
 * Types a README's commands into one shell, as somebody who reads it would, against a program that runs already. `TOLLGATE` and
 * `OPERATOR` are those of the program; the lines that start it, or say where it is, are left out.
 */
export async function runShown(readme: string, program: Program): Promise<RunCommand[]> {
  const commands = commandsOf(readme).filter(
    ({ command }) => !/^(TOLLGATE=|OPERATOR=|export TOLLGATE_DATA_DIR=|([A-Z_]+=\S+ )?npm )/.test(command),
  )
  const mark = `<<<${crypto.randomUUID()}`
  const script = commands.map(({ command }) => `${command}\nprintf '\\n${mark} %d\\n' $?\n`).join('')
  const bin = await placeCommands(program)
  const child = spawn('bash', ['-c', script], {
    cwd: ROOT,
    env: {
      ...process.env,
      PATH: [bin, process.env['PATH'] ?? ''].join(delimiter),
      TOLLGATE_DATA_DIR: program.dataDir,
      TOLLGATE: program.runtime.url,
      OPERATOR: program.runtime.operatorKey,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output: string[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => output.push(chunk.toString()))
  await once(child, 'close')
  const outputs = output.join('').split(mark)
  return commands.map((command, index) => ({
    ...command,
    output: index === 0 ? outputs[0]! : (outputs[index] ?? '').replace(/^ \d+\n/, ''),
    code: Number(/^ (\d+)/.exec(outputs[index + 1] ?? '')?.[1] ?? Number.NaN),
  }))
}

/** What a README takes for granted: `curl`, and `npx tollgate` without the time that npx takes to look around. */
async function placeCommands({ dataDir }: Program): Promise<string> {
  const bin = join(dataDir, 'bin')
  const here = dirname(fileURLToPath(import.meta.url))
  await mkdir(bin, { recursive: true })
  const write = async (name: string, text: string): Promise<void> => {
    await writeFile(join(bin, name), `#!/bin/sh\n${text}\n`)
    await chmod(join(bin, name), 0o755)
  }
  await write('curl', `exec "${process.execPath}" "${join(here, 'curl.mjs')}" "$@"`)
  await write('npx', `shift; exec "${process.execPath}" "${join(ROOT, 'server/src/cli/main.ts')}" "$@"`)
  await symlink(process.execPath, join(bin, 'node')).catch(() => undefined)
  return bin
}

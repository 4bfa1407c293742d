import { existsSync, writeFileSync } from 'node:fs'
import { Argument, type Command } from 'commander'
import { completionScript, SHELLS, type Shell } from './completion.ts'
import { CliError } from './connection.ts'
import type { Kit } from './kit.ts'
import type { Output } from './print.ts'
import type { Pulled } from './pull.ts'
import { writeStarter } from './starter.ts'

export const LIVE = 'go on although the Stripe key is a live one'

export type ProjectKit = Pick<Kit, 'answer'> & {
  /** A command that may print JSON, and asks no server. */
  readonly local: Kit['remote']
  readonly output: Output
  readonly pull: (options: { live: boolean }) => Promise<Pulled>
}

/** What begins a project: a first catalog, one made from Stripe, the completion of a shell. */
export function addProject(program: Command, { local, answer, output, pull }: ProjectKit): void {
  local(program, 'init [directory]', 'write a first billing.config.ts').action(
    async (directory: string | undefined, _options, command: Command) => {
      answer(command, { written: writeStarter(directory ?? '.') })
    },
  )
  local(program, 'pull', 'write the products and prices at Stripe as a billing.config.ts')
    .option('--out <file>', 'where to; default: standard output')
    .option('--live', LIVE)
    .action(async ({ out, live, json }: { out?: string; live?: boolean; json?: boolean }, command: Command) => {
      if (out !== undefined && existsSync(out)) throw new CliError(`${out} is there already; nothing was written.`)
      const { text, plans, skipped } = await pull({ live: live === true })
      for (const line of skipped) output.err(`left out: ${line}\n`)
      if (out !== undefined) writeFileSync(out, text, { flag: 'wx' })
      if (out === undefined && json !== true) output.out(text)
      else answer(command, { plans, left_out: skipped.length, ...(out === undefined ? { text } : { written: out }) })
    })
  program
    .command('completion')
    .description('print a script that lets your shell complete this command')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action((shell: Shell) => output.out(completionScript(shell, program)))
}

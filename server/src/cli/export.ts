import { existsSync } from 'node:fs'
import { dirname, extname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Option, type Command } from 'commander'
import { CONTENT_TYPES, EXPORT_KINDS } from '../exports/rules.ts'
import { CliError } from './connection.ts'
import type { Kit } from './kit.ts'

type Export = { readonly id: string; readonly state: string; readonly error: string | null; readonly file_url: string | null }

type ExportOptions = {
  readonly format?: string
  readonly organization?: string
  readonly from?: string
  readonly to?: string
  readonly out: string
}

const FORMATS = Object.keys(CONTENT_TYPES)

/** The form that the name of a file says; where it says none, the first that the kind has. */
function formatOf(kind: string, file: string): string {
  const ending = extname(file).slice(1).toLowerCase()
  if (FORMATS.includes(ending)) return ending
  const [first] = Object.entries(EXPORT_KINDS).find(([name]) => name === kind)?.[1].formats ?? []
  return first ?? 'csv'
}

/** How long the making of a file is waited for, and how often it is asked after. */
const PATIENCE_MS = 600_000
const PAUSE_MS = 250

/** `tollgate export`: asks for a file, waits until it is made, and writes it. */
export function addExport(program: Command, { remote, server, answer }: Kit): void {
  remote(program, 'export <kind>', `write a file: ${Object.keys(EXPORT_KINDS).join(', ')}`)
    .addOption(new Option('--format <format>', 'its form; default: what the name of the file says').choices(FORMATS))
    .option('--organization <id>', 'only of this organization')
    .option('--from <time>', 'from when, e.g. 2026-10-01')
    .option('--to <time>', 'until when, exclusive')
    .requiredOption('--out <file>', 'where to')
    .action(async (kind: string, { format, organization, from, to, out }: ExportOptions, command: Command) => {
      if (existsSync(out)) throw new CliError(`${out} is there already; nothing was written.`)
      if (!existsSync(dirname(out))) throw new CliError(`There is no directory ${dirname(out)}; nothing was asked for.`)
      const connection = server(command)
      const body = { kind, format: format ?? formatOf(kind, out), organization_id: organization, from, to }
      let made = await connection.call<Export>('POST', '/api/v1/admin/exports', body)
      for (let waited = 0; made.state === 'queued' || made.state === 'running'; waited += PAUSE_MS) {
        if (waited >= PATIENCE_MS) throw new CliError(`The export ${made.id} is not done yet; ask for it later.`)
        await pause(PAUSE_MS)
        made = await connection.call<Export>('GET', `/api/v1/admin/exports/${made.id}`)
      }
      if (made.file_url === null) throw new CliError(`The export failed: ${made.error ?? made.state}.`)
      const bytes = await connection.saveFile(new URL(made.file_url, connection.url).pathname, out)
      answer(command, { written: out, bytes })
    })
}

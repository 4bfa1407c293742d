import { Option, type Command } from 'commander'
import { CliError } from './connection.ts'
import { queryOf, type Kit } from './kit.ts'
import type { Output } from './print.ts'

type Verification = {
  readonly intact: boolean
  readonly entries: number
  readonly chains: number
  readonly broken: {
    readonly detail: string
    readonly id: string | null
    readonly organization_id: string | null
    readonly position: number
  } | null
}

type Filter = {
  readonly organization?: string
  readonly actor?: string
  readonly action?: string
  readonly from?: string
  readonly to?: string
}

export type AuditKit = Kit & {
  /** A command that writes a file to standard output, in a form of its own; it may name its server. */
  readonly streamed: Kit['remote']
}

/** EM-14: the audit log. */
export function addAudit(program: Command, { remote, streamed, server, answer }: AuditKit, output: Output): void {
  const audit = program.command('audit').description('who did what')
  const filtering = (command: Command): Command =>
    command
      .option('--organization <id>', 'only of this organization')
      .option('--actor <actor>', 'only by, e.g. api_key:key_…')
      .option('--action <action>', 'only this, e.g. api_key.revoked')
      .option('--from <time>', 'from this moment on, e.g. 2026-12-24T00:00:00Z')
      .option('--to <time>', 'before this moment')

  filtering(remote(audit, 'list', 'the newest entries')).action(
    async (options: Filter & { json?: boolean }, command: Command) => {
      const { entries } = await server(command).call<{ entries: Record<string, unknown>[] }>(
        'GET',
        `/api/v1/audit-log?${filterOf(options)}`,
      )
      const brief = entries.map(({ id, at, organization_id, actor, action, target }) => ({
        id,
        at,
        organization_id,
        actor,
        action,
        target,
      }))
      answer(command, options.json === true ? entries : brief)
    },
  )
  filtering(streamed(audit, 'export', 'all entries as a file, on standard output'))
    .addOption(
      new Option('--format <format>', 'ndjson holds what the hashes are over').choices(['ndjson', 'csv']).default('ndjson'),
    )
    .action(async ({ format, ...options }: Filter & { format: string }, command: Command) => {
      await server(command).download(`/api/v1/audit-log/export?format=${format}&${filterOf(options)}`, output.out)
    })
  remote(audit, 'verify', 'whether every entry still says what it said, and none is gone')
    .option('--organization <id>', 'only of this organization')
    .action(async ({ organization }: { organization?: string }, command: Command) => {
      const found = await server(command).call<Verification>(
        'GET',
        `/api/v1/audit-log/verification?${queryOf({ organization_id: organization })}`,
      )
      const { intact, entries, chains, broken } = found
      answer(command, broken === null ? { intact, entries, chains } : { intact, ...broken })
      if (broken !== null)
        throw new CliError(`The audit log is not intact, first at entry ${broken.id ?? '(none left)'}: ${broken.detail}`)
    })
}

function filterOf({ organization, actor, action, from, to }: Filter): string {
  return queryOf({ organization_id: organization, actor, action, from, to })
}

import { InvalidArgumentError, type Command } from 'commander'
import { importCatalogDefinition } from '../catalog/registry.ts'
import type { CatalogVariables } from '../catalog/define.ts'
import { CliError } from './connection.ts'
import { addExport } from './export.ts'
import { path, type Kit } from './kit.ts'

/** What operators do with the money: previews, the comparison with Stripe, other catalogs. */
export function addOperations(program: Command, kit: Kit, variables: CatalogVariables): void {
  addPreview(program, kit)
  addReconcile(program, kit)
  addMigrations(program, kit)
  addSimulate(program, kit, variables)
  addTrigger(program, kit)
  addExport(program, kit)
}

function addPreview(program: Command, { remote, server, answer }: Kit): void {
  const preview = program.command('preview').description('what a change would mean; changes nothing')
  const change = (name: string, description: string): Command => remote(preview, `${name} <organization>`, description)
  const ask = async (command: Command, name: string, body: object): Promise<void> =>
    answer(command, await server(command).call('POST', `/api/v1/billing/${name}/preview`, body))

  for (const [name, description] of [
    ['subscribe', 'a new subscription'],
    ['upgrade', 'another plan, interval or number of seats'],
  ] as const) {
    const asked = change(name, description)
      .requiredOption('--plan <plan>', 'the plan')
      .option('--interval <interval>', 'monthly or yearly')
      .option('--quantity <seats>', 'seats', toCount)
    if (name === 'upgrade') asked.option('--at <when>', 'now or period_end')
    asked.action(
      async (organization: string, options: { plan: string; interval?: string; quantity?: number; at?: string }, command) => {
        const { plan, interval, quantity, at } = options
        await ask(command, name, { organization_id: organization, plan, interval, quantity, at })
      },
    )
  }
  change('cancel', 'a cancellation')
    .option('--immediate', 'now, not at the end of the period')
    .action(async (organization: string, { immediate }: { immediate?: boolean }, command: Command) => {
      await ask(command, 'cancel', { organization_id: organization, immediate: immediate === true })
    })
}

function addReconcile(program: Command, { remote, server, answer }: Kit): void {
  remote(
    program,
    'reconcile [organization]',
    'compare one with Stripe now, or all in the background; without either, tell the state',
  )
    .option('--all', 'begin to compare every organization anew')
    .action(async (organization: string | undefined, { all }: { all?: boolean }, command: Command) => {
      if (organization !== undefined && all === true) command.error('error: name an organization or --all, not both')
      const connection = server(command)
      if (organization !== undefined) {
        const { drifts } = await connection.call<{ drifts: unknown[] }>(
          'POST',
          `/api/v1/organizations/${path(organization)}/reconcile`,
        )
        answer(command, drifts)
        return
      }
      answer(command, await connection.call(all === true ? 'POST' : 'GET', '/api/v1/admin/reconciliation'))
    })
  remote(program, 'drift', 'what differed between Stripe and the mirror, newest first')
    .option('--organization <id>', 'only of this organization')
    .option('--limit <count>', 'how many', toCount, 100)
    .action(async ({ organization, limit }: { organization?: string; limit: number }, command: Command) => {
      const only = organization === undefined ? '' : `&organization_id=${path(organization)}`
      const { drifts } = await server(command).call<{ drifts: unknown[] }>('GET', `/api/v1/admin/drift?limit=${limit}${only}`)
      answer(command, drifts)
    })
}

type MigrationOptions = { readonly plan?: string; readonly fromVersion?: number }

function addMigrations(program: Command, { remote, server, answer }: Kit): void {
  const migrations = program.command('migrations').description('moving customers to the present terms of their plan')
  const chosen = ({ plan, fromVersion }: MigrationOptions): object => ({ plan, from_version: fromVersion })
  const choosing = (command: Command): Command =>
    command
      .option('--plan <plan>', 'only its customers')
      .option('--from-version <version>', 'only those with these terms', toCount)

  choosing(remote(migrations, 'preview', 'who would be moved, and how much they would pay')).action(
    async (options: MigrationOptions & { json?: boolean }, command: Command) => {
      const preview = await server(command).call<{ moves: unknown[] }>(
        'POST',
        '/api/v1/admin/catalog/migrations/preview',
        chosen(options),
      )
      answer(command, options.json === true ? preview : preview.moves)
    },
  )
  choosing(remote(migrations, 'start <reason>', 'move them'))
    .option('--at <when>', 'now or period_end', 'period_end')
    .action(async (reason: string, options: MigrationOptions & { at: string }, command: Command) => {
      const body = { ...chosen(options), at: options.at, reason }
      answer(command, await server(command).call('POST', '/api/v1/admin/catalog/migrations', body))
    })
  remote(migrations, 'show <migration>', 'how far it is').action(async (migration: string, _options, command: Command) => {
    answer(command, await server(command).call('GET', `/api/v1/admin/catalog/migrations/${path(migration)}`))
  })
}

type Simulation = { readonly plans: readonly Record<string, unknown>[]; readonly customers: readonly Customer[] } & Record<
  string,
  unknown
>
type Revenue = { readonly total_minor: number; readonly refused: object }
type Customer = Record<string, unknown> & { readonly present: Revenue; readonly other: Revenue | null }

function addSimulate(program: Command, { remote, server, answer }: Kit, variables: CatalogVariables): void {
  remote(program, 'simulate <catalog>', 'what recorded use would have brought under another billing.config.ts')
    .requiredOption('--from <month>', 'the first month, e.g. 2026-10')
    .option('--to <month>', 'the last month; default: the first')
    .option('--organization <id>', 'only this customer')
    .option('--plan <old=new>', 'where a plan has another name there', toNames, {})
    .option('--customers <count>', 'how many customers to name', toCount, 20)
    .action(
      async (
        file: string,
        options: { from: string; to?: string; organization?: string; plan: object; customers: number; json?: boolean },
        command: Command,
      ) => {
        const simulation = await server(command).call<Simulation>('POST', '/api/v1/admin/simulations', {
          catalog: await importCatalogDefinition(file, variables),
          from: options.from,
          to: options.to ?? options.from,
          organization_id: options.organization,
          plans: options.plan,
          limit: options.customers,
        })
        if (options.json === true) return answer(command, simulation)
        const { plans, customers, ...sums } = simulation
        answer(command, sums)
        answer(command, plans)
        return answer(command, customers.map(toRow))
      },
    )
}

function toRow({ organization_id, plan, present, other, difference_minor }: Customer): Record<string, unknown> {
  return {
    organization_id,
    plan,
    present_minor: present.total_minor,
    other_minor: other?.total_minor ?? null,
    difference_minor,
    refused: other?.refused ?? null,
  }
}

function addTrigger(program: Command, { remote, server, answer }: Kit): void {
  remote(
    program,
    'trigger <event>',
    'let the Stripe sandbox make the objects that lead to an event, e.g. invoice.payment_failed',
  ).action(async (event: string, _options, command: Command) => {
    const { sandboxUrl } = server(command)
    if (sandboxUrl === null) throw new CliError('No Stripe sandbox runs here; events of Stripe itself come from Stripe.')
    const response = await fetch(`${sandboxUrl}/_sandbox/trigger`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ event }),
    })
    const made = (await response.json()) as { events?: string[]; error?: { message?: string } | string }
    if (!response.ok) {
      throw new CliError(
        typeof made.error === 'string' ? made.error : (made.error?.message ?? `The sandbox answered ${response.status}.`),
      )
    }
    answer(command, { triggered: event, events: made.events ?? [] })
  })
}

function toCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('A whole number is expected.')
  return Number(text)
}

function toNames(text: string, names: object): object {
  const [old, present] = text.split('=')
  if (!old || !present) throw new InvalidArgumentError('old=new is expected.')
  return { ...names, [old]: present }
}

import { Command, InvalidArgumentError, Option } from 'commander'
import type { CatalogVariables } from '../catalog/define.ts'
import { newIdempotencyKey } from '../lib/ids.ts'
import { VERSION } from '../lib/version.ts'
import { addAudit } from './audit.ts'
import { CliError, connect, type Connection } from './connection.ts'
import { path, queryOf, type Kit } from './kit.ts'
import { addOperations } from './operations.ts'
import { addProject, LIVE } from './project.ts'
import type { Pulled } from './pull.ts'
import { printAnswer, type Output } from './print.ts'
import { addUsers } from './users.ts'

/** What starts and prepares servers; given by `main.ts`, so that a command over HTTP loads none of it. */
export type Launchers = {
  /** `tollgate dev`: everything on this machine. */
  readonly dev: (options: { live: boolean }) => Promise<void>
  /** `tollgate start`: the server alone, on the PostgreSQL and Stripe that are configured. */
  readonly start: () => Promise<void>
  /** `tollgate migrate`: answers the migrations that were applied. */
  readonly migrate: () => Promise<readonly string[]>
  /** `tollgate push`: prints the difference first, and carries it out unless `dryRun`. */
  readonly push: (options: {
    dryRun: boolean
    live: boolean
    print: (line: string) => void
  }) => Promise<{ readonly changed: number }>
  /** `tollgate pull`: the products and prices at Stripe as a billing.config.ts. */
  readonly pull: (options: { live: boolean }) => Promise<Pulled>
  /** `tollgate doctor`: what is configured, what answers, what does not. */
  readonly doctor: () => Promise<readonly { readonly check: string; readonly ok: boolean; readonly detail: string }[]>
}

export type ProgramOptions = {
  readonly launchers: Launchers
  readonly output: Output
  readonly dataDir: string
  readonly operatorKey?: string | undefined
  /** For a catalog that is a function of them. */
  readonly variables: CatalogVariables
}

type Globals = { readonly json?: boolean; readonly url?: string }

/** The command line: thin words over routes and launchers. */
export function createProgram({ launchers, output, dataDir, operatorKey, variables }: ProgramOptions): Command {
  const program = new Command('tollgate').description('Billing, metering and entitlements.').version(VERSION).exitOverride()
  program.configureOutput({ writeOut: output.out, writeErr: output.err })
  // Commander names what has to be given only once it is missing.
  program.configureHelp({ optionTerm: ({ flags, mandatory }) => (mandatory ? `${flags} (required)` : flags) })
  const globals = (command: Command): Globals => command.optsWithGlobals<Globals>()
  const server = (command: Command): Connection => connect({ url: globals(command).url, operatorKey, dataDir })
  const answer = (command: Command, value: unknown): void => printAnswer(value, { json: globals(command).json === true, output })
  /** A command that may print JSON. */
  const local: Kit['remote'] = (parent, usage, description) =>
    parent.command(usage).description(description).addOption(new Option('--json', 'print the answer as JSON'))
  /** The same over HTTP: it may name its server. */
  const remote: Kit['remote'] = (parent, usage, description) => local(parent, usage, description).addOption(urlOption())
  const streamed: Kit['remote'] = (parent, usage, description) =>
    parent.command(usage).description(description).addOption(urlOption())

  program
    .command('dev')
    .description('PostgreSQL, Stripe sandbox and server on this machine')
    .option('--live', LIVE)
    .action(async ({ live }: { live?: boolean }) => launchers.dev({ live: live === true }))
  program.command('start').description('the server on the configured PostgreSQL and Stripe').action(launchers.start)
  local(program, 'migrate', 'apply the migrations that are missing').action(async (_options, command: Command) => {
    answer(command, { applied: await launchers.migrate() })
  })
  local(program, 'push', 'bring products and prices of the catalog to Stripe')
    .option('--dry-run', 'only print what would change')
    .option('--live', LIVE)
    .action(async (options: { dryRun?: boolean; live?: boolean; json?: boolean }, command: Command) => {
      const print = options.json === true ? () => undefined : (line: string) => output.out(`${line}\n`)
      const report = await launchers.push({ dryRun: options.dryRun === true, live: options.live === true, print })
      answer(command, options.json === true ? report : { [options.dryRun === true ? 'would change' : 'changed']: report.changed })
    })
  local(program, 'doctor', 'what is configured, and what answers').action(async (_options, command: Command) => {
    const findings = await launchers.doctor()
    answer(command, findings)
    if (findings.some(({ ok }) => !ok)) throw new CliError('Something is not as it should be: see above.')
  })
  addProject(program, { local, answer, output, pull: launchers.pull })
  addOperations(program, { remote, server, answer }, variables)
  addClock(program, { remote, server, answer })
  addOrganizations(program, { remote, server, answer })
  addKeys(program, { remote, server, answer })
  addEvents(program, { remote, server, answer })
  addAudit(program, { remote, streamed, server, answer }, output)
  addMails(program, { remote, server, answer })
  addUsers(program, { remote, server, answer })
  return program
}

function addClock(program: Command, { remote, server, answer }: Kit): void {
  const clock = program.command('clock').description('the test clocks of organizations')
  remote(clock, 'advance <organization>', 'move the clock of an organization, and wait until all that follows is handled')
    .option('--by <duration>', 'how far, e.g. 31d, 12h, 90m')
    .option('--to <time>', 'until when, e.g. 2026-12-24T00:00:00Z')
    .action(async (organization: string, { by, to }: { by?: string; to?: string }, command: Command) => {
      answer(command, await server(command).call('POST', `/api/v1/organizations/${path(organization)}/clock/advance`, { by, to }))
    })
}

type Once = { readonly idempotencyKey?: string }

/** A command that makes something: run again after an answer that was lost, with the key that it named then, it makes no second one. */
function once(command: Command): Command {
  return command.option('--idempotency-key <key>', 'of a run whose answer was lost: asks for the same again')
}

function requestKeyOf({ idempotencyKey = newIdempotencyKey() }: Once): string {
  return idempotencyKey
}

function addOrganizations(program: Command, { remote, server, answer }: Kit): void {
  const organizations = program.command('orgs').description('organizations')
  once(remote(organizations, 'create <name> <email>', 'create an organization'))
    .option('--id <id>', 'its id; default: a new one')
    .option('--test-clock', 'let it live on a test clock of its own')
    .action(async (name: string, email: string, options: Once & { id?: string; testClock?: boolean }, command: Command) => {
      const body = { id: options.id, name, email, test_clock: options.testClock === true }
      answer(command, await server(command).call('POST', '/api/v1/organizations', body, requestKeyOf(options)))
    })
  remote(organizations, 'list', 'list organizations')
    .option('--after <id>', 'the last id of the page before', '')
    .action(async ({ after }: { after: string }, command: Command) => {
      const page = await server(command).call<{ organizations: unknown[] }>(
        'GET',
        `/api/v1/organizations?limit=100&starting_after=${path(after)}`,
      )
      answer(command, page.organizations)
    })
  remote(organizations, 'show <organization>', 'show one').action(async (organization: string, _options, command: Command) => {
    answer(command, await server(command).call('GET', `/api/v1/organizations/${path(organization)}`))
  })
}

function addKeys(program: Command, { remote, server, answer }: Kit): void {
  const keys = program.command('keys').description('API keys of an organization')
  once(remote(keys, 'create <organization> <name>', 'create a key; it is shown once'))
    .option('--scopes <scopes>', 'read, write, admin', 'read,write')
    .action(async (organization: string, name: string, options: Once & { scopes: string }, command: Command) => {
      const body = { name, scopes: options.scopes.split(',').map((scope) => scope.trim()) }
      const address = `/api/v1/organizations/${path(organization)}/api-keys`
      answer(command, await server(command).call('POST', address, body, requestKeyOf(options)))
    })
  remote(keys, 'list <organization>', 'list the keys').action(async (organization: string, _options, command: Command) => {
    const list = await server(command).call<{ api_keys: unknown[] }>(
      'GET',
      `/api/v1/organizations/${path(organization)}/api-keys`,
    )
    answer(command, list.api_keys)
  })
  remote(keys, 'revoke <organization> <key>', 'revoke a key').action(
    async (organization: string, key: string, _options, command: Command) => {
      await server(command).call('DELETE', `/api/v1/organizations/${path(organization)}/api-keys/${path(key)}`)
      answer(command, { revoked: key })
    },
  )
}

function addEvents(program: Command, { remote, server, answer }: Kit): void {
  const events = program.command('events').description('webhook events that arrived from Stripe')
  remote(events, 'list', 'the newest events')
    .option('--status <status>', 'pending, failed or handled')
    .option('--after <event>', 'those before this one, the last of an earlier list')
    .action(async ({ status, after }: { status?: string; after?: string }, command: Command) => {
      const query = queryOf({ status, starting_after: after })
      const list = await server(command).call<{ events: unknown[] }>('GET', `/api/v1/stripe-events?${query}`)
      answer(command, list.events)
    })
  remote(events, 'show <event>', 'one event with its payload').action(async (event: string, _options, command: Command) => {
    answer(command, await server(command).call('GET', `/api/v1/stripe-events/${path(event)}`))
  })
  remote(events, 'replay <event>', 'handle an event again').action(async (event: string, _options, command: Command) => {
    answer(command, await server(command).call('POST', `/api/v1/stripe-events/${path(event)}/replay`))
  })
}

function addMails(program: Command, { remote, server, answer }: Kit): void {
  const mails = program.command('mails').description('mails that were sent, or kept where no SMTP server is set')
  remote(mails, 'list', 'the newest mails')
    .option('--state <state>', 'pending, sent, kept or failed')
    .option('--to <address>', 'only those to this address')
    .option('--after <mail>', 'those before this one, the last of an earlier list')
    .action(async ({ state, to, after }: { state?: string; to?: string; after?: string }, command: Command) => {
      const query = queryOf({ state, to, starting_after: after })
      const list = await server(command).call<{ mails: Record<string, unknown>[] }>('GET', `/api/v1/mails?${query}`)
      answer(command, list.mails)
    })
  remote(mails, 'show <mail>', 'one mail with its text').action(async (mail: string, options: { json?: boolean }, command) => {
    const { html, ...rest } = await server(command).call<Record<string, unknown>>('GET', `/api/v1/mails/${path(mail)}`)
    answer(command, options.json === true ? { ...rest, html } : rest)
  })
  remote(mails, 'resend <mail>', 'send one that failed or was kept').action(async (mail: string, _options, command: Command) => {
    answer(command, await server(command).call('POST', `/api/v1/mails/${path(mail)}/resend`))
  })
}

function urlOption(): Option {
  return new Option('--url <url>', 'the server to ask; default: the one that runs here').argParser((text) => {
    if (!/^https?:/.test(text) || !URL.canParse(text)) {
      throw new InvalidArgumentError('An address such as http://127.0.0.1:3000 is expected.')
    }
    return text.replace(/\/+$/, '')
  })
}

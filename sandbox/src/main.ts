import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { parseClock, parseJson, parsePort, parseSpan, parseTime } from './cli/options.ts'
import { triggerableEvents } from './control/trigger.ts'
import { checkedChaos } from './events/chaos.ts'
import { checkedLimits } from './http/rate-limit.ts'
import type { EndpointSettings, SandboxOptions } from './index.ts'
import { startSandbox } from './index.ts'

const HELP = `stripe-sandbox: a stateful Stripe that runs offline

  stripe-sandbox [start] [options]     start it (default port 12111)
  stripe-sandbox export [FILE]         write the state of a running sandbox
  stripe-sandbox import FILE           add a state to a running sandbox
  stripe-sandbox trigger EVENT         make the objects that lead to an event
  stripe-sandbox clock [--by 31d | --to TIME | --freeze TIME | --rate N | --real]

Options of start
  --port N             port to listen on; 0 takes a free one
  --host ADDRESS       address to listen on (127.0.0.1)
  --public-url URL     address that links name, where it is another
  --data FILE          keep the state in a SQLite file
  --webhook URL        send every event there (may be given several times)
  --webhook-secret S   signing secret of these endpoints (made up and printed otherwise)
  --events LIST        only these events, comma separated
  --clock CLOCK        real, a time to stand still at, 60x, or TIME@60x
  --seed SEED          same seed, same ids and same chaos
  --api-key KEY        accept only this key (may be given several times)
  --chaos JSON         trouble to make, as POST /_sandbox/chaos takes it
  --rate-limits JSON   {"perSecond": 25, "perEndpoint": 25} is what Stripe allows its sandboxes; none otherwise

The other commands talk to --url (http://127.0.0.1:12111).

Point the official library at it: new Stripe('sk_test_123', { host: '127.0.0.1', port: 12111, protocol: 'http' })
`

const OPTIONS = {
  port: { type: 'string' },
  host: { type: 'string' },
  'public-url': { type: 'string' },
  data: { type: 'string' },
  webhook: { type: 'string', multiple: true },
  'webhook-secret': { type: 'string' },
  events: { type: 'string' },
  clock: { type: 'string' },
  seed: { type: 'string' },
  'api-key': { type: 'string', multiple: true },
  chaos: { type: 'string' },
  'rate-limits': { type: 'string' },
  url: { type: 'string' },
  by: { type: 'string' },
  to: { type: 'string' },
  freeze: { type: 'string' },
  rate: { type: 'string' },
  real: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsConfig['options']

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS; allowPositionals: true }>>['values']

const DEFAULT_PORT = 12_111

/** The command line. Sets the exit code; a mistake prints one sentence. */
export async function main(args: string[]): Promise<void> {
  try {
    const { values, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true })
    const [command = 'start', argument] = positionals
    if (values.help === true || command === 'help') console.log(HELP)
    else await run(command, argument, values)
  } catch (error) {
    console.error(`stripe-sandbox: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
}

async function run(command: string, argument: string | undefined, values: Values): Promise<void> {
  switch (command) {
    case 'start':
      return start(values)
    case 'export': {
      const text = JSON.stringify(await ask(values, 'GET', '/_sandbox/export'), null, 2)
      if (argument === undefined) console.log(text)
      else writeFileSync(argument, `${text}\n`)
      return
    }
    case 'import':
      if (argument === undefined) throw new RangeError('Which file? stripe-sandbox import FILE')
      return console.log(await ask(values, 'POST', '/_sandbox/import', readFileSync(argument, 'utf8')))
    case 'trigger':
      if (argument === undefined) throw new RangeError(`Which event? One of: ${triggerableEvents().join(', ')}`)
      return console.log(await ask(values, 'POST', '/_sandbox/trigger', JSON.stringify({ event: argument })))
    case 'clock':
      return console.log(await ask(values, 'POST', '/_sandbox/clock', JSON.stringify(clockMove(values))))
    default:
      throw new RangeError(`There is no command '${command}'. See stripe-sandbox --help.`)
  }
}

async function start(values: Values): Promise<void> {
  const sandbox = await startSandbox(optionsOf(values))
  console.log(`Stripe sandbox listening on ${sandbox.url}`)
  for (const endpoint of sandbox.all('webhook_endpoint'))
    console.log(`webhooks go to ${endpoint.url}, signed with ${endpoint._.secret}`)
  const stop = () => {
    void sandbox.stop().then(() => process.exit(0))
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
}

function optionsOf(values: Values): SandboxOptions {
  const optional = <N extends keyof SandboxOptions>(name: N, value: SandboxOptions[N] | undefined) =>
    value === undefined ? {} : ({ [name]: value } as Pick<SandboxOptions, N>)
  const limits = values['rate-limits']
  return {
    port: values.port === undefined ? DEFAULT_PORT : parsePort(values.port),
    webhooks: (values.webhook ?? []).map((url) => endpointOf(url, values)),
    ...optional('host', values.host),
    ...optional('publicUrl', values['public-url']),
    ...optional('data', values.data),
    ...optional('clock', values.clock === undefined ? undefined : parseClock(values.clock)),
    ...optional('seed', values.seed),
    ...optional('apiKeys', values['api-key']),
    ...optional('chaos', values.chaos === undefined ? undefined : checkedChaos(parseJson('--chaos', values.chaos))),
    ...optional('rateLimits', limits === undefined ? undefined : checkedLimits(parseJson('--rate-limits', limits))),
  }
}

function endpointOf(url: string, values: Values): EndpointSettings {
  return {
    url,
    ...(values['webhook-secret'] === undefined ? {} : { secret: values['webhook-secret'] }),
    ...(values.events === undefined ? {} : { enabledEvents: values.events.split(',') }),
  }
}

function clockMove(values: Values): object {
  if (values.to !== undefined) return { advance_to: parseTime(values.to) }
  if (values.by !== undefined) return { advance_by: parseSpan(values.by) }
  if (values.freeze !== undefined) return { freeze_at: parseTime(values.freeze) }
  if (values.rate !== undefined) return { rate: Number(values.rate) }
  return values.real === true ? { real: true } : {}
}

/** Asks a running sandbox; throws its sentence when it refuses. */
async function ask(values: Values, method: string, path: string, body?: string): Promise<unknown> {
  const url = values.url ?? `http://127.0.0.1:${DEFAULT_PORT}`
  const response = await fetch(url + path, { method, ...(body === undefined ? {} : { body }) }).catch(() => {
    throw new Error(`No sandbox answers at ${url}. Start one, or name it with --url.`)
  })
  const answer = (await response.json()) as { error?: { message: string } }
  if (!response.ok) throw new Error(answer.error?.message ?? `HTTP ${response.status}`)
  return answer
}

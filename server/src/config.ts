import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { z } from 'zod'
import { IDENTITY_TOGETHER, identityVariables, listOf } from './identity-config.ts'

/** What start-up refuses: one sentence per variable that is wrong. */
export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

const wholeNumber = (unit: string, least: number, most: number) =>
  z.coerce
    .number(`a number of ${unit} is expected`)
    .int(`a whole number of ${unit} is expected`)
    .min(least, `at least ${least} is expected`)
    .max(most, `at most ${most} is expected`)
const port = z.coerce.number('a port number is expected').int('a port number is expected').min(0).max(65_535)
const days = (most: number) => wholeNumber('days', 0, most)
const httpUrl = z.url({ protocol: /^https?$/, error: 'an http or https address is expected' })

/** Every variable of the server. `.env.example` is generated from this table. */
export const variablesSchema = z.object({
  PORT: port.default(3000).meta({ description: 'Where the server listens.' }),
  // Not HOST: some shells export that as the name of the machine.
  TOLLGATE_HOST: z.string().default('127.0.0.1').meta({ description: 'The address it listens on; 0.0.0.0 for all.' }),
  TOLLGATE_KEEP_ALIVE_SECONDS: wholeNumber('seconds', 5, 3_600).default(65).meta({
    description:
      'How long "tollgate start" keeps a connection on which nothing is asked: longer than the proxy in front keeps it, or some of its requests meet a closed one (502). Google’s load balancers keep theirs for 600.',
  }),
  TOLLGATE_DRAIN_SECONDS: wholeNumber('seconds', 0, 300).default(0).meta({
    description:
      'How long "tollgate start" goes on answering once it is told to stop, while /readyz says 503: as long as the load balancer in front takes to notice.',
  }),
  TOLLGATE_PUBLIC_URL: httpUrl
    .optional()
    .meta({ description: 'The address by which browsers reach the server; default http://localhost:PORT.' }),
  TOLLGATE_DATA_DIR: z
    .string()
    .default('.tollgate')
    .meta({ description: 'Where "tollgate dev" keeps the embedded PostgreSQL, the sandbox and the operator key.' }),
  TOLLGATE_CATALOG: z
    .string()
    .default('examples/episodic-memory/billing.config.ts')
    .meta({ description: 'The billing.config.ts with meters, credits and plans.' }),
  TOLLGATE_OPERATOR_KEY: z.string().min(8, 'at least 8 characters are expected').optional().meta({
    description:
      'The bootstrap operator key. Without it, "tollgate dev" makes one and keeps it in the data directory (0600); "tollgate start" has none then.',
  }),
  TOLLGATE_SECRET: z
    .string()
    .min(32, 'at least 32 characters are expected')
    .optional()
    .meta({ description: 'The secret behind the digests of API keys. Without it, one is made and kept in the database.' }),
  TOLLGATE_SANDBOX_PORT: port
    .default(12_111)
    .meta({ description: 'Where the Stripe sandbox of "tollgate dev" listens while no Stripe key is set.' }),
  TOLLGATE_TENANT_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_-]{0,30}$/, 'letters, digits, _ and - are expected')
    .default('org_')
    .meta({ description: 'What an organization id begins with (KF-2), e.g. Jeturing_.' }),
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/, error: 'an address such as postgresql://user:password@host:5432/name is expected' })
    .optional()
    .meta({ description: 'A PostgreSQL (15 or newer) to use instead of the embedded one.' }),
  TOLLGATE_DATABASE_CONNECTIONS: wholeNumber('connections', 5, 200).default(20).meta({
    description:
      'Connections to PostgreSQL that a server opens at most for all that is not counting; counting and the rest take 12 more.',
  }),
  TOLLGATE_ROW_SECURITY: z.enum(['auto', 'required'], 'auto or required is expected').default('auto').meta({
    description: 'required: no start where the database login may not bring row-level security about; auto: a warning then.',
  }),
  METRICS_TOKEN: z
    .string()
    .min(16, 'at least 16 characters are expected')
    .optional()
    .meta({ description: 'What Prometheus sends as a bearer token to read /metrics; an operator key opens it too.' }),
  STRIPE_SECRET_KEY: z
    .string()
    .regex(/^(sk|rk)_(test|live)_/, 'a key that begins with sk_test_, sk_live_, rk_test_ or rk_live_ is expected')
    .optional()
    .meta({ description: 'A Stripe key: the server then talks to Stripe instead of the sandbox. STRIPE_API_KEY is the same.' }),
  STRIPE_PUBLISHABLE_KEY: z
    .string()
    .regex(/^pk_(test|live)_/, 'a key that begins with pk_test_ or pk_live_ is expected')
    .optional()
    .meta({ description: 'The key with which Stripe.js takes cards in the browser; pages read it from /api/v1/billing/config.' }),
  STRIPE_ENABLED: z.enum(['true', 'false'], 'true or false is expected').default('true').meta({
    description:
      'false: the server works without Stripe, whether a key is set or not; `npm start` then starts no sandbox either.',
  }),
  STRIPE_WEBHOOK_SECRET: z
    .string()
    .regex(/^whsec_[^,\s]+(,whsec_[^,\s]+)*$/, 'a secret that begins with whsec_ is expected, or several with a comma between')
    .optional()
    .meta({
      description:
        'The signing secret of the webhook endpoint; needed with a Stripe key. Several with a comma between: while one is rolled, or for thin events.',
    }),
  STRIPE_ENVIRONMENT: z
    .enum(['test', 'live'], 'test or live is expected')
    .optional()
    .meta({ description: 'test or live: a key of the other mode fails start-up.' }),
  STRIPE_SUCCESS_URL: httpUrl.optional().meta({ description: 'Where checkout sends the customer after paying.' }),
  STRIPE_CANCEL_URL: httpUrl.optional().meta({ description: 'Where checkout sends the customer who goes back.' }),
  STRIPE_PORTAL_RETURN_URL: httpUrl.optional().meta({ description: 'Where the billing portal sends the customer back to.' }),
  STRIPE_PRICE_ID: z
    .string()
    .optional()
    .meta({ description: 'The price that checkout uses when the request names none (MR-1).' }),
  STRIPE_ENABLE_METERED_BILLING: z.enum(['true', 'false'], 'true or false is expected').default('false').meta({
    description:
      'Reports all use of the first credit pool to the meter of STRIPE_METERED_PRICE_ID (EM-3). Overage with a price is reported without it.',
  }),
  STRIPE_METERED_PRICE_ID: z
    .string()
    .optional()
    .meta({ description: 'A metered price of one’s own, sold with every plan while metered billing is enabled.' }),
  STRIPE_AUTOMATIC_TAX: z.enum(['true', 'false'], 'true or false is expected').default('false').meta({
    description:
      'true: Stripe Tax works out the tax of what is bought, by the customer’s address (PUT /api/v1/billing/details, or asked for on the page).',
  }),
  STRIPE_CALLS_PER_SECOND: wholeNumber('calls', 1, 1_000).optional().meta({
    description:
      'Calls that this server makes to Stripe in a second, on average; default 20 with a test key, 80 with a live one. Several servers share what Stripe allows one account: give each its part.',
  }),
  TOLLGATE_STRIPE_EVENT_DAYS: z.coerce
    .number('a number of days is expected')
    .int('a whole number of days is expected')
    .min(30, 'at least 30 is expected: for so long Stripe lists its events')
    .max(3650, 'at most 3650 is expected')
    .default(35)
    .meta({ description: 'Days for which a handled event of Stripe is kept; one that was not handled stays.' }),
  STRIPE_TRIAL_PERIOD_DAYS: days(730)
    .default(14)
    .meta({ description: 'The length of a trial, in days. BILLING_TRIAL_PERIOD_DAYS is the same.' }),
  STRIPE_PAYMENT_GRACE_PERIOD_DAYS: days(365).default(3).meta({ description: 'Days of use after a payment failed (EM-7).' }),
  TOLLGATE_USAGE_WRITERS: z.enum(['tenants', 'operators'], 'tenants or operators is expected').default('tenants').meta({
    description:
      'Who may tell, settle and take back use: whoever has the scope write in the organization, or operators alone, which keeps it from customers where anybody may sign up.',
  }),
  TOLLGATE_DOWNGRADE_AT: z.enum(['now', 'period_end'], 'now or period_end is expected').default('now').meta({
    description:
      'When a change to a cheaper plan happens that does not say when itself. With now its credit lowers the next invoice, whatever was used of the allowance until then.',
  }),
  TOLLGATE_DISPUTE_COUNTS: z.enum(['never', 'lost', 'opened'], 'never, lost or opened is expected').default('lost').meta({
    description: 'From when on a disputed payment of a subscription counts like one that failed (grace, then suspension).',
  }),
  TOLLGATE_DUNNING_DAYS: z
    .string()
    .regex(/^\d{1,3}(,\d{1,3})*$/, 'days such as 1,2 are expected')
    .default('1')
    .transform((text) => text.split(',').map(Number))
    .meta({
      description:
        'Days after a failed payment on which the customer is reminded, e.g. 1,2; beside the failure, the day before suspension, and suspension (KF-13).',
    }),
  SMTP_URL: z
    .url({ protocol: /^smtps?$/, error: 'an address such as smtp://user:password@host:587 is expected' })
    .optional()
    .meta({ description: 'The server that sends mails. Without it they are kept: tollgate mails list, tollgate mails show.' }),
  MAIL_FROM: z
    .string()
    .regex(/^([^<>\r\n]+<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+)$/, 'an address, or Name <address>, is expected')
    .optional()
    .meta({ description: 'Who mails are from, e.g. Acme Billing <billing@example.com>; needed with SMTP_URL.' }),
  TOLLGATE_REPORTING_CURRENCY: z
    .string()
    .regex(/^[a-z]{3}$/, 'a currency in lower case is expected')
    .optional()
    .meta({ description: 'Into what analytics converts all currencies beside, e.g. usd; without it they are only kept apart.' }),
  TOLLGATE_EXCHANGE_RATES: z
    .string()
    .regex(/^([a-z]{3}=\d{1,9}(\.\d{1,6})?)(,[a-z]{3}=\d{1,9}(\.\d{1,6})?)*$/, 'a list such as eur=1.08,gbp=1.27 is expected')
    .refine((text) => !/=0+(\.0+)?(,|$)/.test(text), 'rates above 0 are expected')
    .refine((text) => !/\b([a-z]{3})=.*,\1=/.test(text), 'each currency is expected once')
    .optional()
    .meta({ description: 'What a major unit of each currency is worth in that one, e.g. eur=1.08,gbp=1.27; needed with it.' }),
  TOLLGATE_PDF_FONTS: z
    .string()
    .transform((text) => listOf(text))
    .optional()
    .meta({
      description:
        'Font files (TTF, OTF, TTC, WOFF; a comma between) for what the font of PDFs does not have: Chinese, Japanese, Korean, Indic scripts, Thai.',
    }),
  ...identityVariables,
  LAGO_API_URL: httpUrl.optional().meta({ description: 'Where use is forwarded to Lago (OC-9), e.g. https://api.getlago.com.' }),
  LAGO_API_KEY: z.string().min(1).optional().meta({ description: 'The key for it; needed with LAGO_API_URL.' }),
  TOLLGATE_SINK_URL: httpUrl.optional().meta({ description: 'Where use is forwarded as JSON lines (application/x-ndjson).' }),
  TOLLGATE_SINK_KEY: z
    .string()
    .min(1)
    .optional()
    .meta({ description: 'Sent there as Authorization: Bearer; only with TOLLGATE_SINK_URL.' }),
  TOLLGATE_SINK_FILE: z.string().min(1).optional().meta({ description: 'A file to which use is appended as JSON lines.' }),
  LOG_LEVEL: z
    .enum(
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
      'fatal, error, warn, info, debug, trace or silent is expected',
    )
    .default('info')
    .meta({ description: 'How much is logged, as JSON lines.' }),
})

/** Variables that have two names; both are read, and must agree when both are set. */
const ALIASES = { STRIPE_API_KEY: 'STRIPE_SECRET_KEY', BILLING_TRIAL_PERIOD_DAYS: 'STRIPE_TRIAL_PERIOD_DAYS' } as const

export type Config = z.infer<typeof variablesSchema> & {
  /** All variables as given: a catalog's `priceVariable` names one of them. */
  readonly variables: Readonly<Record<string, string | undefined>>
}

/**
 * Reads the configuration out of environment variables; an empty one, or one of blanks alone, counts as not set. Pure.
 * @throws ConfigError with a sentence for each variable that is wrong
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const variables = leaveOutBlanks(environment)
  const problems = applyAliases(variables)
  const parsed = variablesSchema.safeParse(variables)
  if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')} is wrong: ${issue.message}.`))
  if (parsed.success) problems.push(...findContradictions(parsed.data))
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems)
  return { ...parsed.data, STRIPE_SECRET_KEY: stripeKeyOf(parsed.data), variables }
}

function leaveOutBlanks(environment: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value.trim() !== ''))
}

function applyAliases(variables: Record<string, string | undefined>): string[] {
  const problems: string[] = []
  for (const [alias, name] of Object.entries(ALIASES)) {
    if (variables[alias] === undefined) continue
    if (variables[name] !== undefined && variables[name] !== variables[alias]) {
      problems.push(`${alias} and ${name} are two names of one variable, and they differ: set one of them.`)
    }
    variables[name] ??= variables[alias]
  }
  return problems
}

function stripeKeyOf(config: z.infer<typeof variablesSchema>): string | undefined {
  return config.STRIPE_ENABLED === 'true' ? config.STRIPE_SECRET_KEY : undefined
}

/** Variables of which all are set, or none: alone, each would do nothing. */
const TOGETHER = [
  ['SMTP_URL', 'MAIL_FROM'],
  ['TOLLGATE_REPORTING_CURRENCY', 'TOLLGATE_EXCHANGE_RATES'],
  ['LAGO_API_URL', 'LAGO_API_KEY'],
  ...IDENTITY_TOGETHER,
] as const

function findHalves(config: z.infer<typeof variablesSchema>): string[] {
  return TOGETHER.flatMap((names: readonly (typeof TOGETHER)[number][number][]) => {
    const missing = names.filter((name) => config[name] === undefined)
    if (missing.length === 0 || missing.length === names.length) return []
    return [`${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing: ${names.join(', ')} belong together.`]
  })
}

function findContradictions(config: z.infer<typeof variablesSchema>): string[] {
  const problems = findHalves(config)
  if (config.STRIPE_ENABLE_METERED_BILLING === 'true' && config.STRIPE_METERED_PRICE_ID === undefined) {
    problems.push('STRIPE_METERED_PRICE_ID is missing: STRIPE_ENABLE_METERED_BILLING needs the price to bill at.')
  }
  if (config.TOLLGATE_SINK_KEY !== undefined && config.TOLLGATE_SINK_URL === undefined) {
    problems.push('TOLLGATE_SINK_URL is missing: TOLLGATE_SINK_KEY is sent nowhere else.')
  }
  const key = stripeKeyOf(config)
  if (key === undefined) return problems
  const mode = key.includes('_live_') ? 'live' : 'test'
  if (config.STRIPE_ENVIRONMENT !== undefined && config.STRIPE_ENVIRONMENT !== mode) {
    problems.push(`STRIPE_ENVIRONMENT is ${config.STRIPE_ENVIRONMENT}, but STRIPE_SECRET_KEY is a ${mode} key.`)
  }
  if (config.STRIPE_PUBLISHABLE_KEY !== undefined && !config.STRIPE_PUBLISHABLE_KEY.startsWith(`pk_${mode}_`)) {
    problems.push(`STRIPE_PUBLISHABLE_KEY is a key of the other mode than STRIPE_SECRET_KEY, which is a ${mode} key.`)
  }
  if (config.STRIPE_WEBHOOK_SECRET === undefined) {
    problems.push('STRIPE_WEBHOOK_SECRET is missing: with a Stripe key, webhooks must be verified.')
  }
  return problems
}

/**
 * The variables of `.env` and `.env.local` in a directory, the latter over the former; what the shell sets is over both, also where it
 * is empty: then the variable is not set.
 */
export function readEnvironment(
  directory: string,
  shell: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  const variables: Record<string, string | undefined> = {}
  for (const name of ['.env', '.env.local']) {
    const path = join(directory, name)
    if (existsSync(path)) Object.assign(variables, parseEnv(readFileSync(path, 'utf8')))
  }
  return leaveOutBlanks({ ...variables, ...shell })
}

/** The text of `.env.example`: every variable with what it means, commented out, with its default where it has one. */
export function describeVariables(): string {
  const lines = [
    '# Every variable of Tollgate. Copy to .env (or .env.local, which git ignores) and uncomment what you set.',
    '# A catalog may read others, such as the ids of prices: its README names them (examples/*/README.md).',
    '# Generated from server/src/config.ts.',
    '',
  ]
  for (const [name, schema] of Object.entries(variablesSchema.shape)) {
    const parsed = schema.safeParse(undefined)
    lines.push(`# ${schema.meta()?.description ?? ''}`, `#${name}=${parsed.success ? String(parsed.data ?? '') : ''}`, '')
  }
  return lines.join('\n')
}

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { normalizeCatalog } from '../catalog/normalize.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'
import { readConfig, type Config } from '../config.ts'
import { checkAddress } from '../db/address.ts'
import { findConnectionGap } from '../db/connection-limit.ts'
import { openDatabase, type Db } from '../db/database.ts'
import { readMigrations, readSchemaState } from '../db/migrate.ts'
import { findRowSecurityGap, mayMakeRoles, SYSTEM_ROLE, TENANT_ROLE } from '../db/row-security.ts'
import { asSystem } from '../db/scope.ts'
import { loadTypeface } from '../exports/pdf-fonts.ts'
import { createLog } from '../http/log.ts'
import { systemClock } from '../lib/clock.ts'
import { publicUrlOf, stripeOfConfig } from '../options.ts'
import { readRuntime } from '../runtime-file.ts'
import { stripeAt } from '../sandbox.ts'
import { createStripeClient } from '../stripe/gateway/client.ts'
import type { StripeGateway } from '../stripe/gateway/gateway.ts'
import { WEBHOOK_PATHS } from '../http/webhook-paths.ts'
import { planPush } from '../stripe/push/push-plan.ts'
import { countChanges, readStripeCatalog } from '../stripe/push/push.ts'
import { judgeAddresses, judgeClocks, judgeTaxes, judgeWebhooks, readWebhookAnswers, type WebhookFacts } from './doctor-rules.ts'
import { withDatabase } from './maintenance.ts'
import { sentenceOf } from './terminal.ts'

export type Finding = { readonly check: string; readonly ok: boolean; readonly detail: string }

/** `tollgate doctor`: what is configured, what answers, what does not; every finding in a sentence, no secret in any. */
export async function examine(environment: Readonly<Record<string, string | undefined>>): Promise<readonly Finding[]> {
  const findings: Finding[] = [
    { check: 'node', ok: Number(process.versions.node.split('.')[0]) >= 24, detail: `Node ${process.versions.node}` },
  ]
  let config: Config
  try {
    config = readConfig(environment)
    findings.push({ check: 'configuration', ok: true, detail: 'every variable is well-formed' })
  } catch (error) {
    return [...findings, { check: 'configuration', ok: false, detail: lineOf(error) }]
  }
  return [...findings, ...(await withLook(config, (look) => examineAll(config, look)))]
}

/** Looks into the database; says so where none has been made. @throws the error of opening it */
type Look = (work: (db: Db) => Promise<string>) => Promise<string>

async function examineAll(config: Config, look: Look): Promise<readonly Finding[]> {
  return [
    await find('catalog', () => examineCatalog(config)),
    await find('database', () => look((db) => examineDatabase(config, db))),
    await find('row-level security', () => look(examineRowSecurity)),
    await find('clock', () => look(examineClock)),
    await find('stripe', () => examineStripe(config)),
    await find('products', () => examineProducts(config)),
    await find('taxes', () => examineTaxes(config)),
    await find('webhooks', () => examineWebhooks(config, look)),
    await find('addresses', async () => judgeAddresses(config, publicUrlOf(config))),
    await find('fonts', async () => examineFonts(config)),
    await find('server', () => examineServer(config)),
  ]
}

async function find(check: string, examine: () => Promise<string>): Promise<Finding> {
  try {
    return { check, ok: true, detail: await examine() }
  } catch (error) {
    return { check, ok: false, detail: lineOf(error) }
  }
}

function lineOf(error: unknown): string {
  return error instanceof Error ? sentenceOf(error).replaceAll('\n', ' ') : String(error)
}

async function examineCatalog(config: Config): Promise<string> {
  const { plans, meters } = await importCatalogDefinition(config.TOLLGATE_CATALOG, config.variables)
  return `${config.TOLLGATE_CATALOG}: ${Object.keys(plans).length} plans, ${Object.keys(meters).length} meters`
}

async function examineDatabase(config: Config, db: Db): Promise<string> {
  if (config.DATABASE_URL !== undefined) await checkAddress(config.DATABASE_URL)
  const { rows } = await db.query<{ server_version: string }>('show server_version')
  const state = await readSchemaState(db, readMigrations())
  if (state === 'ahead') throw new Error('A newer version has migrated the database: this one does not start on it.')
  const gap = await findConnectionGap(db, config.TOLLGATE_DATABASE_CONNECTIONS)
  if (gap !== null) throw new Error(gap)
  const place = config.DATABASE_URL === undefined ? 'embedded' : 'of DATABASE_URL'
  const migrated = state === 'current' ? 'migrated' : 'migrations are missing: tollgate migrate'
  return `PostgreSQL ${rows[0]!.server_version}, ${place}; ${migrated}`
}

async function examineRowSecurity(db: Db): Promise<string> {
  const gap = await findRowSecurityGap(db)
  if (gap !== null && (await mayMakeRoles(db)) && (await readSchemaState(db, readMigrations())) === 'behind')
    return 'tollgate migrate brings it about'
  if (gap !== null) throw new Error(gap)
  return `on: the server works as ${TENANT_ROLE} and ${SYSTEM_ROLE}`
}

const NO_DATABASE = 'none is here yet: "tollgate dev" makes one, and DATABASE_URL names another'

/** Opens the database once for all that is looked at there; where none has been made, none is made to look at. */
async function withLook(config: Config, examineWith: (look: Look) => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  const isThere = config.DATABASE_URL !== undefined || existsSync(join(config.TOLLGATE_DATA_DIR, 'postgres'))
  if (!isThere) return examineWith(async () => NO_DATABASE)
  let findings: readonly Finding[] | null = null
  try {
    await withDatabase(config, async (connectionString) => {
      const db = openDatabase({ connectionString, poolSize: 1 })
      try {
        findings = await examineWith((work) => work(db))
      } finally {
        await db.close()
      }
    })
  } catch (error) {
    // What is wrong with it is then said of all that would be looked at there, and the rest is examined all the same.
    findings ??= await examineWith(() => Promise.reject(error))
  }
  return findings!
}

async function examineClock(db: Db): Promise<string> {
  const { rows } = await db.query<{ now: Date }>('select clock_timestamp() as now')
  return judgeClocks(systemClock.now(), rows[0]!.now)
}

const NO_KEY = 'no key is set: "tollgate dev" brings the sandbox, "tollgate start" answers 503 for billing'
const noStripe = (config: Config): string => (config.STRIPE_ENABLED === 'false' ? 'none: STRIPE_ENABLED=false' : NO_KEY)

/** Stripe, or the sandbox of the server that runs here; null where there is none. */
function openStripe(config: Config): { readonly gateway: StripeGateway; readonly place: string } | null {
  const sandboxUrl = readRuntime(config.TOLLGATE_DATA_DIR)?.sandboxUrl
  const stripe = stripeOfConfig(config) ?? (sandboxUrl ? stripeAt(sandboxUrl) : null)
  if (stripe === null) return null
  const gateway = createStripeClient({
    apiKey: stripe.secretKey,
    log: createLog({ level: 'silent', secrets: [] }),
    ...(stripe.endpoint === undefined ? {} : { endpoint: stripe.endpoint }),
  })
  return { gateway, place: stripe.endpoint === undefined ? `Stripe, ${gateway.mode} mode` : `the sandbox at ${sandboxUrl}` }
}

async function examineStripe(config: Config): Promise<string> {
  const stripe = openStripe(config)
  if (stripe === null) return noStripe(config)
  const products = await stripe.gateway.reads.listProducts()
  return `${stripe.place}: ${products.length} products`
}

/** Whether what the catalog sells is there to be sold. */
async function examineProducts(config: Config): Promise<string> {
  const stripe = openStripe(config)
  if (stripe === null) return noStripe(config)
  const { variables } = config
  const catalog = normalizeCatalog(await importCatalogDefinition(config.TOLLGATE_CATALOG, variables))
  const { steps, problems } = planPush(catalog, await readStripeCatalog(stripe.gateway, catalog, variables), variables)
  if (problems.length > 0) throw new Error(problems.join(' '))
  const changes = countChanges(steps)
  if (changes > 0) throw new Error(`${changes} changes of the catalog are not at Stripe yet: tollgate push.`)
  return 'the catalog is at Stripe as it is here'
}

async function examineTaxes(config: Config): Promise<string> {
  if (config.STRIPE_AUTOMATIC_TAX === 'false') return 'not worked out here: STRIPE_AUTOMATIC_TAX is not set'
  const stripe = openStripe(config)
  return stripe === null ? noStripe(config) : judgeTaxes(await stripe.gateway.reads.readTaxSetup())
}

const EVENTS_OF_A_DAY = `select
  count(*) filter (where source = 'webhook' and received_at > $1::timestamptz - interval '1 day')::int as brought,
  count(*) filter (where source = 'reconcile' and received_at > $1::timestamptz - interval '1 day')::int as missed,
  count(*) filter (where handled_at is null and received_at < $1::timestamptz - interval '10 minutes')::int as waiting
  from stripe_events where received_at > $1::timestamptz - interval '1 day' or handled_at is null`

async function examineWebhooks(config: Config, look: Look): Promise<string> {
  if (openStripe(config) === null) return noStripe(config)
  return look(async (db) => {
    const { rows } = await asSystem(() =>
      db.query<Pick<WebhookFacts, 'brought' | 'missed' | 'waiting'>>(EVENTS_OF_A_DAY, [systemClock.now()]),
    )
    const address = `${publicUrlOf(config)}${WEBHOOK_PATHS[0]}`
    return judgeWebhooks({ ...rows[0]!, answered: await askForWebhooks(config), address })
  })
}

/** What the running server has answered to webhooks; null where none runs, or it does not show its metrics. */
async function askForWebhooks(config: Config): Promise<WebhookFacts['answered']> {
  const token = config.METRICS_TOKEN ?? config.TOLLGATE_OPERATOR_KEY ?? readRuntime(config.TOLLGATE_DATA_DIR)?.operatorKey
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const response = await fetch(`${serverOf(config)}/metrics`, { headers }).catch(() => null)
  return response?.ok === true ? readWebhookAnswers(await response.text()) : null
}

/** @throws StartError that names the file with which the server would not start */
function examineFonts({ TOLLGATE_PDF_FONTS: files = [] }: Config): string {
  loadTypeface(files)
  return files.length === 0
    ? 'those of every PDF: TOLLGATE_PDF_FONTS names no others'
    : `${files.length} of TOLLGATE_PDF_FONTS beside those of every PDF`
}

const serverOf = (config: Config): string => readRuntime(config.TOLLGATE_DATA_DIR)?.url ?? `http://127.0.0.1:${config.PORT}`

async function examineServer(config: Config): Promise<string> {
  const url = serverOf(config)
  const response = await fetch(`${url}/readyz`).catch(() => null)
  if (response === null) return `none runs at ${url}`
  if (!response.ok) throw new Error(`The server at ${url} is not ready: ${await response.text()}`)
  return `ready at ${url}`
}

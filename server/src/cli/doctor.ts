import { importCatalogDefinition } from '../catalog/registry.ts'
import { readConfig, type Config } from '../config.ts'
import { openDatabase } from '../db/database.ts'
import { isMigrated, readMigrations } from '../db/migrate.ts'
import { findRowSecurityGap, SYSTEM_ROLE, TENANT_ROLE } from '../db/row-security.ts'
import { createLog } from '../http/log.ts'
import { stripeOfConfig } from '../options.ts'
import { stripeAt } from '../sandbox.ts'
import { createStripeClient } from '../stripe/client.ts'
import { readRuntime } from './connection.ts'
import { withDatabase } from './maintenance.ts'

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
    return [...findings, { check: 'configuration', ok: false, detail: sentenceOf(error) }]
  }
  findings.push(await find('catalog', () => examineCatalog(config)))
  findings.push(await find('database', () => examineDatabase(config)))
  findings.push(await find('row-level security', () => examineRowSecurity(config)))
  findings.push(await find('stripe', () => examineStripe(config)))
  findings.push(await find('server', () => examineServer(config)))
  return findings
}

async function find(check: string, examine: () => Promise<string>): Promise<Finding> {
  try {
    return { check, ok: true, detail: await examine() }
  } catch (error) {
    return { check, ok: false, detail: sentenceOf(error) }
  }
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message.replaceAll('\n', ' ') : String(error)
}

async function examineCatalog(config: Config): Promise<string> {
  const { plans, meters } = await importCatalogDefinition(config.TOLLGATE_CATALOG, config.variables)
  return `${config.TOLLGATE_CATALOG}: ${Object.keys(plans).length} plans, ${Object.keys(meters).length} meters`
}

async function examineDatabase(config: Config): Promise<string> {
  return withDatabase(config, async (connectionString) => {
    const db = openDatabase({ connectionString, poolSize: 1 })
    try {
      const { rows } = await db.query<{ server_version: string }>('show server_version')
      const migrated = await isMigrated(db, readMigrations())
      const place = config.DATABASE_URL === undefined ? 'embedded' : 'of DATABASE_URL'
      return `PostgreSQL ${rows[0]!.server_version}, ${place}; ${migrated ? 'migrated' : 'migrations are missing: tollgate migrate'}`
    } finally {
      await db.close()
    }
  })
}

async function examineRowSecurity(config: Config): Promise<string> {
  return withDatabase(config, async (connectionString) => {
    const db = openDatabase({ connectionString, poolSize: 1 })
    try {
      const gap = await findRowSecurityGap(db)
      if (gap !== null) throw new Error(gap)
      return `on: the server works as ${TENANT_ROLE} and ${SYSTEM_ROLE}`
    } finally {
      await db.close()
    }
  })
}

async function examineStripe(config: Config): Promise<string> {
  const sandboxUrl = readRuntime(config.TOLLGATE_DATA_DIR)?.sandboxUrl
  const stripe = stripeOfConfig(config) ?? (sandboxUrl ? stripeAt(sandboxUrl) : null)
  if (stripe === null) return 'no key is set: "tollgate dev" brings the sandbox, "tollgate start" answers 503 for billing'
  const gateway = createStripeClient({
    apiKey: stripe.secretKey,
    log: createLog({ level: 'silent', secrets: [] }),
    ...(stripe.endpoint === undefined ? {} : { endpoint: stripe.endpoint }),
  })
  const products = await gateway.reads.listProducts()
  return `${stripe.endpoint === undefined ? `Stripe, ${gateway.mode} mode` : `the sandbox at ${sandboxUrl}`}: ${products.length} products`
}

async function examineServer(config: Config): Promise<string> {
  const runtime = readRuntime(config.TOLLGATE_DATA_DIR)
  const url = runtime?.url ?? `http://127.0.0.1:${config.PORT}`
  const response = await fetch(`${url}/readyz`).catch(() => null)
  if (response === null) return `none runs at ${url}`
  if (!response.ok) throw new Error(`The server at ${url} is not ready: ${await response.text()}`)
  return `ready at ${url}`
}

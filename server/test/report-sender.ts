/**
 * A process that reports what an organization has used, or what is due of all, and stops dead where it is told to: `before` a report is sent, or
 * `after` Stripe has taken it. It says so on standard output and waits to be killed.
 * Arguments: address of the database, catalog version, port of the sandbox, organization (empty: all that are due), `before` or `after`.
 */
import { normalizeCatalog } from '../src/catalog/normalize.ts'
import { createCatalogRegistry } from '../src/catalog/registry.ts'
import { openDatabase } from '../src/db/database.ts'
import { systemClock } from '../src/lib/clock.ts'
import { reportDue, reportNow } from '../src/pricing/actions.ts'
import type { BillingContext } from '../src/stripe/context.ts'
import { createStripeClient } from '../src/stripe/gateway/client.ts'
import { TEST_POLICY } from './billing.ts'
import { USE_CATALOG } from './use-catalog.ts'

const [url = '', version = '', port = '', organizationId = '', where = ''] = process.argv.slice(2)
const db = openDatabase({ connectionString: url, poolSize: 3 })
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }
const endpoint = { host: '127.0.0.1', port: Number(port), protocol: 'http' as const }
const gateway = createStripeClient({ apiKey: 'sk_test_tollgate', endpoint, log: quiet })

async function stop(word: string): Promise<never> {
  process.stdout.write(`${word}\n`)
  // Keeps the process alive until it is killed.
  setInterval(() => undefined, 1_000)
  return new Promise<never>(() => undefined)
}

const context: BillingContext = {
  db,
  clock: systemClock,
  catalogs: createCatalogRegistry(db, { version: Number(version), catalog: normalizeCatalog(USE_CATALOG) }),
  policy: TEST_POLICY,
  log: quiet,
  onAccountDerived: async () => undefined,
  gateway: {
    ...gateway,
    async sendMeterEvent(event) {
      if (where === 'before') return stop('stored')
      await gateway.sendMeterEvent(event)
      return stop('sent')
    },
  },
}
await (organizationId === '' ? reportDue(context) : reportNow(context, organizationId, { isStanding: true }))

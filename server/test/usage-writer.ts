/**
 * A process that consumes one unit for each key it reads from standard input and tells every answer on standard output, as
 * `key allowed` or `key refused`. It is meant to be killed: what it has told was committed.
 * Arguments: address of the database, organization, catalog version, how many calls are in flight.
 */
import { text } from 'node:stream/consumers'
import { normalizeCatalog } from '../src/catalog/normalize.ts'
import { createCatalogRegistry } from '../src/catalog/registry.ts'
import { openDatabase } from '../src/db/database.ts'
import { systemClock } from '../src/lib/clock.ts'
import { createMetering } from '../src/metering/metering.ts'
import { openUsageConnections } from '../src/metering/write/pipeline.ts'
import { CRASH_CATALOG } from './crash-catalog.ts'

const [url = '', organizationId = '', version = '', inFlight = '64'] = process.argv.slice(2)
const keys = (await text(process.stdin)).split('\n').filter((key) => key !== '')
const db = openDatabase({ connectionString: url, poolSize: 1 })
const catalogs = createCatalogRegistry(db, { version: Number(version), catalog: normalizeCatalog(CRASH_CATALOG) })
const connections = openUsageConnections({ connectionString: url, size: 2 })
const metering = createMetering({ connections, catalogs, clock: systemClock, graceDays: 3 })

async function consumeNext(): Promise<void> {
  for (let key = keys.shift(); key !== undefined; key = keys.shift()) {
    const answer = await metering.ask({
      verb: 'consume',
      organizationId,
      meter: 'calls',
      quantity: 1_000_000n,
      idempotencyKey: key,
      occurredAt: null,
      properties: null,
    })
    process.stdout.write(`${key} ${answer.allowed ? 'allowed' : 'refused'}\n`)
  }
}

await Promise.all(Array.from({ length: Number(inFlight) }, consumeNext))
await metering.stop()
await connections.close()
await db.close()

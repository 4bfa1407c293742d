/**
 * A process that uses `consume` without HTTP: reads its task from standard input, prints what it measured. Several of them
 * share one database.
 */
import { json } from 'node:stream/consumers'
import { createCatalogRegistry, storeCatalogVersion } from '../../server/src/catalog/registry.ts'
import { openDatabase } from '../../server/src/db/database.ts'
import { systemClock } from '../../server/src/lib/clock.ts'
import { createMetering } from '../../server/src/metering/metering.ts'
import { openUsageConnections } from '../../server/src/metering/pipeline.ts'
import { BENCH_CATALOG } from './catalog.ts'

export type InProcessTask = {
  readonly databaseUrl: string
  /** The organizations that are used in turn. */
  readonly organizationIds: readonly string[]
  readonly inFlight: number
  readonly seconds: number
  readonly run: string
}

export type InProcessResult = { readonly requests: number; readonly seconds: number; readonly allowed: number }

async function run(task: InProcessTask): Promise<InProcessResult> {
  const db = openDatabase({ connectionString: task.databaseUrl, poolSize: 1 })
  const catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, BENCH_CATALOG, systemClock.now()))
  const connections = openUsageConnections({ connectionString: task.databaseUrl, size: 2 })
  const metering = createMetering({ connections, catalogs, clock: systemClock, graceDays: 3 })
  let requests = 0
  let allowed = 0

  async function consumeUntil(until: number): Promise<void> {
    while (performance.now() < until) {
      requests += 1
      const answer = await metering.ask({
        verb: 'consume',
        organizationId: task.organizationIds[requests % task.organizationIds.length]!,
        meter: 'calls',
        quantity: 1_000_000n,
        idempotencyKey: `${task.run}-${requests}`,
        occurredAt: null,
        properties: null,
      })
      if (answer.allowed) allowed += 1
    }
  }

  const began = performance.now()
  await Promise.all(Array.from({ length: task.inFlight }, () => consumeUntil(began + task.seconds * 1_000)))
  const seconds = (performance.now() - began) / 1_000
  await metering.stop()
  await connections.close()
  await db.close()
  return { requests, seconds, allowed }
}

process.stdout.write(JSON.stringify(await run((await json(process.stdin)) as InProcessTask)))

/**
 * A process that uses `consume` without HTTP: reads its task from standard input, prints what it measured. Several of them
 * share one database.
 */
import { json } from 'node:stream/consumers'
import { createCatalogRegistry, storeCatalogVersion } from '../../server/src/catalog/registry.ts'
import { openDatabase } from '../../server/src/db/database.ts'
import { systemClock } from '../../server/src/lib/clock.ts'
import { createMetering } from '../../server/src/metering/metering.ts'
import { openUsageConnections } from '../../server/src/metering/write/pipeline.ts'
import { BENCH_CATALOG } from './catalog.ts'
import { runLoop, type LoopResult } from './closed-loop.ts'

export type InProcessTask = {
  readonly databaseUrl: string
  /** The organizations that are used in turn. */
  readonly organizationIds: readonly string[]
  readonly inFlight: number
  readonly seconds: number
  readonly run: string
}

async function run(task: InProcessTask): Promise<LoopResult> {
  const db = openDatabase({ connectionString: task.databaseUrl, poolSize: 1 })
  const catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, BENCH_CATALOG, systemClock.now()))
  const connections = openUsageConnections({ connectionString: task.databaseUrl, size: 2 })
  const metering = createMetering({ connections, catalogs, clock: systemClock, graceDays: 3 })
  const result = await runLoop(task, async (index) => {
    const answer = await metering.ask({
      verb: 'consume',
      organizationId: task.organizationIds[index % task.organizationIds.length]!,
      meter: 'calls',
      quantity: 1_000_000n,
      idempotencyKey: `${task.run}-${index}`,
      occurredAt: null,
      properties: null,
    })
    return answer.allowed
  })
  await metering.stop()
  await connections.close()
  await db.close()
  return result
}

process.stdout.write(JSON.stringify(await run((await json(process.stdin)) as InProcessTask)))

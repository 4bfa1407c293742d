import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { CATALOG } from '../../test/metering.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import { openDatabase, type Db } from '../db/database.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../db/embedded-postgres.ts'
import { migrate } from '../db/migrate.ts'
import { systemClock } from '../lib/clock.ts'
import { MICRO } from '../lib/quantity.ts'
import type { Outcome } from './decide/decision.ts'
import { createMetering, type Metering } from './metering.ts'
import { ensurePartitions } from './partitions.ts'
import { openUsageConnections, type UsageConnections } from './write/pipeline.ts'

/** Against standing still, not a measure: a busy machine takes tens of times as long as an idle one. */
const PATIENCE_MS = 120_000

// A PostgreSQL of its own: its log is made to wait for a copy of it that there is not.
const directory = mkdtempSync(join(tmpdir(), 'tollgate-durable-'))
chmodSync(directory, 0o711)
let postgres: EmbeddedPostgres
let db: Db
/** Two processes, as it were. */
let connections: readonly UsageConnections[]
let meterings: readonly Metering[]

beforeAll(async () => {
  postgres = await startEmbeddedPostgres({ directory: join(directory, 'postgres') })
  db = openDatabase({ connectionString: postgres.url })
  await migrate(db)
  await ensurePartitions(db, systemClock.now())
  const catalogs = createCatalogRegistry(db, await storeCatalogVersion(db, CATALOG, systemClock.now()))
  await db.query(`insert into organizations (id, name, email, created_at) values ('org', 'org', 'a@example.com', now())`)
  connections = [1, 2].map(() => openUsageConnections({ connectionString: postgres.url, size: 2 }))
  meterings = connections.map((own) => createMetering({ connections: own, catalogs, clock: systemClock, graceDays: 3 }))
})

afterAll(async () => {
  // Whatever failed: what waits for a copy would never end.
  await waitForCopies('')
  await Promise.all(meterings.map((metering) => metering.stop()))
  await Promise.all(connections.map((own) => own.close()))
  await db.close()
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
})

function consume(metering: Metering, idempotencyKey: string): Promise<readonly Outcome[]> {
  const use = { verb: 'consume', meter: 'episode_ingestion', quantity: MICRO, occurredAt: null, properties: null } as const
  return metering.submit([{ ...use, organizationId: 'org', idempotencyKey }])
}

const usedOf = ([outcome]: readonly Outcome[]): bigint | null =>
  outcome?.kind === 'answer' && outcome.answer.allowed ? outcome.answer.balance.used / MICRO : null

async function waitForCopies(names: string): Promise<void> {
  await db.query(`alter system set synchronous_standby_names to '${names}'`)
  await db.query('select pg_reload_conf()')
  await vi.waitFor(async () => {
    const { rows } = await db.query<{ setting: string }>(`select current_setting('synchronous_standby_names') as setting`)
    expect(rows[0]!.setting).toBe(names)
  }, PATIENCE_MS)
}

/** Reading waits for no copy. */
async function storedKeys(): Promise<readonly string[]> {
  const { rows } = await db.query<{ key: string }>('select idempotency_key as key from usage_events order by after_used')
  return rows.map(({ key }) => key)
}

test(
  'nobody is told of a use before it is as durable as PostgreSQL is asked to make it, and nobody waits for its lock meanwhile',
  { timeout: PATIENCE_MS },
  async () => {
    const [one, two] = meterings as [Metering, Metering]
    expect(usedOf(await consume(one, 'before'))).toBe(1n)
    await waitForCopies('nobody')
    const told: string[] = []
    const ask = async (metering: Metering, key: string, name = key): Promise<bigint | null> => {
      const used = usedOf(await consume(metering, key))
      told.push(name)
      return used
    }
    const first = ask(one, 'first')
    await vi.waitFor(async () => expect(await storedKeys()).toEqual(['before', 'first']), PATIENCE_MS)
    // Its lock is free: another process counts on from what it wrote.
    const second = ask(two, 'second')
    await vi.waitFor(async () => expect(await storedKeys()).toEqual(['before', 'first', 'second']), PATIENCE_MS)
    // Nor is a repeat told what is not durable yet.
    const repeat = ask(two, 'first', 'first again')
    await vi.waitFor(async () => {
      const { rows } = await db.query(`select from pg_stat_activity where wait_event = 'SyncRep'`)
      expect(rows).toHaveLength(3)
    }, PATIENCE_MS)
    expect(told).toEqual([])
    await waitForCopies('')
    expect(await Promise.all([first, second, repeat])).toEqual([2n, 3n, 2n])
  },
)

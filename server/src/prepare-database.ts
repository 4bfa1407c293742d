import type { Logger } from 'pino'
import { checkAddress } from './db/address.ts'
import { findConnectionGap } from './db/connection-limit.ts'
import { DEFAULT_POOL_SIZE, openDatabase } from './db/database.ts'
import { migrate, MigrationError } from './db/migrate.ts'
import { findRowSecurityGap } from './db/row-security.ts'
import { DomainError } from './lib/errors.ts'
import type { TollgateOptions } from './options.ts'

const PATIENCE_MS = 30_000

/**
 * Migrates as the login of the connection string, which owns the tables; nothing after that runs as it. Waits up to half a
 * minute for a database that is not there yet, as containers start in any order. Answers whether everything else can run
 * under row-level security.
 * @throws MigrationError when it cannot and has to, when the address cannot be used, or when a migration is refused
 */
export async function prepareDatabase(
  { databaseUrl, rowSecurity, databaseConnections = DEFAULT_POOL_SIZE }: TollgateOptions,
  log: Logger,
): Promise<boolean> {
  const owner = openDatabase({ connectionString: databaseUrl, poolSize: 1 })
  try {
    const applied = await withPatience(log, async () => {
      await checkAddress(databaseUrl)
      return migrate(owner)
    })
    if (applied.length > 0) log.info({ migrations: applied }, 'migrations applied')
    const reason = await findConnectionGap(owner, databaseConnections)
    if (reason !== null) log.warn({ reason }, 'connections may run out')
    const gap = await findRowSecurityGap(owner)
    if (gap === null) return true
    if (rowSecurity === 'required') throw new MigrationError(`Row-level security is required, and cannot be had. ${gap}`)
    log.warn({ reason: gap }, 'row-level security is off: tenants are kept apart by the statements alone')
    return false
  } finally {
    await owner.close()
  }
}

async function withPatience<Result>(log: Logger, work: () => Promise<Result>): Promise<Result> {
  const deadline = performance.now() + PATIENCE_MS
  for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 2_000)) {
    try {
      return await work()
    } catch (error) {
      const away = error instanceof DomainError && error.code === 'database_unavailable'
      if (!away || performance.now() > deadline) throw error
      log.warn({ err: error }, 'the database does not answer yet')
      await new Promise((resolve) => {
        setTimeout(resolve, delayMs)
      })
    }
  }
}

import type { Logger } from 'pino'
import type { RevocationFeed } from './auth/revocations.ts'
import type { Catalog } from './catalog/catalog.ts'
import { tierOf } from './catalog/tiers.ts'
import type { Db } from './db/database.ts'
import { SYSTEM_ROLE } from './db/row-security.ts'
import type { GrantsContext } from './grants/actions.ts'
import type { Metrics } from './http/metrics.ts'
import type { UsageContext } from './metering/api.ts'
import type { Outcome } from './metering/decide/decision.ts'
import { createMetering } from './metering/metering.ts'
import { openUsageConnections, type UsageConnections } from './metering/write/pipeline.ts'
import { openUsageReading, type UsageReading } from './usage/reading.ts'

export type Counting = {
  readonly connections: UsageConnections
  readonly reading: UsageReading
  readonly usage: UsageContext
  stop(): Promise<void>
}

export type CountingParts = {
  readonly connectionString: string
  /** Whether statements run under row-level security. */
  readonly isSecured: boolean
  readonly db: Db
  readonly grants: GrantsContext
  readonly usageWriters: 'tenants' | 'operators'
  readonly revocations: RevocationFeed
  readonly log: Logger
  readonly metrics: Metrics
}

const USAGE_CONNECTIONS = 4

/** Opens what counts use and what reads it: connections of the write path, the write path, reports and live streams. */
export function openCounting(parts: CountingParts): Counting {
  const { connectionString, isSecured, db, grants, revocations, log, metrics } = parts
  const connections = openUsageConnections({
    connectionString,
    size: USAGE_CONNECTIONS,
    ...(isSecured ? { role: SYSTEM_ROLE } : {}),
  })
  const reading = openUsageReading({
    connectionString,
    context: { ...grants, db },
    onRevoked: (listener) => revocations.onRevoked(listener),
    onError: (error) => log.warn({ err: error }, 'changes of usage cannot be told or read; live streams wait'),
  })
  const metering = createMetering({
    ...grants,
    connections,
    onFault: (error) => log.error({ err: error }, 'a usage request failed'),
    onAnswers: (outcomes) => {
      countAnswers(metrics, grants.catalogs.current.catalog, outcomes)
      reading.tellDecided(outcomes)
    },
  })
  return {
    connections,
    reading,
    usage: { ...grants, metering, db, writers: parts.usageWriters },
    async stop() {
      await metering.stop()
      await reading.stop()
      await connections.close()
    },
  }
}

/** EM-13: credits by customer, refusals by tier. A repeat was counted when it was first answered. */
function countAnswers(metrics: Metrics, catalog: Catalog, outcomes: readonly Outcome[]): void {
  for (const outcome of outcomes) {
    if (outcome.kind === 'error' || outcome.answer.replayed) continue
    const { allowed, code, drawn, verb, organizationId, balance } = outcome.answer
    if (code === 'quota_exceeded') metrics.quotaExceeded.inc({ tier: tierOf(catalog, balance.planKey) })
    if (allowed && drawn > 0n && verb !== 'reserve' && verb !== 'check') {
      metrics.creditsUsed.add(organizationId, drawn)
    }
  }
}

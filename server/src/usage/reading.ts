import { asSystem } from '../db/scope.ts'
import type { Outcome } from '../metering/decide/decision.ts'
import { startChangeFeed } from './changes.ts'
import { createExports, type Exports } from './exports.ts'
import { readLiveStates } from './live.ts'
import type { ReadingContext } from './reports.ts'
import { startLiveStreams, type LiveStreams } from './streams.ts'

export type UsageReadingOptions = {
  readonly connectionString: string
  readonly context: ReadingContext
  /** Calls back when somebody may no longer read. */
  readonly onRevoked: (listener: () => void) => void
  readonly onError: (error: unknown) => void
}

/** What runs while usage is read: exports, live streams, and the news that feeds them. */
export type UsageReading = {
  readonly exports: Exports
  readonly streams: LiveStreams
  /** Tells that uses were decided, to everybody who looks at their organizations. */
  tellDecided(outcomes: readonly Outcome[]): void
  stop(): Promise<void>
}

export function openUsageReading({ connectionString, context, onRevoked, onError }: UsageReadingOptions): UsageReading {
  const feed = startChangeFeed({ connectionString, db: context.db, onError })
  // For everybody who looks, whoever's request began it.
  const readTogether = (ids: readonly string[]) => asSystem(() => readLiveStates(context, ids))
  const streams = startLiveStreams({ feed, read: readTogether, onError })
  const exports = createExports(context.db)
  onRevoked(() => streams.recheck())
  return {
    exports,
    streams,
    tellDecided(outcomes) {
      const changed = new Set<string>()
      for (const outcome of outcomes) if (outcome.kind === 'answer') changed.add(outcome.answer.organizationId)
      feed.tell(changed)
    },
    async stop() {
      await Promise.all([streams.stop(), exports.stop(), feed.stop()])
    },
  }
}

import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Queryable } from '../db/database.ts'
import { asSystem } from '../db/scope.ts'
import type { Clock } from '../lib/clock.ts'
import { DomainError, type DomainErrorCode } from '../lib/errors.ts'
import { carriedUse, stemOf, type EndedLevel } from './decide/carried.ts'
import { isLevel } from './decide/readings.ts'
import type { Metering } from './metering.ts'
import { findRetractedCarries, listEndedLevels, markCarried, type StandingLevel } from './write/levels-store.ts'

export type LevelsContext = {
  readonly db: Queryable
  readonly clock: Clock
  readonly catalogs: CatalogRegistry
  readonly metering: Pick<Metering, 'submit'>
  /** Called with a level that could not be carried, and is not tried again. */
  readonly onLevelLost?: (level: EndedLevel, error: Error) => void
}

const LEVELS_AT_ONCE = 200

/**
 * Carries the levels of periods that are over into those that follow (KF-1: agents and users are paid per month, whether or not
 * the host tells them again). Each becomes an event like any other, so that balances, bills and reports know it.
 * @param organizationId only this one's; all by default
 */
export async function carryLevels(context: LevelsContext, organizationId: string | null = null): Promise<void> {
  for (;;) {
    const ended = await listEndedLevels(context.db, { now: context.clock.now(), organizationId, limit: LEVELS_AT_ONCE })
    if (ended.length === 0) return
    const done = await carry(context, ended)
    await markCarried(context.db, done)
    // What was carried into a period that is over as well is carried on; what could not be told now is tried again at the next time.
    if (done.length < ended.length) return
  }
}

/** The same of one organization whose use is about to be read: between the turn of a period and the job's next run, too, nothing is missing. */
export async function tellLevels(context: LevelsContext, organizationId: string): Promise<void> {
  await asSystem(() => carryLevels(context, organizationId))
}

/** Answers those that need not be tried again. */
async function carry(context: LevelsContext, ended: readonly StandingLevel[]): Promise<readonly StandingLevel[]> {
  const isStanding = await Promise.all(ended.map((level) => isLevelStill(context, level)))
  const standing = ended.filter((_level, index) => isStanding[index])
  const done = ended.filter((_level, index) => !isStanding[index])
  await takeBackCarried(context, standing)
  const outcomes = await context.metering.submit(standing.map(carriedUse))
  for (const [index, outcome] of outcomes.entries()) {
    const level = standing[index]!
    if (outcome.kind === 'error' && !isFinal(outcome.error)) continue
    if (outcome.kind === 'error') context.onLevelLost?.(level, outcome.error)
    done.push(level)
  }
  return done
}

/**
 * A use that was taken back after its level was carried on is taken back where that went as well: the largest of the month that follows
 * would else be one that never was. What this cannot take back now, the next level that is carried there does.
 */
async function takeBackCarried({ db, metering }: LevelsContext, standing: readonly StandingLevel[]): Promise<void> {
  const carries = standing
    .filter(({ hasRetractions }) => hasRetractions)
    .map((level) => ({ ...level, stem: stemOf(level), own: carriedUse(level).idempotencyKey }))
  if (carries.length === 0) return
  const gone = await findRetractedCarries(db, carries)
  await metering.submit(
    gone.map(({ organizationId, idempotencyKey: corrects }) => ({
      verb: 'correct',
      organizationId,
      corrects,
      quantity: null,
      idempotencyKey: `${corrects}:retracted`,
      properties: null,
    })),
  )
}

/** By the terms of the organization: its own catalog version, or a newer one that declares the meter. */
async function isLevelStill({ catalogs }: LevelsContext, { meter, catalogVersion }: StandingLevel): Promise<boolean> {
  const { version, catalog } = catalogs.current
  const own = catalogVersion === null || catalogVersion === version ? catalog : await catalogs.get(catalogVersion)
  const found = own.meters.get(meter) ?? catalog.meters.get(meter)
  return found !== undefined && isLevel(found)
}

// What passes by itself: a locked account, a full queue, a database that is away.
const PASSING: ReadonlySet<DomainErrorCode> = new Set(['overloaded', 'stopping', 'database_unavailable'])

function isFinal(error: Error): boolean {
  return error instanceof DomainError && !PASSING.has(error.code)
}

import type { Queryable } from '../../db/database.ts'
import { meterOf, planGrantOf, type PlanTerms } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import { carriedUse } from '../decide/carried.ts'
import { isLevel } from '../decide/readings.ts'
import type { RecordRequest } from '../usage.ts'
import { listDueLevels, type StandingReading } from './levels-store.ts'

/** An organization at its own time. */
export type Present = { readonly terms: PlanTerms; readonly now: Instant }

/** A balance that is about to be looked at. */
export type AskedBalance = { readonly organizationId: string; readonly balanceKey: string }

/** A level that nobody has carried into the present period yet, and the use by which it stands in it. */
export type DueLevel = {
  readonly reading: StandingReading
  readonly use: RecordRequest
  /** Whether the present period follows the one in which it was told: then nothing is left for the job to carry. */
  readonly isNext: boolean
}

/**
 * The levels of balances that stand in the present period, and are not known there yet: the turn is later than the last look of the
 * job (`carryLevels`). Whoever decides or reads puts these uses before everything else, so that a level is right from the
 * moment of the turn on. Telling one that is there already changes nothing.
 */
export async function readDueLevels(
  client: Queryable,
  presentOf: (organizationId: string) => Present | undefined,
  asked: Iterable<AskedBalance>,
): Promise<readonly DueLevel[]> {
  const names = new Map<string, { organizationId: string; meter: string; now: Instant }>()
  for (const { organizationId, balanceKey } of asked) {
    const present = presentOf(organizationId)
    for (const meter of present ? levelsOf(present.terms, balanceKey) : []) {
      names.set(`${organizationId}\n${meter}`, { organizationId, meter, now: present!.now })
    }
  }
  if (names.size === 0) return []
  const readings = await listDueLevels(client, [...names.values()])
  return readings.map((reading) => dueLevel(presentOf(reading.organizationId)!, reading))
}

function dueLevel({ terms, now }: Present, reading: StandingReading): DueLevel {
  const { start } = planGrantOf(terms, meterOf(terms, reading.meter)!.balanceKey, now).span
  const isNext = reading.endedAt >= start
  return { reading, isNext, use: carriedUse({ ...reading, now, endedAt: isNext ? reading.endedAt : start }) }
}

const NONE: readonly string[] = []
const known = new WeakMap<PlanTerms['newerMeters'], ReadonlyMap<string, readonly string[]>>()

/** The meters of a balance that tell levels; nearly always none. */
function levelsOf(terms: PlanTerms, balanceKey: string): readonly string[] {
  const own = levelsByBalance(terms.catalog.meters).get(balanceKey)
  if (terms.newerMeters === terms.catalog.meters) return own ?? NONE
  const newer = levelsByBalance(terms.newerMeters)
    .get(balanceKey)
    ?.filter((meter) => !terms.catalog.meters.has(meter))
  return [...(own ?? NONE), ...(newer ?? NONE)]
}

function levelsByBalance(meters: PlanTerms['newerMeters']): ReadonlyMap<string, readonly string[]> {
  let levels = known.get(meters)
  if (!levels) {
    const telling = [...meters.values()].filter(isLevel)
    const byBalance = Map.groupBy(telling, ({ balanceKey }) => balanceKey)
    levels = new Map([...byBalance].map(([balanceKey, own]) => [balanceKey, own.map(({ key }) => key)]))
    known.set(meters, levels)
  }
  return levels
}

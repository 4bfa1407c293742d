import type { PacketClient } from '../../db/packet.ts'
import { readOtherAddOns, type GrantsContext } from '../../grants/actions.ts'
import { findPastTerms } from '../../grants/history-store.ts'
import { planGrantAt, type History, type PastTerms } from '../../grants/history.ts'
import { rolloverIdOf } from '../../grants/rollover.ts'
import { meterOf, openedGrant, planGrantOf, type Grant, type GrantName } from '../../grants/rules.ts'
import { findGrantsAt, findGrantsById, insertGrants, type Moment } from '../../grants/store.ts'
import { isPresent } from '../decide/ledger.ts'
import { isTellablePast } from '../decide/rules.ts'
import type { CorrectedEvent, UsageRequest } from '../usage.ts'
import type { Gathering } from './gathering.ts'
import { findBilledTimes, findLateUse } from './late-store.ts'

type PastMoment = Moment & { readonly balanceKey: string }

type Referred = { readonly requests: readonly UsageRequest[]; readonly corrected: readonly CorrectedEvent[] }

/**
 * Reads what use of the past needs, where there is any: what the organization had then, when its use was billed, the grants of that
 * time, and what has moved on from them since. An allowance that nobody had asked for in its time is opened now.
 */
export async function keepPast(
  tx: PacketClient,
  context: GrantsContext,
  gathered: Gathering,
  { requests, corrected }: Referred,
): Promise<void> {
  const told = toldMoments(gathered, requests)
  const moments = [...told, ...correctedMoments(gathered, corrected)]
  if (moments.length === 0) return
  const organizationIds = [...new Set(moments.map(({ organizationId }) => organizationId))]
  const [past, billed, late, grants] = await Promise.all([
    findPastTerms(tx, organizationIds),
    findBilledTimes(tx, organizationIds),
    findLateUse(tx, organizationIds),
    findGrantsAt(tx, moments),
  ])
  gathered.keep(grants)
  for (const id of organizationIds) {
    const history = await withCatalogs(context, past.get(id) ?? [])
    gathered.pasts.set(id, { history, billed: billed.get(id) ?? [], late: late.get(id) ?? [] })
  }
  await openPast(tx, gathered, told)
}

async function withCatalogs({ catalogs }: GrantsContext, past: readonly PastTerms[]): Promise<History> {
  const own = await Promise.all(past.map(async (terms) => ({ ...terms, catalog: await catalogs.get(terms.catalogVersion) })))
  const otherAddOns = await readOtherAddOns(catalogs, own)
  return own.map((terms) => ({ ...terms, otherAddOns }))
}

/** Reads the allowances of past moments, with what moved on from them, and opens those that are not there. */
async function openPast(tx: PacketClient, gathered: Gathering, moments: readonly PastMoment[]): Promise<void> {
  const wanted = new Map<string, Grant>()
  for (const { organizationId, balanceKey, at } of moments) {
    const terms = gathered.terms.get(organizationId)!
    const now = gathered.times.get(organizationId)!
    const plan = planGrantAt(terms, gathered.pasts.get(organizationId)!.history, balanceKey, at)
    // The present one is opened with its own terms, by `ensurePlanGrants`.
    if (plan.id === planGrantOf(terms, balanceKey, now).id) continue
    wanted.set(`${organizationId}\n${plan.id}`, openedGrant(organizationId, plan, now))
  }
  if (wanted.size === 0) return
  const names = [...wanted.values()].flatMap(({ organizationId, id }): GrantName[] => [
    { organizationId, id },
    { organizationId, id: rolloverIdOf(id) },
  ])
  const found = await findGrantsById(tx, names)
  gathered.keep(found)
  for (const { organizationId, id } of found) wanted.delete(`${organizationId}\n${id}`)
  if (wanted.size === 0) return
  await insertGrants(tx, [...wanted.values()])
  gathered.keep([...wanted.values()])
}

/** Only `track` tells of the past: what is consumed or held is about now. */
function toldMoments(gathered: Gathering, requests: readonly UsageRequest[]): PastMoment[] {
  return requests.flatMap((request): PastMoment[] => {
    if (request.verb !== 'track' || request.occurredAt === null) return []
    const { organizationId, meter, occurredAt: at } = request
    const now = gathered.times.get(organizationId)
    return now && isTellablePast(at, now) ? pastMoment(gathered, { organizationId, meter, at }) : []
  })
}

function correctedMoments(gathered: Gathering, corrected: readonly CorrectedEvent[]): PastMoment[] {
  return corrected.flatMap(({ event: { organizationId, meter, occurredAt: at } }) =>
    pastMoment(gathered, { organizationId, meter, at }),
  )
}

function pastMoment(
  { terms, times }: Gathering,
  { organizationId, meter, at }: Moment & { readonly meter: string },
): PastMoment[] {
  const own = terms.get(organizationId)
  const now = times.get(organizationId)
  const balanceKey = own && meterOf(own, meter)?.balanceKey
  if (own === undefined || now === undefined || balanceKey === undefined || at >= now) return []
  return isPresent(own, planGrantOf(own, balanceKey, now), at) ? [] : [{ organizationId, balanceKey, at }]
}

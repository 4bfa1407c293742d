import type { Queryable } from '../db/database.ts'
import { catalogsBefore, readMoves, replacedBy, termsOfAccounts, timeOf, type GrantsContext } from '../grants/actions.ts'
import type { GrantLine } from '../grants/book.ts'
import {
  changedGrant,
  hasTermsOf,
  includedBalances,
  isCarryDue,
  meterOf,
  openedGrant,
  planGrantOf,
  regrant,
  type Grant,
  type PlanTerms,
  type WantedGrant,
} from '../grants/rules.ts'
import { findAccounts, findActiveGrants, findGrantsById, type AccountRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, newUsageEventId, type ReservationId } from '../lib/ids.ts'
import { decide } from './decide/decide.ts'
import { NOTHING_KNOWN, type DecisionInput, type Outcome } from './decide/decision.ts'
import { OrganizationLedger, snapshotOf, type OrganizationState } from './decide/ledger.ts'
import { spendingOf } from './decide/rules.ts'
import type { BalanceSnapshot, CheckRequest, Spending } from './usage.ts'
import { readDueLevels, type DueLevel, type Present } from './write/due-levels.ts'
import { readReadings, readWindows } from './write/gather.ts'
import { findDrawnGrants } from './write/gathering.ts'
import { findOverdueReservations } from './write/reservations-store.ts'

/**
 * Answers checks together: the same decision as `consume`, with nothing written. The same question asked by many at once, as a
 * busy organization does, is decided once, and all of them get that one outcome (64 callers: 4.7 µs of this process each, else 8.7).
 */
export async function decideChecks(
  client: Queryable,
  context: GrantsContext,
  requests: readonly CheckRequest[],
): Promise<readonly Outcome[]> {
  const questions = new Map<string, CheckRequest>()
  const names = requests.map((request) => {
    const name = questionOf(request)
    if (!questions.has(name)) questions.set(name, request)
    return name
  })
  const outcomes = await decideQuestions(client, context, [...questions.values()])
  const answered = new Map([...questions.keys()].map((name, index) => [name, outcomes[index]!]))
  return names.map((name) => answered.get(name)!)
}

function questionOf({ organizationId, meter, quantity, properties }: CheckRequest): string {
  return `${organizationId}\n${meter}\n${quantity}\n${properties === null ? '' : JSON.stringify(properties)}`
}

async function decideQuestions(
  client: Queryable,
  context: GrantsContext,
  requests: readonly CheckRequest[],
): Promise<readonly Outcome[]> {
  const organizationIds = [...new Set(requests.map((request) => request.organizationId))]
  const meters = Map.groupBy(requests, (request) => request.organizationId)
  const { states, due } = await readStates(client, context, organizationIds, (organizationId, terms) =>
    (meters.get(organizationId) ?? []).flatMap((request) => meterOf(terms, request.meter)?.balanceKey ?? []),
  )
  const terms = new Map([...states].map(([organizationId, state]) => [organizationId, state.terms]))
  const carried = due.map(({ use }) => use)
  const decision = decide({
    ...NOTHING_KNOWN,
    ...(await readReadings(client, (id) => states.get(id), [...carried, ...requests])),
    windows: await readWindows(client, terms, requests),
    requests: [...carried, ...requests],
    organizations: states,
    ...namesFrom(context),
  })
  return decision.outcomes.slice(carried.length)
}

function namesFrom({ clock }: GrantsContext): Pick<DecisionInput, 'recordedAt' | 'newEventId' | 'newReservationId'> {
  const recordedAt = clock.now()
  return {
    recordedAt,
    newEventId: () => newUsageEventId(recordedAt),
    newReservationId: () => newId<ReservationId>('res'),
  }
}

/** Organizations as they are once the levels that stand in their present periods are told: nothing of that is written. */
async function withLevels(
  client: Queryable,
  context: GrantsContext,
  { states, due }: Reading,
): Promise<ReadonlyMap<string, OrganizationState>> {
  if (due.length === 0) return states
  const requests = due.map(({ use }) => use)
  const readings = await readReadings(client, (id) => states.get(id), requests)
  const { grantChanges } = decide({ ...NOTHING_KNOWN, ...readings, requests, organizations: states, ...namesFrom(context) })
  const changes = new Map(grantChanges.map((change) => [`${change.organizationId}\n${change.id}`, change]))
  const withChange = (grant: Grant): Grant => {
    const change = changes.get(`${grant.organizationId}\n${grant.id}`)
    return change ? changedGrant(grant, change) : grant
  }
  return new Map([...states].map(([id, state]) => [id, { ...state, grants: state.grants.map(withChange) }]))
}

/** One balance of an organization, with the words that the catalog has for it. */
export type BalanceReading = BalanceSnapshot & {
  readonly name: string
  readonly unit: string
  readonly limit: 'hard' | 'soft'
  /** null where the plan sets no limit of spending. */
  readonly spending: Spending | null
  /** The grants whose sum it is, in the order in which they are drawn. */
  readonly lines: readonly GrantLine[]
}

/** An organization's balances and standing at its own time. */
export type OrganizationReading = {
  readonly account: AccountRow
  readonly terms: PlanTerms
  readonly now: Instant
  readonly balances: readonly BalanceReading[]
}

/**
 * The balances that an organization has: those that its plan names, and those of which it holds another grant. `also` names more,
 * of which it may have nothing.
 * @throws DomainError `not_found`
 */
export async function readBalances(
  client: Queryable,
  context: GrantsContext,
  organizationId: string,
  also: readonly string[] = [],
): Promise<OrganizationReading> {
  const reading = (await readBalancesOf(client, context, [organizationId], also)).get(organizationId)
  if (reading) return reading
  throw new DomainError('not_found', `There is no organization ${organizationId}.`, { organization_id: organizationId })
}

/** The same of many organizations at once, in as many statements as for one; of those that there are. */
export async function readBalancesOf(
  client: Queryable,
  context: GrantsContext,
  organizationIds: readonly string[],
  also: readonly string[] = [],
): Promise<ReadonlyMap<string, OrganizationReading>> {
  const keysOf: typeof balanceKeysOf = (...reading) => [...balanceKeysOf(...reading), ...also]
  const reading = await readStates(client, context, organizationIds, keysOf)
  const states = await withLevels(client, context, reading)
  return new Map([...states].map(([id, state]) => [id, readingOf(reading.accounts.get(id)!, state, keysOf)]))
}

function readingOf(account: AccountRow, state: OrganizationState, keysOf: typeof balanceKeysOf): OrganizationReading {
  const { organizationId } = state
  const ledger = new OrganizationLedger(state)
  const balances = [...new Set(keysOf(organizationId, state.terms, state.grants))].map((key): BalanceReading => {
    const book = ledger.currentBook(key)
    const { name, unit } = state.terms.catalog.balances.get(key) ?? { name: key, unit: key }
    const spending = spendingOf(ledger, book)
    return { ...snapshotOf(book, null), name, unit, limit: book.plan.grant.limit, spending, lines: book.lines }
  })
  return { account, terms: state.terms, now: state.now, balances }
}

function balanceKeysOf(_organizationId: string, terms: PlanTerms, grants: readonly Grant[]): string[] {
  return [...includedBalances(terms), ...grants.filter((grant) => grant.kind !== 'plan').map((grant) => grant.balanceKey)]
}

type Reading = {
  readonly accounts: ReadonlyMap<string, AccountRow>
  readonly states: ReadonlyMap<string, OrganizationState>
  /** Levels that stand in the present, and of which the grants of `states` do not know yet. */
  readonly due: readonly DueLevel[]
}

/** Reads organizations with the plan allowances that their next use would open, without opening them. */
async function readStates(
  client: Queryable,
  context: GrantsContext,
  organizationIds: readonly string[],
  keysOf: (organizationId: string, terms: PlanTerms, grants: readonly Grant[]) => readonly string[],
): Promise<Reading> {
  const machineNow = context.clock.now()
  const { version, catalog } = context.catalogs.current
  const [found, active] = await Promise.all([
    findAccounts(client, organizationIds, { planKey: catalog.defaultPlanKey, catalogVersion: version }),
    findActiveGrants(client, organizationIds, machineNow),
  ])
  const terms = await termsOfAccounts(context, found, machineNow)
  const times = new Map(found.map((account) => [account.organizationId, timeOf(account, machineNow)]))
  const grants = new Map<string, Map<string, Grant>>(found.map(({ organizationId }) => [organizationId, new Map()]))
  const keep = (read: readonly Grant[]): void => {
    for (const grant of read) grants.get(grant.organizationId)?.set(grant.id, grant)
  }
  keep(active)
  const holding = new Set(active.flatMap((grant) => (grant.reserved + grant.heldOverage > 0n ? [grant.organizationId] : [])))
  for (const account of found) {
    const { organizationId } = account
    const isOpen = (id: string): boolean => grants.get(organizationId)!.has(id)
    const now = times.get(organizationId)!
    if (isCarryDue(terms.get(organizationId)!, { balanceKey: null, now, isOpen })) holding.add(organizationId)
  }
  const overdue = holding.size === 0 ? [] : await findOverdueReservations(client, [...holding], machineNow)
  const held = overdue.map(({ organizationId, holds }) => ({ organizationId, draws: holds }))
  keep(await findDrawnGrants(client, held, grants))
  // An open reservation whose time is over holds nothing any more.
  for (const { organizationId, holds } of overdue) {
    const own = grants.get(organizationId)!
    for (const { grantId, amount, overage } of holds) {
      const grant = own.get(grantId)!
      own.set(grantId, { ...grant, reserved: grant.reserved - amount, heldOverage: grant.heldOverage - overage })
    }
  }
  const wanted = found.flatMap((account): WantedGrant[] => {
    const { organizationId } = account
    const own = terms.get(organizationId)!
    const now = times.get(organizationId)!
    const keys = new Set(keysOf(organizationId, own, [...grants.get(organizationId)!.values()]))
    return [...keys].map((key) => ({ organizationId, terms: own, now, plan: planGrantOf(own, key, now) }))
  })
  const isMissing = ({ organizationId, plan }: WantedGrant): boolean => !grants.get(organizationId)!.has(plan.id)
  const missing = wanted.filter(isMissing)
  if (missing.length > 0) {
    // One that ended when another plan took its place may stand again.
    keep(await findGrantsById(client, missing.map(nameOf)))
    const known = [...grants.values()].flatMap((own) => [...own.values()])
    const { moves } = await readMoves(client, missing.filter(isMissing), [...known, ...replacedBy(wanted, known)])
    keep(moves.filter(({ to }) => !grants.get(to.organizationId)!.has(to.id)).flatMap(({ from, to }) => [from, to]))
  }
  const standingOf = ({ organizationId, plan }: WantedGrant): Grant | undefined => grants.get(organizationId)!.get(plan.id)
  const catalogOf = await catalogsBefore(context.catalogs, wanted, standingOf)
  keep(
    wanted.map(({ organizationId, plan, terms: own, now }) => {
      const grant = grants.get(organizationId)!.get(plan.id) ?? openedGrant(organizationId, plan, now)
      return hasTermsOf(grant, plan) ? grant : regrant(grant, plan, catalogOf(grant, own))
    }),
  )
  const presentOf = (id: string): Present | undefined =>
    times.has(id) ? { terms: terms.get(id)!, now: times.get(id)! } : undefined
  const asked = wanted.map(({ organizationId, plan: { balanceKey } }) => ({ organizationId, balanceKey }))
  const due = await readDueLevels(client, presentOf, asked)
  if (due.length > 0) {
    const { readings } = await readReadings(
      client,
      presentOf,
      due.map(({ use }) => use),
    )
    keep(await findDrawnGrants(client, readings, grants))
  }
  const states = new Map(
    found.map((account): [string, OrganizationState] => {
      const { organizationId } = account
      const now = times.get(organizationId)!
      return [
        organizationId,
        { organizationId, now, terms: terms.get(organizationId)!, grants: [...grants.get(organizationId)!.values()] },
      ]
    }),
  )
  return { accounts: new Map(found.map((account) => [account.organizationId, account])), states, due }
}

function nameOf({ organizationId, plan }: { organizationId: string; plan: { id: string } }): {
  organizationId: string
  id: string
} {
  return { organizationId, id: plan.id }
}

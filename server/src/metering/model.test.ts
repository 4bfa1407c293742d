import fc from 'fast-check'
import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { writeAside } from '../../test/under-lock.ts'
import { commands, startOf, type System } from '../../test/usage-commands.ts'
import { definition, termsOf, type Facts } from '../../test/usage-facts.ts'
import { reconcilePlanGrants } from '../grants/actions.ts'
import { planGrantAt } from '../grants/history.ts'
import { moveOn } from '../grants/rollover.ts'
import { changedGrant, hasTermsOf, isActiveAt, openedGrant, regrant, type Grant, type WantedGrant } from '../grants/rules.ts'
import { insertGrants, listGrants } from '../grants/store.ts'
import { listImbalances } from './balance-store.ts'
import { decide, planGrantsNeeded } from './decide/decide.ts'
import { eventKey, nameOf, NOTHING_KNOWN, type Decision } from './decide/decision.ts'
import type { OrganizationState } from './decide/ledger.ts'
import { endOverdueReservations } from './expiring.ts'
import type { CorrectedEvent, Reservation, UsageEvent, UsageRequest } from './usage.ts'

/** The rules alone, with what they decide kept in memory. */
function memorySystem(): System {
  const grants = new Map<string, Grant>()
  const known = new Map<string, UsageEvent>()
  const corrected = new Map<string, CorrectedEvent>()
  const reservations = new Map<string, Reservation>()
  let ids = 0
  function ensure(facts: Facts): void {
    const now = new Date(facts.now)
    const terms = termsOf(facts)
    for (const plan of planGrantsNeeded(terms, now, ['search'])) {
      for (const other of grants.values()) {
        const replaced = other.kind === 'plan' && other.id !== plan.id && isActiveAt(other, now)
        if (replaced) grants.set(other.id, { ...other, expiresAt: now })
      }
      if (!grants.has(plan.id)) begin({ organizationId: facts.organizationId, terms, plan, now })
      const grant = grants.get(plan.id)!
      grants.set(plan.id, hasTermsOf(grant, plan) ? grant : regrant(grant, plan, terms.catalog))
    }
  }
  function begin(want: WantedGrant): void {
    const [last] = [...grants.values()]
      .filter(({ kind }) => kind === 'plan')
      .toSorted((a, b) => b.expiresAt!.getTime() - a.expiresAt!.getTime() || b.startsAt.getTime() - a.startsAt.getTime())
    const { passed, moves } = moveOn(want, last ?? null)
    for (const grant of [openedGrant(want.organizationId, want.plan, want.now), ...passed]) grants.set(grant.id, grant)
    for (const { from, to } of moves) {
      if (grants.has(to.id)) continue
      grants.set(from.id, from)
      grants.set(to.id, to)
    }
  }
  function openPast(facts: Facts, request: UsageRequest): void {
    if (request.verb !== 'track' || request.occurredAt === null) return
    const plan = planGrantAt(termsOf(facts), facts.history, 'credits', request.occurredAt)
    if (!grants.has(plan.id)) grants.set(plan.id, openedGrant(facts.organizationId, plan, new Date(facts.now)))
  }
  const stateOf = (facts: Facts): OrganizationState => ({
    organizationId: facts.organizationId,
    now: new Date(facts.now),
    terms: termsOf(facts),
    grants: [...grants.values()],
    past: { history: facts.history, billed: [], late: [] },
  })
  function keep(decision: Decision): void {
    for (const change of decision.grantChanges) grants.set(change.id, changedGrant(grants.get(change.id)!, change))
    for (const event of decision.events) {
      known.set(eventKey(event.organizationId, nameOf(event)), event)
      corrected.set(eventKey(event.organizationId, event.idempotencyKey), {
        event,
        counted: event.counted,
        draws: event.draws,
        retracted: false,
      })
    }
    for (const left of decision.corrections) corrected.set(eventKey(left.event.organizationId, left.event.idempotencyKey), left)
    for (const made of [...decision.newReservations, ...decision.closedReservations]) reservations.set(made.id, made)
  }
  const decideNow = (facts: Facts, requests: readonly UsageRequest[]): Decision =>
    decide({
      ...NOTHING_KNOWN,
      corrected,
      requests,
      organizations: new Map([[facts.organizationId, stateOf(facts)]]),
      known,
      reservations: [...reservations.values()],
      recordedAt: new Date(facts.now),
      newEventId: () => `event ${(ids += 1)}`,
      newReservationId: () => `reservation ${(ids += 1)}`,
    })
  return {
    async ask(facts, request) {
      keep(decideNow(facts, []))
      ensure(facts)
      openPast(facts, request)
      const decision = decideNow(facts, [request])
      keep(decision)
      return decision.outcomes[0]!
    },
    async change(facts) {
      keep(decideNow(facts, []))
      ensure(facts)
    },
    async give(_facts, grant) {
      grants.set(grant.id, grant)
    },
    async grants() {
      return [...grants.values()]
    },
  }
}

test('the rules do what the reference says, for any sequence of uses, holds, gifts, plan changes and time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.commands(commands, { maxCommands: 25, size: 'max' }), async (sequence) => {
      const system = memorySystem()
      const started = startOf('org', system)
      await system.change(started.real.facts)
      await fc.asyncModelRun(() => started, sequence)
    }),
    { numRuns: 10_000 },
  )
})

const fixture = testMetering(definition)
const version = (): number => fixture.catalogs().current.version

test('the server does what the reference says on a real database', async () => {
  const { db } = fixture.database
  const tell = async ({ organizationId, now, planKey, suspended, cycleStart, cycleEnd }: Facts): Promise<void> => {
    const status = suspended ? 'unpaid' : planKey === 'free' ? null : 'active'
    await db.query('update organizations set test_clock_now = $2 where id = $1', [organizationId, new Date(now)])
    await db.query(
      `update accounts set plan_key = $2, subscription_status = $3, current_period_start = $4, current_period_end = $5
       where organization_id = $1`,
      [organizationId, planKey, status, new Date(cycleStart), new Date(cycleEnd)],
    )
  }
  const system: System = {
    async ask(facts, request) {
      await tell(facts)
      return (await fixture.metering().submit([request]))[0]!
    },
    async change(facts) {
      await tell(facts)
      await db.transaction(async (tx) => {
        await endOverdueReservations(tx, fixture.context(), facts.organizationId)
        await reconcilePlanGrants(tx, fixture.context(), facts.organizationId)
      })
    },
    give: async (_facts, grant) => void (await writeAside(db, (tx) => insertGrants(tx, [grant]))),
    grants: (facts) => listGrants(db, facts.organizationId),
  }
  await fc.assert(
    fc.asyncProperty(fc.commands(commands, { maxCommands: 15 }), async (sequence) => {
      const organizationId = await fixture.newOrganization()
      await fixture.database.db.query(
        `insert into accounts (organization_id, plan_key, catalog_version, updated_at) values ($1, 'free', $2, now())`,
        [organizationId, version()],
      )
      const started = startOf(organizationId, system)
      await system.change(started.real.facts)
      await fc.asyncModelRun(() => started, sequence)
    }),
    { numRuns: 100 },
  )
  expect(await listImbalances(fixture.database.db, 10)).toEqual([])
})

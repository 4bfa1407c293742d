import fc from 'fast-check'
import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { UsageModel, type ModelAnswer, type ModelPlan } from '../../test/usage-model.ts'
import { normalizeCatalog, type CatalogDefinition } from '../catalog/normalize.ts'
import {
  hasTermsOf,
  isActiveAt,
  openedGrant,
  partsOf,
  planGrantOf,
  regrant,
  type Grant,
  type PlanTerms,
} from '../grants/rules.ts'
import { insertGrants, listGrants } from '../grants/store.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { Standing } from '../standing/rules.ts'
import { decide, eventKey, planGrantsNeeded, type Decision, type Outcome } from './decide.ts'
import type { OrganizationState } from './ledger.ts'
import { listImbalances } from './store.ts'
import type { Reservation, UsageAnswer, UsageEvent, UsageRequest } from './usage.ts'

// A search costs a tenth of a credit: the model counts in tenths, the real thing in millionths.
const TENTH = 100_000n
const definition: CatalogDefinition = {
  meters: { search: {}, other: {} },
  credits: { credits: { costs: { search: '0.1' } } },
  plans: {
    free: { name: 'Free', allowances: { credits: { amount: 3, period: 'calendar_month' } } },
    pro: { name: 'Pro', allowances: { credits: { amount: 12 } } },
    soft: { name: 'Soft', allowances: { credits: { amount: 6, limit: 'soft' } } },
    unlimited: { name: 'Unlimited', allowances: { credits: { amount: 'unlimited' } } },
    none: { name: 'None', allowances: { other: { amount: 1 } } },
  },
  defaultPlan: 'free',
}
const catalog = normalizeCatalog(definition)
const PLANS: readonly ModelPlan[] = [
  { key: 'free', amount: 30, limit: 'hard', included: true },
  { key: 'pro', amount: 120, limit: 'hard', included: true },
  { key: 'soft', amount: 60, limit: 'soft', included: true },
  { key: 'unlimited', amount: null, limit: 'hard', included: true },
  { key: 'none', amount: 0, limit: 'hard', included: false },
]
const START = Date.parse('2026-03-10T12:00:00Z')

/** What the organization has, as its account says: changed by commands, read by both sides. */
type Facts = { organizationId: string; now: number; planKey: string; suspended: boolean; cycleStart: number; cycleEnd: number }

function termsOf(facts: Facts): PlanTerms {
  const free = facts.planKey === 'free'
  const standing: Standing = {
    state: facts.suspended ? 'suspended' : free ? 'free' : 'active',
    mayUse: !facts.suspended,
    reason: 'paid',
    planKey: facts.planKey,
    since: null,
    until: null,
  }
  return {
    standing,
    catalog,
    newerMeters: catalog.meters,
    catalogVersion: 1,
    anchor: new Date(START),
    currentPeriodStart: new Date(facts.cycleStart),
    currentPeriodEnd: new Date(facts.cycleEnd),
  }
}

/** What is put to the test: metering with one organization. */
type System = {
  ask(facts: Facts, request: UsageRequest): Promise<Outcome>
  give(facts: Facts, grant: Grant): Promise<void>
  grants(facts: Facts): Promise<readonly Grant[]>
}

/** The rules alone, with what they decide kept in memory. */
function memorySystem(): System {
  const grants = new Map<string, Grant>()
  const known = new Map<string, UsageEvent>()
  const reservations = new Map<string, Reservation>()
  let ids = 0
  function ensure(facts: Facts): void {
    const now = new Date(facts.now)
    for (const plan of planGrantsNeeded(termsOf(facts), now, ['search'])) {
      const grant = grants.get(plan.id) ?? openedGrant(facts.organizationId, plan, now)
      grants.set(plan.id, hasTermsOf(grant, plan) ? grant : regrant(grant, plan))
      for (const other of grants.values()) {
        const replaced = other.kind === 'plan' && other.id !== plan.id && isActiveAt(other, now)
        if (replaced) grants.set(other.id, { ...other, expiresAt: now })
      }
    }
  }
  const stateOf = (facts: Facts): OrganizationState => ({
    organizationId: facts.organizationId,
    now: new Date(facts.now),
    terms: termsOf(facts),
    grants: [...grants.values()],
  })
  function keep(decision: Decision): void {
    for (const { id, used, overage, reserved } of decision.grantChanges) {
      const grant = grants.get(id)!
      grants.set(id, { ...grant, used: grant.used + used, overage: grant.overage + overage, reserved: grant.reserved + reserved })
    }
    for (const event of decision.events) known.set(eventKey(event.organizationId, event.idempotencyKey), event)
    for (const made of [...decision.newReservations, ...decision.closedReservations]) reservations.set(made.id, made)
  }
  return {
    async ask(facts, request) {
      const decideNow = (requests: readonly UsageRequest[]) =>
        decide({
          requests,
          organizations: new Map([[facts.organizationId, stateOf(facts)]]),
          known,
          reservations: [...reservations.values()],
          recordedAt: new Date(facts.now),
          eventIdOf: () => `event ${(ids += 1)}`,
          newReservationId: () => `reservation ${(ids += 1)}`,
        })
      keep(decideNow([]))
      ensure(facts)
      const decision = decideNow([request])
      keep(decision)
      return decision.outcomes[0]!
    },
    async give(_facts, grant) {
      grants.set(grant.id, grant)
    },
    async grants() {
      return [...grants.values()]
    },
  }
}

type Real = { readonly system: System; readonly facts: Facts; readonly reservationIds: Map<number, string> }
type Command = fc.AsyncCommand<UsageModel, Real>

function shown(answer: UsageAnswer): ModelAnswer {
  const tenths = (quantity: Quantity): number => {
    if (quantity % TENTH !== 0n) throw new Error(`${quantity} is no whole tenth`)
    return Number(quantity / TENTH)
  }
  const { used, overage, reserved, remaining } = answer.balance
  return {
    allowed: answer.allowed,
    code: answer.code,
    used: tenths(used),
    overage: tenths(overage),
    reserved: tenths(reserved),
    remaining: remaining === null ? null : tenths(remaining),
  }
}

const EXPECTED_ERRORS: Readonly<Record<string, 'conflict' | 'closed'>> = {
  idempotency_conflict: 'conflict',
  reservation_closed: 'closed',
}

async function compare(
  model: UsageModel,
  real: Real,
  request: UsageRequest,
  expected: ModelAnswer | 'conflict' | 'closed',
): Promise<UsageAnswer | null> {
  const outcome = await real.system.ask(real.facts, request)
  if (outcome.kind === 'error') {
    expect(outcome.error instanceof DomainError ? EXPECTED_ERRORS[outcome.error.code] : outcome.error).toEqual(expected)
    return null
  }
  expect(shown(outcome.answer)).toEqual(expected)
  await expectIdentity(real, new Date(model.now))
  return outcome.answer
}

/** granted − used − reserved − revoked − expired = remaining, per grant, and no grant is overdrawn. */
async function expectIdentity(real: Real, now: Date): Promise<void> {
  for (const grant of await real.system.grants(real.facts)) {
    const { remaining, expired } = partsOf(grant, now)
    const rest = grant.amount === null ? null : grant.amount - grant.used - grant.reserved - grant.revoked - expired
    expect(rest).toBe(remaining)
    expect(remaining === null || (remaining >= 0n && expired >= 0n)).toBe(true)
  }
}

class Use implements Command {
  readonly verb: 'consume' | 'track'
  readonly key: string
  readonly quantity: number
  constructor(verb: 'consume' | 'track', key: string, quantity: number) {
    this.verb = verb
    this.key = key
    this.quantity = quantity
  }
  check(): boolean {
    return true
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    const { verb, key, quantity } = this
    const expected = model.use(verb, `${verb} ${key}`, quantity)
    const request: UsageRequest = {
      verb,
      organizationId: real.facts.organizationId,
      meter: 'search',
      quantity: BigInt(quantity) * 1_000_000n,
      idempotencyKey: `${verb} ${key}`,
      occurredAt: null,
      properties: null,
    }
    await compare(model, real, request, expected)
  }
  toString(): string {
    return `${this.verb}(${this.key}, ${this.quantity})`
  }
}

class Reserve implements Command {
  readonly name: number
  readonly quantity: number
  readonly hours: number
  constructor(name: number, quantity: number, hours: number) {
    this.name = name
    this.quantity = quantity
    this.hours = hours
  }
  check(model: Readonly<UsageModel>): boolean {
    return !model.holds.has(this.name)
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    const expected = model.reserve(this.name, this.quantity, this.hours * HOUR_MS)
    const answer = await compare(
      model,
      real,
      {
        verb: 'reserve',
        organizationId: real.facts.organizationId,
        meter: 'search',
        quantity: BigInt(this.quantity) * 1_000_000n,
        idempotencyKey: `reserve ${this.name} at ${model.now}, attempt ${model.answers.size}`,
        properties: null,
        ttlMs: this.hours * HOUR_MS,
      },
      expected,
    )
    model.answers.set(`reserve ${model.answers.size}`, { quantity: 0, answer: expected })
    if (answer?.reservation) real.reservationIds.set(this.name, answer.reservation.id)
  }
  toString(): string {
    return `reserve(${this.name}, ${this.quantity}, ${this.hours}h)`
  }
}

class Close implements Command {
  readonly name: number
  readonly settle: boolean
  readonly quantity: number | null
  constructor(name: number, settle: boolean, quantity: number | null) {
    this.name = name
    this.settle = settle
    this.quantity = quantity
  }
  check(model: Readonly<UsageModel>): boolean {
    return model.holds.has(this.name)
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    const reservationId = real.reservationIds.get(this.name)!
    const { organizationId } = real.facts
    if (this.settle) {
      const quantity = this.quantity === null ? null : BigInt(this.quantity) * 1_000_000n
      await compare(
        model,
        real,
        { verb: 'settle', organizationId, reservationId, quantity },
        model.settle(this.name, this.quantity),
      )
    } else {
      await compare(model, real, { verb: 'release', organizationId, reservationId }, model.release(this.name))
    }
  }
  toString(): string {
    return this.settle ? `settle(${this.name}, ${this.quantity})` : `release(${this.name})`
  }
}

class Change implements Command {
  readonly name: string
  readonly change: (facts: Facts, model: UsageModel) => void
  constructor(name: string, change: (facts: Facts, model: UsageModel) => void) {
    this.name = name
    this.change = change
  }
  check(): boolean {
    return true
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    this.change(real.facts, model)
    model.now = real.facts.now
    model.plan = PLANS.find((plan) => plan.key === real.facts.planKey)!
    model.standing = real.facts.suspended ? 'suspended' : 'active'
  }
  toString(): string {
    return this.name
  }
}

class Give implements Command {
  readonly amount: number | null
  readonly priority: number
  readonly days: number | null
  constructor(amount: number | null, priority: number, days: number | null) {
    this.amount = amount
    this.priority = priority
    this.days = days
  }
  check(): boolean {
    return true
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    const order = model.grants.length
    const id = `gift ${String(order).padStart(3, '0')}`
    const expiresAt = this.days === null ? null : new Date(model.now + this.days * DAY_MS)
    const template = openedGrant(
      real.facts.organizationId,
      planGrantOf(termsOf(real.facts), 'credits', new Date(model.now)),
      new Date(model.now),
    )
    const amount = this.amount === null ? null : BigInt(this.amount) * TENTH
    await real.system.give(real.facts, {
      ...template,
      id,
      kind: 'manual',
      planKey: null,
      catalogVersion: null,
      amount,
      limit: 'hard',
      priority: this.priority,
      startsAt: new Date(model.now),
      expiresAt,
    })
    model.grants.push({
      id,
      isPlan: false,
      amount: this.amount,
      used: 0,
      overage: 0,
      reserved: 0,
      priority: this.priority,
      startsAt: model.now,
      expiresAt: expiresAt?.getTime() ?? Number.MAX_SAFE_INTEGER,
      createdAt: model.now,
    })
  }
  toString(): string {
    return `give(${this.amount}, priority ${this.priority}, ${this.days} days)`
  }
}

const quantity = fc.integer({ min: 0, max: 45 })
const name = fc.nat(3)
const commands = [
  fc
    .tuple(fc.constantFrom('consume', 'track' as const), fc.nat(12), quantity)
    .map(([verb, key, amount]) => new Use(verb, `k${key}`, amount)),
  fc
    .tuple(fc.constantFrom('consume', 'track' as const), fc.nat(1_000_000), quantity)
    .map(([verb, key, amount]) => new Use(verb, `n${key}`, amount)),
  fc.tuple(name, quantity, fc.integer({ min: 1, max: 40 })).map(([hold, amount, hours]) => new Reserve(hold, amount, hours)),
  fc.tuple(name, fc.boolean(), fc.option(quantity)).map(([hold, settle, amount]) => new Close(hold, settle, amount)),
  fc.constantFrom(...PLANS.map(({ key }) => key)).map((key) => new Change(`plan(${key})`, (facts) => void (facts.planKey = key))),
  fc
    .integer({ min: 1, max: 40 * 24 })
    .map((hours) => new Change(`wait(${hours}h)`, (facts) => void (facts.now += hours * HOUR_MS))),
  fc.constant(
    new Change('renew', (facts) => Object.assign(facts, { cycleStart: facts.cycleEnd, cycleEnd: facts.cycleEnd + 30 * DAY_MS })),
  ),
  fc.constant(
    new Change('anchor now', (facts) => Object.assign(facts, { cycleStart: facts.now, cycleEnd: facts.now + 30 * DAY_MS })),
  ),
  fc.boolean().map((suspended) => new Change(`suspended(${suspended})`, (facts) => void (facts.suspended = suspended))),
  fc
    .tuple(fc.option(quantity, { freq: 9 }), fc.constantFrom(10, 50, 90), fc.option(fc.integer({ min: 1, max: 60 })))
    .map(([amount, priority, days]) => new Give(amount, priority, days)),
]

function startOf(organizationId: string, system: System): { model: UsageModel; real: Real } {
  const facts: Facts = {
    organizationId,
    now: START,
    planKey: 'free',
    suspended: false,
    cycleStart: START - 3 * DAY_MS,
    cycleEnd: START + 27 * DAY_MS,
  }
  const spanAt = (model: UsageModel) => {
    const { id, span } = planGrantOf(termsOf(facts), 'credits', new Date(model.now))
    return { id, start: span.start.getTime(), end: span.end!.getTime() }
  }
  return { model: new UsageModel(START, PLANS[0]!, spanAt), real: { system, facts, reservationIds: new Map() } }
}

test('the rules do what the model says, for any sequence of uses, holds, gifts, plan changes and time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.commands(commands, { maxCommands: 25, size: 'max' }), async (sequence) => {
      const started = startOf('org', memorySystem())
      await fc.asyncModelRun(() => started, sequence)
    }),
    { numRuns: 10_000 },
  )
}, 120_000)

const fixture = testMetering(definition)

test('the server does what the model says on a real database', async () => {
  const system: System = {
    async ask(facts, request) {
      const { organizationId, now, planKey, suspended, cycleStart, cycleEnd } = facts
      await fixture.database.db.query('update organizations set test_clock_now = $2 where id = $1', [
        organizationId,
        new Date(now),
      ])
      await fixture.database.db.query(
        `update accounts set plan_key = $2, subscription_status = $3, current_period_start = $4, current_period_end = $5
         where organization_id = $1`,
        [
          organizationId,
          planKey,
          suspended ? 'unpaid' : planKey === 'free' ? null : 'active',
          new Date(cycleStart),
          new Date(cycleEnd),
        ],
      )
      return (await fixture.metering().submit([request]))[0]!
    },
    give: (_facts, grant) => insertGrants(fixture.database.db, [grant]),
    grants: (facts) => listGrants(fixture.database.db, facts.organizationId),
  }
  await fc.assert(
    fc.asyncProperty(fc.commands(commands, { maxCommands: 15 }), async (sequence) => {
      const organizationId = await fixture.newOrganization()
      await fixture.database.db.query(
        `insert into accounts (organization_id, plan_key, catalog_version, updated_at) values ($1, 'free', $2, now())`,
        [organizationId, fixture.catalogs().current.version],
      )
      const started = startOf(organizationId, system)
      await fc.asyncModelRun(() => started, sequence)
    }),
    { numRuns: 100 },
  )
  expect(await listImbalances(fixture.database.db, 10)).toEqual([])
}, 120_000)

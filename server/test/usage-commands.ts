import fc from 'fast-check'
import { expect } from 'vitest'
import type { PastTerms } from '../src/grants/history.ts'
import { openedGrant, partsOf, planGrantOf, type Grant } from '../src/grants/rules.ts'
import { DomainError } from '../src/lib/errors.ts'
import { DAY_MS, HOUR_MS } from '../src/lib/period.ts'
import type { Quantity } from '../src/lib/quantity.ts'
import type { Outcome } from '../src/metering/decision.ts'
import type { UsageAnswer, UsageRequest } from '../src/metering/usage.ts'
import { catalog, PLANS, recordTerms, spansOf, START, termsOf, type Facts } from './usage-facts.ts'
import { UsageModel, type ModelAnswer } from './usage-model.ts'

// A search costs a tenth of a credit: the model counts in tenths, the real thing in millionths.
const TENTH = 100_000n

/** What is put to the test: metering with one organization. */
export type System = {
  ask(facts: Facts, request: UsageRequest): Promise<Outcome>
  /** Told of terms that begin. */
  change(facts: Facts, terms: PastTerms): Promise<void>
  give(facts: Facts, grant: Grant): Promise<void>
  grants(facts: Facts): Promise<readonly Grant[]>
}

type Real = {
  readonly system: System
  readonly facts: Facts
  readonly reservationIds: Map<number, string>
  readonly corrections: { count: number }
}
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
    late: answer.late !== null,
  }
}

const EXPECTED_ERRORS: Readonly<Record<string, 'conflict' | 'closed' | 'invalid'>> = {
  invalid_quantity: 'invalid',
  idempotency_conflict: 'conflict',
  reservation_closed: 'closed',
}

async function compare(
  model: UsageModel,
  real: Real,
  request: UsageRequest,
  expected: ModelAnswer | 'conflict' | 'closed' | 'invalid',
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
  /** How long ago it happened, where the caller says so. */
  readonly hoursAgo: number | null
  constructor(verb: 'consume' | 'track', key: string, quantity: number, hoursAgo: number | null = null) {
    this.verb = verb
    this.key = key
    this.quantity = quantity
    this.hoursAgo = hoursAgo
  }
  check(): boolean {
    return true
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    const { verb, key, quantity, hoursAgo } = this
    const at = hoursAgo === null ? null : model.now - hoursAgo * HOUR_MS
    const expected = model.use(verb, `${verb} ${key}`, quantity, at)
    const request: UsageRequest = {
      verb,
      organizationId: real.facts.organizationId,
      meter: 'search',
      quantity: BigInt(quantity) * 1_000_000n,
      idempotencyKey: `${verb} ${key}`,
      occurredAt: at === null ? null : new Date(at),
      properties: null,
    }
    await compare(model, real, request, expected)
  }
  toString(): string {
    return `${this.verb}(${this.key}, ${this.quantity}${this.hoursAgo === null ? '' : `, ${this.hoursAgo} hours ago`})`
  }
}

/** Corrects a use of any period. */
class Correct implements Command {
  readonly pick: number
  readonly change: number
  constructor(pick: number, change: number) {
    this.pick = pick
    this.change = change
  }
  #key(model: UsageModel): string | undefined {
    return [...model.uses.keys()][this.pick % Math.max(model.uses.size, 1)]
  }
  check(): boolean {
    return true
  }
  async run(model: UsageModel, real: Real): Promise<void> {
    const key = this.#key(model)
    if (key === undefined) return
    const expected = model.correct(key, this.change)
    const request: UsageRequest = {
      verb: 'correct',
      organizationId: real.facts.organizationId,
      corrects: key,
      quantity: BigInt(this.change) * 1_000_000n,
      idempotencyKey: `correct ${real.corrections.count}`,
      properties: null,
    }
    real.corrections.count += 1
    await compare(model, real, request, expected)
  }
  toString(): string {
    return `correct(${this.pick}, ${this.change})`
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
    const terms = recordTerms(real.facts)
    if (terms !== null) await real.system.change(real.facts, terms)
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
      heldOverage: 0,
      moved: 0,
      priced: 0,
      cost: 0,
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
export const commands = [
  fc
    .tuple(fc.constantFrom('consume', 'track' as const), fc.nat(12), quantity)
    .map(([verb, key, amount]) => new Use(verb, `k${key}`, amount)),
  fc
    .tuple(fc.constantFrom('consume', 'track' as const), fc.nat(1_000_000), quantity)
    .map(([verb, key, amount]) => new Use(verb, `n${key}`, amount)),
  fc
    .tuple(fc.nat(1_000_000), quantity, fc.integer({ min: 1, max: 34 * 24 }))
    .map(([key, amount, hoursAgo]) => new Use('track', `l${key}`, amount, hoursAgo)),
  fc.tuple(fc.nat(20), fc.integer({ min: -30, max: 10 })).map(([pick, change]) => new Correct(pick, change)),
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

export function startOf(organizationId: string, system: System): { model: UsageModel; real: Real } {
  const facts: Facts = {
    organizationId,
    now: START,
    planKey: 'free',
    suspended: false,
    cycleStart: START - 3 * DAY_MS,
    cycleEnd: START + 27 * DAY_MS,
    history: [{ since: new Date(0), planKey: 'free', catalogVersion: 1, catalog, cycle: null, addOns: {} }],
  }
  return {
    model: new UsageModel(START, PLANS[0]!, spansOf(facts)),
    real: { system, facts, reservationIds: new Map(), corrections: { count: 0 } },
  }
}

import fc from 'fast-check'
import { expect } from 'vitest'
import { openedGrant, partsOf, planGrantOf, type Grant } from '../src/grants/rules.ts'
import { DomainError } from '../src/lib/errors.ts'
import { DAY_MS, HOUR_MS } from '../src/lib/period.ts'
import type { Quantity } from '../src/lib/quantity.ts'
import type { Outcome } from '../src/metering/decide/decision.ts'
import type { UsageAnswer, UsageRequest } from '../src/metering/usage.ts'
import { catalog, plainTermsOf, PLANS, recordTerms, START, termsOf, type Facts } from './usage-facts.ts'
import { answerTo, type Answer, type Asked, type Terms } from './usage-reference.ts'

// A search costs a tenth of a credit: the reference counts in tenths, the real thing in millionths.
const TENTH = 100_000n

/** What is put to the test: metering with one organization. */
export type System = {
  ask(facts: Facts, request: UsageRequest): Promise<Outcome>
  /** Told of a plan, a cycle or a standing that begins. */
  change(facts: Facts): Promise<void>
  give(facts: Facts, grant: Grant): Promise<void>
  grants(facts: Facts): Promise<readonly Grant[]>
}

/** What was asked so far, all that the reference needs; and what of it commands may name. */
type Model = {
  readonly first: Terms
  readonly asked: Asked[]
  readonly uses: Set<string>
  readonly holds: Set<string>
  now: number
}
type Real = { readonly system: System; readonly facts: Facts; readonly reservationIds: Map<string, string> }
type Command = fc.AsyncCommand<Model, Real>

function expectedOf(model: Model, asked: Asked): Answer {
  model.asked.push(asked)
  return answerTo(model.first, model.asked)
}

function shown(answer: UsageAnswer): Answer {
  const tenths = (quantity: Quantity): number => {
    if (quantity % TENTH !== 0n) throw new Error(`${quantity} is no whole tenth`)
    return Number(quantity / TENTH)
  }
  const { used, overage, reserved, remaining } = answer.balance
  expect(answer.allowed).toBe(answer.code === null)
  return {
    code: answer.code,
    used: tenths(used),
    overage: tenths(overage),
    reserved: tenths(reserved),
    remaining: remaining === null ? null : tenths(remaining),
    late: answer.late !== null,
  }
}

const ERRORS: Readonly<Record<string, string>> = {
  invalid_quantity: 'invalid',
  idempotency_conflict: 'conflict',
  reservation_closed: 'closed',
}

async function compare(model: Model, real: Real, request: UsageRequest, asked: Asked): Promise<UsageAnswer | null> {
  const expected = expectedOf(model, asked)
  const outcome = await real.system.ask(real.facts, request)
  if (outcome.kind === 'error') {
    const { error } = outcome
    expect(error instanceof DomainError ? { error: ERRORS[error.code] } : error).toEqual(expected)
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

const micro = (quantity: number): Quantity => BigInt(quantity) * 1_000_000n

/** A command of a name, which says what it does. */
const command = (
  name: string,
  run: (model: Model, real: Real) => Promise<unknown>,
  check: (model: Readonly<Model>) => boolean = () => true,
): Command => ({ check, run: async (model, real) => void (await run(model, real)), toString: () => name })

const use = (verb: 'consume' | 'track', key: string, quantity: number, hoursAgo: number | null = null): Command =>
  command(`${verb}(${key}, ${quantity}${hoursAgo === null ? '' : `, ${hoursAgo} hours ago`})`, async (model, real) => {
    const name = `${verb} ${key}`
    const at = model.now
    const occurred = hoursAgo === null ? at : at - hoursAgo * HOUR_MS
    const { organizationId } = real.facts
    const occurredAt = hoursAgo === null ? null : new Date(occurred)
    const asked = {
      verb,
      organizationId,
      meter: 'search',
      quantity: micro(quantity),
      idempotencyKey: name,
      occurredAt,
      properties: null,
    }
    const answer = await compare(model, real, asked, { at, do: verb, name, quantity, occurred })
    if (answer?.allowed === true) model.uses.add(name)
  })

/** Corrects a use of any period. */
const correct = (pick: number, change: number): Command =>
  command(`correct(${pick}, ${change})`, async (model, real) => {
    const name = [...model.uses][pick % Math.max(model.uses.size, 1)]
    if (name === undefined) return
    const idempotencyKey = `correct ${model.asked.length}`
    const asked = {
      organizationId: real.facts.organizationId,
      corrects: name,
      quantity: micro(change),
      idempotencyKey,
      properties: null,
    }
    await compare(model, real, { verb: 'correct', ...asked }, { at: model.now, do: 'correct', name, quantity: change })
  })

const reserve = (name: string, quantity: number, hours: number): Command =>
  command(
    `reserve(${name}, ${quantity}, ${hours}h)`,
    async (model, real) => {
      const [at, ttlMs] = [model.now, hours * HOUR_MS]
      const { organizationId } = real.facts
      const idempotencyKey = `reserve ${model.asked.length}`
      const asked = { organizationId, meter: 'search', quantity: micro(quantity), idempotencyKey, properties: null, ttlMs }
      const plain: Asked = { at, do: 'reserve', name, quantity, end: at + ttlMs }
      const answer = await compare(model, real, { verb: 'reserve', ...asked }, plain)
      if (!answer?.reservation) return
      model.holds.add(name)
      real.reservationIds.set(name, answer.reservation.id)
    },
    ({ holds }) => !holds.has(name),
  )

const close = (name: string, verb: 'settle' | 'release', quantity: number | null): Command =>
  command(
    `${verb}(${name}, ${quantity})`,
    async (model, real) => {
      const named = { organizationId: real.facts.organizationId, reservationId: real.reservationIds.get(name)! }
      const settled = { verb: 'settle' as const, ...named, quantity: quantity === null ? null : micro(quantity) }
      const asked = verb === 'settle' ? settled : { verb, ...named }
      await compare(model, real, asked, { at: model.now, do: verb, name, quantity })
    },
    ({ holds }) => holds.has(name),
  )

const wait = (hours: number): Command =>
  command(`wait(${hours}h)`, async (model, { facts }) => {
    model.now += hours * HOUR_MS
    facts.now = model.now
  })

/** Another plan, cycle or standing: upgrade, downgrade, cancel, renew, suspend. */
const change = (name: string, alter: (facts: Facts) => Partial<Facts>): Command =>
  command(name, async (model, { facts, system }) => {
    Object.assign(facts, alter(facts))
    model.now = facts.now
    recordTerms(facts)
    await system.change(facts)
    expectedOf(model, { at: model.now, do: 'terms', terms: plainTermsOf(facts) })
  })

const give = (amount: number | null, priority: number, days: number | null): Command =>
  command(`give(${amount}, priority ${priority}, ${days} days)`, async (model, { facts, system }) => {
    const now = new Date(model.now)
    const name = `gift ${String(model.asked.length).padStart(3, '0')}`
    const expiresAt = days === null ? null : new Date(model.now + days * DAY_MS)
    const template = openedGrant(facts.organizationId, planGrantOf(termsOf(facts), 'credits', now), now)
    const granted = amount === null ? null : BigInt(amount) * TENTH
    const over = { id: name, kind: 'manual', planKey: null, catalogVersion: null, amount: granted, limit: 'hard' } as const
    await system.give(facts, { ...template, ...over, priority, startsAt: now, expiresAt })
    const end = expiresAt?.getTime() ?? Number.MAX_SAFE_INTEGER
    expectedOf(model, { at: model.now, do: 'grant', name, amount, priority, end })
  })

const quantity = fc.integer({ min: 0, max: 45 })
const name = fc.constantFrom('a', 'b', 'c', 'd')
const verb = fc.constantFrom('consume', 'track' as const)
export const commands = [
  fc.tuple(verb, fc.nat(12), quantity).map(([how, key, amount]) => use(how, `k${key}`, amount)),
  fc.tuple(verb, fc.nat(1_000_000), quantity).map(([how, key, amount]) => use(how, `n${key}`, amount)),
  fc
    .tuple(fc.nat(1_000_000), quantity, fc.integer({ min: 1, max: 34 * 24 }))
    .map(([key, amount, hoursAgo]) => use('track', `l${key}`, amount, hoursAgo)),
  fc.tuple(fc.nat(20), fc.integer({ min: -30, max: 10 })).map(([pick, by]) => correct(pick, by)),
  fc.tuple(name, quantity, fc.integer({ min: 1, max: 40 })).map(([hold, amount, hours]) => reserve(hold, amount, hours)),
  fc
    .tuple(name, fc.constantFrom('settle', 'release' as const), fc.option(quantity))
    .map(([hold, how, amount]) => close(hold, how, how === 'settle' ? amount : null)),
  fc.constantFrom(...PLANS.map(({ key }) => key)).map((planKey) => change(`plan(${planKey})`, () => ({ planKey }))),
  fc.integer({ min: 1, max: 40 * 24 }).map(wait),
  // Heard of late, or by a clock that is a little behind.
  fc.integer({ min: -1, max: 48 }).map((hours) =>
    change(`renew(${hours}h)`, ({ now, cycleEnd }) => ({
      now: Math.max(now, cycleEnd + hours * HOUR_MS),
      cycleStart: cycleEnd,
      cycleEnd: cycleEnd + 30 * DAY_MS,
    })),
  ),
  fc.constant(change('anchor now', ({ now }) => ({ cycleStart: now, cycleEnd: now + 30 * DAY_MS }))),
  fc.constant(change('cancel', () => ({ planKey: 'free' }))),
  fc.boolean().map((suspended) => change(`suspended(${suspended})`, () => ({ suspended }))),
  fc
    .tuple(fc.option(quantity, { freq: 9 }), fc.constantFrom(10, 50, 90), fc.option(fc.integer({ min: 1, max: 60 })))
    .map(([amount, priority, days]) => give(amount, priority, days)),
]

export function startOf(organizationId: string, system: System): { model: Model; real: Real } {
  const facts: Facts = {
    organizationId,
    now: START,
    planKey: 'free',
    suspended: false,
    cycleStart: START - 3 * DAY_MS,
    cycleEnd: START + 27 * DAY_MS,
    history: [{ since: new Date(0), planKey: 'free', catalogVersion: 1, catalog, cycle: null, addOns: {} }],
  }
  const first = plainTermsOf(facts)
  // The first period begins with the organization.
  const asked: Asked[] = [{ at: START, do: 'terms', terms: first }]
  return {
    model: { first, asked, uses: new Set(), holds: new Set(), now: START },
    real: { system, facts, reservationIds: new Map() },
  }
}

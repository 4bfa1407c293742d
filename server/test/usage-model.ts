import type { Standing } from '../src/standing/rules.ts'

/**
 * What metering has to do, said as plainly as it can be said: whole numbers, one organization, one balance, no batches, no
 * database. The property tests run it beside the real thing and compare every answer.
 */
export type ModelGrant = {
  readonly id: string
  readonly isPlan: boolean
  amount: number | null
  used: number
  overage: number
  reserved: number
  heldOverage: number
  /** What has moved on into the next period. */
  moved: number
  /** Of the overage: what an earlier plan has priced, and what it cost. */
  priced: number
  cost: number
  readonly priority: number
  readonly startsAt: number
  expiresAt: number
  readonly createdAt: number
}

export type ModelAnswer = {
  readonly allowed: boolean
  readonly code: string | null
  readonly used: number
  readonly overage: number
  readonly reserved: number
  readonly remaining: number | null
  readonly late: boolean
}

export type ModelPlan = {
  readonly key: string
  readonly amount: number | null
  readonly limit: 'hard' | 'soft'
  readonly included: boolean
  readonly rollover?: { readonly max: number; readonly periods: number }
  /** The most that overage may cost, one a credit. */
  readonly spendLimit?: number
}
export type ModelSpan = { readonly id: string; readonly start: number; readonly end: number }

/** When periods begin and end: the one thing that the model does not know by itself (grants/periods.ts has its own tests). */
export type ModelSpans = {
  readonly at: (time: number) => ModelSpan
  readonly before: (span: ModelSpan) => ModelSpan | null
  /** The period of a moment of the past, by the plan of that time. */
  readonly past: (time: number) => ModelSpan & { readonly plan: ModelPlan }
  readonly createdAt: number
}

type Taken = { readonly grant: ModelGrant; amount: number; over: number }
type Hold = {
  holds: Taken[]
  quantity: number
  expiresAt: number
  state: 'open' | 'closed' | 'released'
  answer?: ModelAnswer
  settled?: number
}
type Use = { counted: number; readonly plan: ModelGrant; readonly at: number; readonly taken: Map<ModelGrant, number> }
/** The grants of one period in the order of drawing; the plan's own carries the overage. */
type Book = { readonly plan: ModelGrant; readonly grants: readonly ModelGrant[]; readonly late: boolean }

export class UsageModel {
  now: number
  plan: ModelPlan
  standing: Standing['state'] = 'active'
  readonly grants: ModelGrant[] = []
  readonly holds = new Map<number, Hold>()
  readonly answers = new Map<string, { quantity: number; answer: ModelAnswer }>()
  readonly uses = new Map<string, Use>()
  readonly spans: ModelSpans
  readonly #terms = new Map<ModelGrant, ModelPlan>()

  constructor(now: number, plan: ModelPlan, spans: ModelSpans) {
    this.now = now
    this.plan = plan
    this.spans = spans
  }

  /** The plan's allowance of now: opened when it is not there, with the plan's terms when it is. */
  planGrant(): ModelGrant {
    const span = this.spans.at(this.now)
    const known = this.grants.find((other) => other.id === span.id)
    const grant = known ?? this.#open(span)
    grant.expiresAt = span.end
    for (const other of this.grants)
      if (other.isPlan && other !== grant && other.expiresAt > this.now && other.startsAt <= this.now) other.expiresAt = this.now
    if (!known) this.#moveOn(grant, span)
    const before = this.#terms.get(grant)!
    const taken = grant.used + grant.reserved + grant.moved
    grant.amount = this.plan.amount === null ? null : Math.max(this.plan.amount, taken)
    if (before !== this.plan && before.limit === 'hard') {
      const absorbed = Math.min(grant.amount === null ? Infinity : grant.amount - taken, grant.overage)
      grant.used += absorbed
      grant.overage -= absorbed
    }
    if (before.key !== this.plan.key) {
      grant.cost = costOf(grant, before)
      grant.priced = grant.overage
    }
    this.#terms.set(grant, this.plan)
    return grant
  }

  #open({ id, start, end }: ModelSpan, plan = this.plan): ModelGrant {
    const counters = { used: 0, overage: 0, reserved: 0, heldOverage: 0, moved: 0, priced: 0, cost: 0 }
    const grant = {
      id,
      isPlan: true,
      amount: plan.amount,
      ...counters,
      priority: 50,
      startsAt: start,
      expiresAt: end,
      createdAt: this.now,
    }
    this.grants.push(grant)
    this.#terms.set(grant, plan)
    return grant
  }

  /** What the periods before left over moves on into one that begins. */
  #moveOn(grant: ModelGrant, span: ModelSpan): void {
    const { rollover } = this.plan
    if (!rollover) return
    const [last] = this.grants
      .filter((other) => other.isPlan && other !== grant)
      .toSorted((a, b) => b.expiresAt - a.expiresAt || b.startsAt - a.startsAt)
    const mayHavePassed = last
      ? this.#terms.get(last)!.key === this.plan.key
      : this.plan.key === 'free' && this.standing === 'active'
    const passed: ModelGrant[] = []
    const since = last?.expiresAt ?? this.spans.createdAt
    const earliest = last ? since : -Infinity
    let step = mayHavePassed ? this.spans.before(span) : null
    while (step && passed.length < rollover.periods && step.end > since && step.start >= earliest) {
      passed.unshift(this.#open(step))
      step = this.spans.before(step)
    }
    const follows =
      last && last.startsAt < span.start && (last.expiresAt >= (passed[0] ?? grant).startsAt || last.expiresAt >= this.now)
    for (const from of follows ? [last, ...passed] : passed) {
      let end = from.expiresAt
      for (let period = 0; period < rollover.periods; period += 1) end = this.spans.at(end).end
      const amount = Math.min(free(from), rollover.max)
      const id = `rollover:${from.id}`
      if (amount === 0 || end <= this.now || from.amount === null || this.grants.some((other) => other.id === id)) continue
      from.moved += amount
      const counters = { used: 0, overage: 0, reserved: 0, heldOverage: 0, moved: 0, priced: 0, cost: 0 }
      this.grants.push({
        id,
        isPlan: false,
        amount,
        ...counters,
        priority: 40,
        startsAt: from.expiresAt,
        expiresAt: end,
        createdAt: this.now,
      })
    }
  }

  /** What counts for a plan's allowance at a time; what it left over pays right after it. */
  #bookOf(plan: ModelGrant, at: number): Book {
    const left = this.grants.find(({ id }) => id === `rollover:${plan.id}`)
    const grants = this.grants
      .filter((grant) => grant === plan || (grant !== left && !grant.isPlan && grant.startsAt <= at && at < grant.expiresAt))
      .sort((a, b) => a.priority - b.priority || a.expiresAt - b.expiresAt || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
    if (left) grants.splice(grants.indexOf(plan) + 1, 0, left)
    return { plan, grants, late: plan.id !== this.spans.at(this.now).id }
  }

  book(): Book {
    return this.#bookOf(this.planGrant(), this.now)
  }

  #bookAt(at: number): Book {
    const current = this.book()
    if (at >= this.now) return current
    const span = this.spans.past(at)
    if (span.id === current.plan.id) return current
    return this.#bookOf(this.grants.find(({ id }) => id === span.id) ?? this.#open(span, span.plan), at)
  }

  /** What every request does first: holds whose time is over end, and the period of now has begun. */
  begin(): void {
    this.expireHolds()
    this.planGrant()
  }

  expireHolds(): void {
    for (const hold of this.holds.values()) {
      if (hold.state !== 'open' || hold.expiresAt > this.now) continue
      this.#unhold(hold)
      hold.state = 'closed'
    }
  }

  #unhold(hold: Hold): void {
    for (const { grant, amount, over } of hold.holds) {
      grant.reserved -= amount
      grant.heldOverage -= over
    }
  }

  answer(code: string | null, book = this.book()): ModelAnswer {
    // What was just released may have made the amount of a smaller plan smaller.
    if (!book.late) this.planGrant()
    const sum = (pick: (grant: ModelGrant) => number): number => book.grants.reduce((total, grant) => total + pick(grant), 0)
    const unlimited = book.grants.some((grant) => grant.amount === null)
    const [used, overage, reserved] = [sum((grant) => grant.used), sum((grant) => grant.overage), sum((grant) => grant.reserved)]
    const remaining = unlimited ? null : sum((grant) => grant.amount! - grant.moved) - used - reserved
    return { allowed: code === null, code, used, overage, reserved, remaining, late: book.late }
  }

  refusal(cost: number): string | null {
    if (this.standing === 'suspended') return 'suspended'
    const { plan, grants } = this.book()
    if (!this.plan.included && grants.length === 1) return 'not_included'
    const left = grants.reduce((total, grant) => total + free(grant), 0)
    if (cost <= left) return null
    if (this.plan.limit === 'hard') return 'quota_exceeded'
    return costOf(plan, this.plan, plan.heldOverage + cost - left) > (this.plan.spendLimit ?? Infinity)
      ? 'spend_limit_reached'
      : null
  }

  take(cost: number, field: 'used' | 'reserved', { plan, grants } = this.book()): Taken[] {
    const taken: Taken[] = []
    let left = cost
    for (const grant of grants) {
      const amount = Math.min(left, free(grant))
      if (amount <= 0) continue
      grant[field] += amount
      left -= amount
      taken.push({ grant, amount, over: 0 })
    }
    if (left === 0) return taken
    plan[field === 'used' ? 'overage' : 'heldOverage'] += left
    return [...taken, { grant: plan, amount: 0, over: left }]
  }

  /** Adds to a recorded use, or takes from it: the last grant first, and from each its overage first. */
  correct(key: string, change: number): ModelAnswer | 'invalid' {
    this.begin()
    const use = this.uses.get(key)!
    if (use.counted + change < 0) return 'invalid'
    const book = use.plan.id === this.spans.at(this.now).id ? this.book() : this.#bookOf(use.plan, use.at)
    use.counted += change
    let left = -change
    for (const [grant, amount] of [...use.taken].toReversed()) {
      const back = Math.min(left, amount)
      if (back <= 0) continue
      const over = Math.min(back, grant.overage)
      grant.overage -= over
      grant.used -= back - over
      left -= back
      use.taken.set(grant, amount - back)
    }
    if (change > 0) keepTaken(use.taken, this.take(change, 'used', book))
    return this.answer(null, book)
  }

  use(verb: 'consume' | 'track', key: string, quantity: number, at: number | null = null): ModelAnswer | 'conflict' {
    this.begin()
    const first = this.answers.get(key)
    if (first) return first.quantity === quantity ? first.answer : 'conflict'
    const book = at === null ? this.book() : this.#bookAt(at)
    const code = verb === 'track' ? null : this.refusal(quantity)
    if (code === null) {
      const taken = new Map<ModelGrant, number>()
      keepTaken(taken, this.take(quantity, 'used', book))
      this.uses.set(key, { counted: quantity, plan: book.plan, at: at ?? this.now, taken })
    }
    const answer = this.answer(code, book)
    this.answers.set(key, { quantity, answer })
    return answer
  }

  reserve(name: number, quantity: number, ttl: number): ModelAnswer {
    this.begin()
    const code = this.refusal(quantity)
    if (code === null)
      this.holds.set(name, { holds: this.take(quantity, 'reserved'), quantity, expiresAt: this.now + ttl, state: 'open' })
    return this.answer(code)
  }

  settle(name: number, quantity: number | null): ModelAnswer | 'conflict' | 'closed' {
    this.begin()
    const hold = this.holds.get(name)!
    if (hold.settled !== undefined) return quantity === null || quantity === hold.settled ? hold.answer! : 'conflict'
    if (hold.state === 'released') return 'closed'
    const asked = quantity ?? hold.quantity
    let left = asked
    if (hold.state === 'open') {
      this.#unhold(hold)
      for (const { grant, amount } of hold.holds) {
        const own = Math.min(left, amount)
        grant.used += own
        left -= own
      }
    }
    if (left > 0) this.take(left, 'used')
    Object.assign(hold, { state: 'closed', settled: asked, answer: this.answer(null) })
    return hold.answer!
  }

  release(name: number): ModelAnswer | 'closed' {
    this.begin()
    const hold = this.holds.get(name)!
    if (hold.settled !== undefined) return 'closed'
    if (hold.state === 'open') this.#unhold(hold)
    hold.state = hold.state === 'open' ? 'released' : hold.state
    return this.answer(null)
  }
}

function keepTaken(kept: Map<ModelGrant, number>, taken: readonly Taken[]): void {
  for (const { grant, amount, over } of taken) kept.set(grant, (kept.get(grant) ?? 0) + amount + over)
}

/** What overage costs: one a credit under a soft limit, tenths of a credit to the nearest whole one. */
function costOf(grant: ModelGrant, { limit }: ModelPlan, more = 0): number {
  return grant.cost + (limit === 'soft' ? Math.max(Math.floor((grant.overage - grant.priced + more + 5) / 10), 0) : 0)
}

function free(grant: ModelGrant): number {
  return grant.amount === null ? Infinity : grant.amount - grant.used - grant.reserved - grant.moved
}

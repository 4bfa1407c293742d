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
}

export type ModelPlan = {
  readonly key: string
  readonly amount: number | null
  readonly limit: 'hard' | 'soft'
  readonly included: boolean
}
export type ModelSpan = { readonly id: string; readonly start: number; readonly end: number }

type Hold = {
  holds: [ModelGrant, number][]
  quantity: number
  expiresAt: number
  state: 'open' | 'closed' | 'released'
  answer?: ModelAnswer
  settled?: number
}

export class UsageModel {
  now: number
  plan: ModelPlan
  standing: Standing['state'] = 'active'
  readonly grants: ModelGrant[] = []
  readonly holds = new Map<number, Hold>()
  readonly answers = new Map<string, { quantity: number; answer: ModelAnswer }>()
  /** What each recorded use still counts, and what it still takes from each grant, overage included. */
  readonly uses = new Map<string, { counted: number; plan: ModelGrant; taken: Map<ModelGrant, number> }>()
  readonly spanAt: (model: UsageModel) => ModelSpan

  constructor(now: number, plan: ModelPlan, spanAt: (model: UsageModel) => ModelSpan) {
    this.now = now
    this.plan = plan
    this.spanAt = spanAt
  }

  /** The plan's allowance of now: opened when it is not there, with the plan's terms when it is. */
  planGrant(): ModelGrant {
    const { id, start, end } = this.spanAt(this)
    let grant = this.grants.find((other) => other.id === id)
    if (!grant) {
      grant = {
        id,
        isPlan: true,
        amount: 0,
        used: 0,
        overage: 0,
        reserved: 0,
        priority: 50,
        startsAt: start,
        expiresAt: end,
        createdAt: this.now,
      }
      this.grants.push(grant)
      Object.assign(grant, { amount: this.plan.amount })
      this.#terms.set(grant, this.plan)
    }
    grant.expiresAt = end
    const before = this.#terms.get(grant)!
    const taken = grant.used + grant.reserved
    grant.amount = this.plan.amount === null ? null : Math.max(this.plan.amount, taken)
    if (before !== this.plan && before.limit === 'hard') {
      const absorbed = Math.min(grant.amount === null ? Infinity : grant.amount - taken, grant.overage)
      grant.used += absorbed
      grant.overage -= absorbed
    }
    this.#terms.set(grant, this.plan)
    for (const other of this.grants)
      if (other.isPlan && other !== grant && other.expiresAt > this.now && other.startsAt <= this.now) other.expiresAt = this.now
    return grant
  }

  readonly #terms = new Map<ModelGrant, ModelPlan>()

  /** What counts now, in the order of drawing. */
  active(): ModelGrant[] {
    const own = this.planGrant()
    return this.grants
      .filter((grant) => grant === own || (!grant.isPlan && grant.startsAt <= this.now && this.now < grant.expiresAt))
      .sort((a, b) => a.priority - b.priority || a.expiresAt - b.expiresAt || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
  }

  expireHolds(): void {
    for (const hold of this.holds.values()) {
      if (hold.state !== 'open' || hold.expiresAt > this.now) continue
      for (const [grant, amount] of hold.holds) grant.reserved -= amount
      hold.state = 'closed'
    }
  }

  answer(code: string | null): ModelAnswer {
    const active = this.active()
    const sum = (pick: (grant: ModelGrant) => number): number => active.reduce((total, grant) => total + pick(grant), 0)
    const unlimited = active.some((grant) => grant.amount === null)
    const [used, overage, reserved] = [sum((grant) => grant.used), sum((grant) => grant.overage), sum((grant) => grant.reserved)]
    const remaining = unlimited ? null : sum((grant) => grant.amount!) - used - reserved
    return { allowed: code === null, code, used, overage, reserved, remaining }
  }

  refusal(cost: number): string | null {
    if (this.standing === 'suspended') return 'suspended'
    const active = this.active()
    if (!this.plan.included && active.length === 1) return 'not_included'
    const left = active.reduce((total, grant) => total + free(grant), 0)
    return cost <= left || this.plan.limit === 'soft' ? null : 'quota_exceeded'
  }

  take(cost: number, field: 'used' | 'reserved'): [ModelGrant, number][] {
    const taken: [ModelGrant, number][] = []
    let left = cost
    for (const grant of this.active()) {
      const amount = Math.min(left, free(grant))
      if (amount <= 0) continue
      grant[field] += amount
      left -= amount
      taken.push([grant, amount])
    }
    if (field === 'reserved' || left === 0) return taken
    const plan = this.planGrant()
    plan.overage += left
    const own = taken.find(([grant]) => grant === plan)
    if (own) own[1] += left
    else taken.push([plan, left])
    return taken
  }

  /** Adds to a recorded use, or takes from it: the last grant first, and from each its overage first. */
  correct(key: string, change: number): ModelAnswer | 'invalid' {
    this.expireHolds()
    const use = this.uses.get(key)!
    if (use.counted + change < 0) return 'invalid'
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
    if (change > 0)
      for (const [grant, amount] of this.take(change, 'used')) use.taken.set(grant, (use.taken.get(grant) ?? 0) + amount)
    return this.answer(null)
  }

  use(verb: 'consume' | 'track', key: string, quantity: number): ModelAnswer | 'conflict' {
    this.expireHolds()
    const first = this.answers.get(key)
    if (first) return first.quantity === quantity ? first.answer : 'conflict'
    const code = verb === 'track' ? null : this.refusal(quantity)
    if (code === null)
      this.uses.set(key, { counted: quantity, plan: this.planGrant(), taken: new Map(this.take(quantity, 'used')) })
    const answer = this.answer(code)
    this.answers.set(key, { quantity, answer })
    return answer
  }

  reserve(name: number, quantity: number, ttl: number): ModelAnswer {
    this.expireHolds()
    const code = this.refusal(quantity)
    if (code === null)
      this.holds.set(name, { holds: this.take(quantity, 'reserved'), quantity, expiresAt: this.now + ttl, state: 'open' })
    return this.answer(code)
  }

  settle(name: number, quantity: number | null): ModelAnswer | 'conflict' | 'closed' {
    this.expireHolds()
    const hold = this.holds.get(name)!
    if (hold.settled !== undefined) return quantity === null || quantity === hold.settled ? hold.answer! : 'conflict'
    if (hold.state === 'released') return 'closed'
    const asked = quantity ?? hold.quantity
    let left = asked
    if (hold.state === 'open') {
      for (const [grant, amount] of hold.holds) {
        const own = Math.min(left, amount)
        grant.reserved -= amount
        grant.used += own
        left -= own
      }
    }
    if (left > 0) this.take(left, 'used')
    Object.assign(hold, { state: 'closed', settled: asked, answer: this.answer(null) })
    return hold.answer!
  }

  release(name: number): ModelAnswer | 'closed' {
    this.expireHolds()
    const hold = this.holds.get(name)!
    if (hold.settled !== undefined) return 'closed'
    if (hold.state === 'open') for (const [grant, amount] of hold.holds) grant.reserved -= amount
    hold.state = hold.state === 'open' ? 'released' : hold.state
    return this.answer(null)
  }
}

function free(grant: ModelGrant): number {
  return grant.amount === null ? Infinity : grant.amount - grant.used - grant.reserved
}

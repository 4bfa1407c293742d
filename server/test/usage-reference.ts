// What metering has to do, said as plainly as it can be said: one organization, one balance, whole numbers, times in ms. All that was asked
// is a list, and each answer is worked out anew from all of it. It shares no code with the product.

type Span = { readonly start: number; readonly end: number }
export type Plan = {
  readonly key: string
  /** null is unlimited; without one, nothing is included. */
  readonly amount?: number | null
  readonly monthly: 'calendar' | 'cycle'
  /** Without one, use beyond the amount is refused; with one, it costs one for ten, and no more than that. */
  readonly spendLimit?: number
  readonly rollover?: { readonly max: number; readonly periods: number }
}
export type Terms = { readonly plan: Plan; readonly cycle: Span | null; readonly suspended: boolean }
export type Asked = { readonly at: number } & (
  | { readonly do: 'terms'; readonly terms: Terms }
  | {
      readonly do: 'grant'
      readonly name: string
      readonly amount: number | null
      readonly priority: number
      readonly end: number
    }
  | { readonly do: 'consume' | 'track'; readonly name: string; readonly quantity: number; readonly occurred: number }
  | { readonly do: 'reserve'; readonly name: string; readonly quantity: number; readonly end: number }
  | { readonly do: 'settle' | 'release' | 'correct'; readonly name: string; readonly quantity: number | null }
)
type Sums = { readonly used: number; readonly overage: number; readonly reserved: number; readonly remaining: number | null }
export type Answer = (Sums & { readonly code: string | null; readonly late: boolean }) | { readonly error: string }

const NOTHING = { used: 0, elsewhere: 0, overage: 0, reserved: 0, held: 0, moved: 0, priced: 0, cost: 0 }
type Grant = {
  name: string
  plan: Plan | null
  amount: number | null
  priority: number
  start: number
  end: number
  made: number
} & typeof NOTHING
type Taken = { readonly grant: Grant; amount: number; over: number }
type Hold = {
  readonly taken: Taken[]
  readonly quantity: number
  readonly end: number
  state: string
  settled?: number
  answer?: Answer
}
type Use = { readonly plan: Grant; readonly at: number; taken: Taken[]; counted: number }

const free = (grant: Grant): number =>
  grant.amount === null ? Infinity : grant.amount - grant.used - grant.reserved - grant.moved
const sum = (grants: readonly Grant[], of: (grant: Grant) => number): number =>
  grants.reduce((total, each) => total + of(each), 0)
const costOf = (grant: Grant, plan: Plan, more = 0): number =>
  grant.cost + (plan.spendLimit === undefined ? 0 : Math.max(Math.floor((grant.overage - grant.priced + more + 5) / 10), 0))

/** What was taken, and more of it: each grant once, where it was first drawn from. */
function merged(taken: readonly Taken[], more: readonly Taken[]): Taken[] {
  const all = taken.map((part) => {
    const added = more.find(({ grant }) => grant === part.grant)
    return { ...part, amount: part.amount + (added?.amount ?? 0), over: part.over + (added?.over ?? 0) }
  })
  return [...all, ...more.filter(({ grant }) => !taken.some((part) => part.grant === grant))]
}

/** Months on: the same day, or the last one of a shorter month. */
function addMonths(time: number, months: number): number {
  const to = new Date(time)
  to.setUTCMonth(to.getUTCMonth() + months)
  return to.getUTCDate() === new Date(time).getUTCDate() ? to.getTime() : to.setUTCDate(0)
}

/** The period that holds a time: a calendar month; or the cycle that is known, and months from its end on. */
function periodAt({ plan, cycle }: Terms, time: number): Span {
  const [year, month] = [new Date(time).getUTCFullYear(), new Date(time).getUTCMonth()]
  if (plan.monthly === 'calendar' || !cycle) return { start: Date.UTC(year, month), end: Date.UTC(year, month + 1) }
  let months = 0
  while (addMonths(cycle.end, months) <= time) months += 1
  return months === 0 ? cycle : { start: addMonths(cycle.end, months - 1), end: addMonths(cycle.end, months) }
}

/** What the last of what was asked is answered. */
export function answerTo(first: Terms, asked: readonly Asked[]): Answer {
  const history = [{ since: -Infinity, terms: first }]
  const grants: Grant[] = []
  const holds = new Map<string, Hold>()
  const uses = new Map<string, Use>()
  const answers = new Map<string, { readonly quantity: number; readonly answer: Answer }>()
  let now = 0

  const named = (name: string): Grant | undefined => grants.find((grant) => grant.name === name)
  const nameOf = ({ plan }: Terms, { start }: Span): string => `plan ${plan.monthly} ${start}`

  function open({ plan }: Terms, span: Span, name: string): Grant {
    const amount = plan.amount === undefined ? 0 : plan.amount
    grants.push({ ...NOTHING, name, plan, amount, priority: 50, ...span, made: now })
    return grants.at(-1)!
  }

  /** What a period left over moves on into the one that begins. */
  function moveOn(from: Grant | undefined, terms: Terms, into: Span): void {
    const { rollover } = terms.plan
    if (!rollover || !from || from.amount === null || from.start >= into.start || from.end < Math.min(into.start, now)) return
    const amount = Math.min(free(from), rollover.max)
    let { end } = from
    for (let period = 0; period < rollover.periods; period += 1) end = periodAt(terms, end).end
    if (amount <= 0 || end <= now || named(`rollover ${from.name}`)) return
    from.moved += amount
    grants.push({ ...NOTHING, name: `rollover ${from.name}`, plan: null, amount, priority: 40, start: from.end, end, made: now })
  }

  /** The plan's allowance of now: opened with those that passed unasked, or given the plan's present terms. */
  function stand(): Grant {
    const { terms } = history.at(-1)!
    const spans = [periodAt(terms, now)]
    const name = nameOf(terms, spans[0]!)
    for (const other of grants) if (other.plan && other.name !== name && other.start <= now && now < other.end) other.end = now
    const last = grants
      .filter(({ plan }) => plan)
      .toSorted((a, b) => a.end - b.end || a.start - b.start)
      .at(-1)
    if (!named(name)) {
      const most = last?.plan === terms.plan ? (terms.plan.rollover?.periods ?? 0) : 0
      for (let span = spans[0]!; spans.length <= most; spans.unshift(span)) {
        span = periodAt(terms, spans[0]!.start - 1)
        if (span.start < last!.end || span.start >= spans[0]!.start) break
      }
      let from = last
      for (const span of spans) {
        const opened = open(terms, span, nameOf(terms, span))
        moveOn(from, terms, span)
        from = opened
      }
    }
    const grant = named(name)!
    const { plan, taken } = { plan: grant.plan!, taken: grant.used + grant.reserved + grant.moved }
    grant.end = periodAt(terms, now).end
    grant.amount = terms.plan.amount === null ? null : Math.max(terms.plan.amount ?? 0, taken)
    if (plan === terms.plan) return grant
    const absorbed =
      plan.spendLimit === undefined ? Math.min(grant.amount === null ? Infinity : grant.amount - taken, grant.overage) : 0
    Object.assign(grant, { used: grant.used + absorbed, overage: grant.overage - absorbed, plan: terms.plan })
    return Object.assign(grant, { cost: costOf(grant, plan), priced: grant.overage })
  }

  /** Terms count from when they are heard of, a cycle from when it says that it began. */
  function begin(terms: Terms): void {
    const last = history.at(-1)!
    const { plan, cycle } = last.terms
    const isSame = plan === terms.plan && cycle?.start === terms.cycle?.start && cycle?.end === terms.cycle?.end
    const isBegun = terms.cycle !== null && terms.cycle.start < now && (cycle === null || cycle.start < terms.cycle.start)
    const since = isBegun ? Math.max(last.since, terms.cycle.start) : now
    history.splice(isSame ? -1 : Infinity, 1, { since: isSame ? last.since : since, terms })
  }

  /** The allowance that a moment belonged to, by the terms of that time. */
  function allowanceOf(at: number): Grant {
    if (at >= now) return stand()
    const index = history.findLastIndex(({ since }) => since <= at)
    const { terms } = history[index]!
    const span = periodAt(terms, at)
    const end = Math.min(span.end, history[index + 1]?.since ?? Infinity)
    return named(nameOf(terms, span)) ?? open(terms, { ...span, end }, nameOf(terms, span))
  }

  /** The grants that pay at a time, in their order; what the allowance left over pays right after it. */
  function payersOf(plan: Grant, at: number): Grant[] {
    const left = named(`rollover ${plan.name}`)
    const payers = grants.filter(
      (grant) => grant === plan || (grant !== left && !grant.plan && grant.start <= at && at < grant.end),
    )
    payers.sort((a, b) => a.priority - b.priority || a.end - b.end || a.made - b.made || (a.name < b.name ? -1 : 1))
    return left ? payers.toSpliced(payers.indexOf(plan) + 1, 0, left) : payers
  }

  function take(
    quantity: number,
    plan: Grant,
    at: number,
    [field, beyond]: readonly ['used', 'overage'] | readonly ['reserved', 'held'],
  ): Taken[] {
    let left = quantity
    const taken: Taken[] = []
    for (const grant of payersOf(plan, at)) {
      const amount = Math.min(left, free(grant))
      if (amount <= 0) continue
      grant[field] += amount
      if (field === 'used' && !grant.plan) plan.elsewhere += amount
      left -= amount
      taken.push({ grant, amount, over: 0 })
    }
    plan[beyond] += left
    return merged(taken, left > 0 ? [{ grant: plan, amount: 0, over: left }] : [])
  }

  function unhold(hold: Hold, state: string): void {
    for (const { grant, amount, over } of hold.state === 'open' ? hold.taken : []) {
      grant.reserved -= amount
      grant.held -= over
    }
    hold.state = state
  }

  function refusalOf(quantity: number): string | null {
    const { plan, suspended } = history.at(-1)!.terms
    const [allowance, payers] = [stand(), payersOf(stand(), now)]
    const beyond = quantity - sum(payers, free)
    if (suspended) return 'suspended'
    if (plan.amount === undefined && payers.length === 1) return 'not_included'
    if (beyond <= 0) return null
    if (plan.spendLimit === undefined) return 'quota_exceeded'
    return costOf(allowance, plan, allowance.held + beyond) > plan.spendLimit ? 'spend_limit_reached' : null
  }

  function answer(code: string | null, plan = stand(), at = now): Answer {
    const payers = payersOf(plan, at)
    const reserved = sum(payers, (grant) => grant.reserved)
    const remaining = payers.some((grant) => grant.amount === null) ? null : sum(payers, free)
    return { code, used: plan.used + plan.elsewhere, overage: plan.overage, reserved, remaining, late: plan !== stand() }
  }

  const asUse = ['used', 'overage'] as const

  function decide(request: Asked): Answer {
    now = request.at
    if (request.do === 'grant') {
      grants.push({ ...NOTHING, ...request, plan: null, start: now, made: now })
      return { error: 'none' }
    }
    for (const hold of holds.values()) if (hold.state === 'open' && hold.end <= now) unhold(hold, 'over')
    if (request.do === 'terms') begin(request.terms)
    stand()
    switch (request.do) {
      case 'terms':
        return answer(null)
      case 'consume':
      case 'track': {
        const { quantity, name } = request
        const known = answers.get(name)
        if (known) return known.quantity === quantity ? known.answer : { error: 'conflict' }
        const plan = allowanceOf(request.occurred)
        const at = plan === stand() ? now : request.occurred
        const code = request.do === 'track' ? null : refusalOf(quantity)
        if (code === null)
          uses.set(name, { plan, at: request.occurred, counted: quantity, taken: take(quantity, plan, at, asUse) })
        answers.set(name, { quantity, answer: answer(code, plan, at) })
        return answers.get(name)!.answer
      }
      case 'reserve': {
        const { name, quantity, end } = request
        const code = refusalOf(quantity)
        if (code === null)
          holds.set(name, { taken: take(quantity, stand(), now, ['reserved', 'held']), quantity, end, state: 'open' })
        return answer(code)
      }
      case 'settle': {
        const hold = holds.get(request.name)!
        const { settled } = hold
        const quantity = request.quantity ?? hold.quantity
        if (settled !== undefined) return request.quantity === null || quantity === settled ? hold.answer! : { error: 'conflict' }
        if (hold.state === 'released') return { error: 'closed' }
        const isOpen = hold.state === 'open'
        unhold(hold, 'settled')
        let left = quantity
        for (const { grant, amount } of isOpen ? hold.taken : []) {
          const used = Math.min(left, amount)
          grant.used += used
          if (!grant.plan) stand().elsewhere += used
          left -= used
        }
        take(left, stand(), now, asUse)
        return Object.assign(hold, { settled: quantity, answer: answer(null) }).answer
      }
      case 'release': {
        const hold = holds.get(request.name)!
        if (hold.settled !== undefined) return { error: 'closed' }
        if (hold.state === 'open') unhold(hold, 'released')
        return answer(null)
      }
      case 'correct': {
        const use = uses.get(request.name)!
        const { plan, at, taken } = use
        const change = request.quantity!
        if (use.counted + change < 0) return { error: 'invalid' }
        use.counted += change
        let left = Math.max(-change, 0)
        for (const part of taken.toReversed()) {
          const back = Math.min(left, part.amount + part.over)
          const over = Math.min(back, part.grant.overage)
          part.grant.overage -= over
          part.grant.used -= back - over
          if (!part.grant.plan) plan.elsewhere -= back - over
          left -= back
          Object.assign(part, { amount: part.amount + part.over - back, over: 0 })
        }
        const when = plan === stand() ? now : at
        use.taken = merged(taken, take(Math.max(change, 0), plan, when, asUse))
        return answer(null, plan, when)
      }
    }
  }
  return asked.map(decide).at(-1)!
}

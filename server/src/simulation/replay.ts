import type { Allowance } from '../catalog/catalog.ts'
import { DEFAULT_PRIORITY } from '../grants/rules.ts'
import { DAY_MS } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'

/** What was drawn from a balance by one meter on one day, `YYYY-MM-DD`. */
export type Drawn = { readonly meter: string; readonly day: string; readonly quantity: Quantity }

/** Something beside the plan that may be used up, from a day inclusive to a day exclusive. */
export type Pool = {
  /** null is unlimited. */
  readonly amount: Quantity | null
  /** Lower is drawn first. */
  readonly priority: number
  /** null is every meter of the balance. */
  readonly meters: readonly string[] | null
  readonly from: string
  /** null is without end. */
  readonly until: string | null
}

export type Terms = Pick<Allowance, 'amount' | 'period' | 'rollover'>

const NAME_LENGTH: Readonly<Record<Allowance['period'], number>> = {
  day: 'YYYY-MM-DD'.length,
  calendar_month: 'YYYY-MM'.length,
  // A cycle is taken for the calendar's month: when each customer's begins does not change what a month's use costs on average.
  billing_cycle: 'YYYY-MM'.length,
  year: 'YYYY'.length,
  lifetime: 0,
}

/** After every day of a period, before every day of the next, in the order of texts. */
const endOf = (period: string): string => `${period}~`

/**
 * What of each period's use goes beyond the plan's allowance, what it left over from before, and the pools: drawn in the order
 * of priority and end, as grants are. The months begin with nothing left over. Pure.
 * @param months every month replayed, `YYYY-MM`
 */
export function beyondByPeriod(
  { amount, period, rollover }: Terms,
  months: readonly string[],
  drawn: readonly Drawn[],
  given: readonly Pool[],
): Quantity[] {
  const lines = given.map(lineOf)
  const byPeriod = Map.groupBy(
    drawn.toSorted((a, b) => (a.day < b.day ? -1 : 1)),
    ({ day }) => day.slice(0, NAME_LENGTH[period]),
  )
  const names = rollover === null ? [...byPeriod.keys()] : periodsOf(period, months)
  return names.map((name, index) => {
    const plan = lineOf({ amount, priority: DEFAULT_PRIORITY.plan, meters: null, from: name, until: endOf(name) })
    const beyond = drawPeriod(byPeriod.get(name) ?? [], plan, lines)
    if (rollover !== null && plan.left !== null && plan.left > 0n) {
      const left = rollover.max === null || plan.left < rollover.max ? plan.left : rollover.max
      const last = names[index + rollover.periods]
      const until = last === undefined ? null : endOf(last)
      lines.push(lineOf({ amount: left, priority: DEFAULT_PRIORITY.rollover, meters: null, from: endOf(name), until }))
    }
    return beyond
  })
}

type Line = Pool & { left: Quantity | null }

const lineOf = (pool: Pool): Line => ({ ...pool, left: pool.amount })

function drawPeriod(uses: readonly Drawn[], plan: Line, others: readonly Line[]): Quantity {
  const order = [plan, ...others].sort((a, b) => a.priority - b.priority || compareEnds(a.until, b.until))
  let beyond = 0n
  for (const { meter, day, quantity } of uses) {
    let open = quantity
    if (open < 0n) {
      // A correction: first what went beyond is less, then the plan has more left.
      const back = -open < beyond ? -open : beyond
      beyond -= back
      if (plan.left !== null) plan.left -= open + back
      continue
    }
    for (const line of order) {
      if (open === 0n) break
      if (line.from > day || (line.until !== null && line.until <= day)) continue
      if (line.meters !== null && !line.meters.includes(meter)) continue
      const taken = line.left === null || line.left > open ? open : line.left
      open -= taken
      if (line.left !== null) line.left -= taken
    }
    beyond += open
  }
  return beyond
}

function compareEnds(a: string | null, b: string | null): number {
  if (a === b) return 0
  if (a === null) return 1
  return b === null || a < b ? -1 : 1
}

function periodsOf(period: Allowance['period'], months: readonly string[]): string[] {
  if (period === 'day') return months.flatMap(daysOf)
  return [...new Set(months.map((month) => month.slice(0, NAME_LENGTH[period])))]
}

function daysOf(month: string): string[] {
  const days: string[] = []
  for (let day = `${month}-01`; day.startsWith(month); day = addDays(day, 1)) days.push(day)
  return days
}

/** The day so many days after another. */
export function addDays(day: string, days: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS).toISOString().slice(0, 'YYYY-MM-DD'.length)
}

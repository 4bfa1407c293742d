// What a customer is invoiced, worked out from what Stripe documents, as plainly as it can be said: one plan and one add-on, by the month or the year,
// use by the month beside them, one code, one tax on top. Times are Unix seconds, amounts minor units. It shares no code with the product or the sandbox.

export type Interval = 'monthly' | 'yearly'
/** For so many months; null is forever. */
export type Code = { readonly percent?: number; readonly amount?: number; readonly months: number | null; readonly once?: true }
export type Meter = 'calls' | 'tokens' | 'reports'
export type Invoice = { readonly at: number; readonly subtotal: number; readonly total: number; readonly due: number }

export const REFERENCE_PRICES = { plan: { monthly: 1000, yearly: 10_010 }, storage: { monthly: 330, yearly: 3330 } } as const

type Sold = keyof typeof REFERENCE_PRICES
const SOLD: readonly Sold[] = ['plan', 'storage']
const INCLUDED: Readonly<Record<Meter, number>> = { calls: 100, tokens: 50, reports: 20 }

/** The same as a catalog: calls are included by the month of the subscription, tokens by that of the calendar, reports by the year. */
export const REFERENCE_CATALOG = {
  meters: { calls: {}, tokens: {}, reports: {} },
  plans: {
    free: { name: 'Free', allowances: {} },
    basic: {
      name: 'Basic',
      prices: { monthly: { amountMinor: 1000 }, yearly: { amountMinor: 10_010 } },
      allowances: {
        calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '0.7' } },
        tokens: { amount: 50, period: 'calendar_month', limit: 'soft', overage: { model: 'package', size: 10, amountMinor: 10 } },
        reports: { amount: 20, period: 'year', limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 30 } },
      },
    },
  },
  addOns: {
    storage: { name: 'Storage', prices: { monthly: { amountMinor: 330 }, yearly: { amountMinor: 3330 } }, maxQuantity: 9 },
  },
  defaultPlan: 'free',
} as const

/** Calls 0.7 each, reports 30 each, tokens ten for 10: lines in the order of their names, of which the last has what an amount off leaves over. */
const costsOf = (over: Readonly<Record<Meter, number>>): number[] => [
  Math.floor((over.calls * 7 + 5) / 10),
  over.reports * 30,
  Math.ceil(over.tokens / 10) * 10,
]

/** Less than this Stripe charges with a later invoice. */
const SMALLEST_CHARGE = 50

type Span = { readonly start: number; readonly end: number }
type Line = { readonly amount: number; readonly sold?: Sold; readonly period?: Span; readonly discountable: boolean }
type Wanted = { readonly interval: Interval; readonly seats: number }

/** A subscription and all that it was invoiced. */
export type Books = {
  readonly quantities: Record<Sold, number>
  readonly debits: Record<Sold, (Span & { readonly net: number })[]>
  readonly uses: { readonly at: number; readonly meter: Meter; readonly quantity: number }[]
  readonly invoices: Invoice[]
  /** From when on periods are counted from where. */
  readonly anchors: { readonly since: number; readonly anchor: number }[]
  readonly code: Code | null
  readonly codeEnds: number
  isCodeUsed: boolean
  interval: Interval
  planEnds: number
  monthBegan: number
  pending: number[]
  scheduled: Wanted | null
  cancelAt: number | null
  hasEnded: boolean
  taxBasisPoints: number
  balance: number
}

/** Months on: the same day and time, or the last day of a shorter month. */
function addMonths(at: number, months: number): number {
  const to = new Date(at * 1000)
  const day = to.getUTCDate()
  to.setUTCMonth(to.getUTCMonth() + months)
  return (to.getUTCDate() === day ? to.getTime() : to.setUTCDate(0)) / 1000
}

/** The period that holds a time, at or after its anchor. */
function periodAt(anchor: number, interval: Interval, at: number): Span {
  const length = interval === 'yearly' ? 12 : 1
  let count = 0
  while (addMonths(anchor, (count + 1) * length) <= at) count += 1
  return { start: addMonths(anchor, count * length), end: addMonths(anchor, (count + 1) * length) }
}

const anchorAt = ({ anchors }: Books, at: number): number => anchors.findLast(({ since }) => since <= at)!.anchor
const total = (amounts: readonly number[]): number => amounts.reduce((sum, amount) => sum + amount, 0)
/** To the nearest whole one, a half away from nothing. */
const rounded = (value: number): number => Math.sign(value) * Math.floor(Math.abs(value) + 0.5)
/** A part of an amount by time, to the nearest whole one, a half down. */
function partOf(amount: number, time: number, of: number): number {
  const [twice, unit] = [2n * BigInt(amount) * BigInt(time) - BigInt(of), 2n * BigInt(of)]
  const quotient = twice / unit
  return Number(twice > 0n && twice % unit !== 0n ? quotient + 1n : quotient)
}

/** What the code takes off each line: a percentage of each, or an amount in proportion, of which the last has what is left over. */
function takenOff({ code, codeEnds, isCodeUsed }: Books, lines: readonly Line[], at: number): number[] {
  const amounts = lines.map(({ amount, discountable }) => (discountable ? amount : 0))
  if (code === null || isCodeUsed || codeEnds <= at) return amounts.map(() => 0)
  if (code.percent !== undefined) {
    const basisPoints = Math.round(code.percent * 100)
    return amounts.map((amount) => Math.floor((amount * basisPoints * 2 + 10_000) / 20_000))
  }
  const all = total(amounts)
  const off = Math.min(code.amount ?? 0, all)
  const shares = amounts.map((amount) => (all === 0 ? 0 : Math.floor((off * amount) / all)))
  for (let index = shares.length - 1; index >= 0; index -= 1) {
    shares[index] = shares[index]! + Math.min(off - total(shares), amounts[index]! - shares[index]!)
  }
  return shares
}

/** Plan and add-on for a whole period each. */
function soldLines({ quantities, interval }: Books, period: Span): Line[] {
  return SOLD.filter((sold) => quantities[sold] > 0).map((sold) => {
    return { sold, amount: REFERENCE_PRICES[sold][interval] * quantities[sold], period, discountable: true }
  })
}

/** What is pending and what is added, less the code, with tax on each line; the balance pays. */
function invoice(books: Books, at: number, added: readonly Line[]): void {
  const lines: Line[] = [...books.pending.map((amount) => ({ amount, discountable: false })), ...added]
  books.pending = []
  if (lines.length === 0) return
  const off = takenOff(books, lines, at)
  const nets = lines.map(({ amount }, index) => amount - off[index]!)
  for (const [index, { sold, period }] of lines.entries()) {
    if (sold !== undefined && period !== undefined) books.debits[sold].push({ net: nets[index]!, ...period })
  }
  const sum = total(nets) + total(nets.map((net) => rounded((net * books.taxBasisPoints) / 10_000)))
  const owed = sum + books.balance
  const due = owed < SMALLEST_CHARGE ? 0 : owed
  books.balance = due > 0 ? 0 : owed
  books.invoices.push({ at, subtotal: total(lines.map(({ amount }) => amount)), total: sum, due })
  if (books.code?.once === true) books.isCodeUsed = true
}

export function subscribed(at: number, { interval, seats }: Wanted, code: Code | null): Books {
  const books: Books = {
    quantities: { plan: seats, storage: 0 },
    debits: { plan: [], storage: [] },
    uses: [],
    invoices: [],
    anchors: [{ since: 0, anchor: at }],
    code,
    codeEnds: code?.months == null ? Infinity : addMonths(at, code.months),
    isCodeUsed: false,
    interval,
    planEnds: periodAt(at, interval, at).end,
    monthBegan: at,
    pending: [],
    scheduled: null,
    cancelAt: null,
    hasEnded: false,
    taxBasisPoints: 0,
    balance: 0,
  }
  invoice(books, at, soldLines(books, periodAt(at, interval, at)))
  return books
}

/** Credits what was debited for the time that is left, and debits that time anew. */
function prorate(books: Books, at: number, changed: readonly Sold[]): void {
  for (const sold of changed) {
    const running = books.debits[sold].filter(({ end }) => end > at)
    const credits = running.map(({ net, start, end }) => partOf(-net, end - Math.max(at, start), end - start))
    books.pending.push(...credits.filter((credit) => credit !== 0))
    books.debits[sold] = running.flatMap(({ net, start }, index) =>
      start < at ? [{ net: net + credits[index]!, start, end: at }] : [],
    )
  }
  const period = periodAt(anchorAt(books, at), books.interval, at)
  books.planEnds = period.end
  const lines = soldLines(books, period)
  const off = takenOff(books, lines, at)
  for (const [index, { sold, amount }] of lines.entries()) {
    if (sold === undefined || !changed.includes(sold)) continue
    const net = partOf(amount - off[index]!, period.end - at, period.end - period.start)
    books.pending.push(net)
    books.debits[sold].push({ net, start: at, end: period.end })
  }
}

/** More, or another interval, is invoiced at once; what less leaves waits for the next invoice. */
export function switchNow(books: Books, at: number, { interval, seats }: Wanted): void {
  const isOther = interval !== books.interval
  const isPaidNow = isOther || seats > books.quantities.plan
  books.interval = interval
  books.quantities.plan = seats
  books.scheduled = null
  books.cancelAt = null
  prorate(books, at, isOther ? SOLD : ['plan'])
  if (isPaidNow) invoice(books, at, [])
}

export function takeStorage(books: Books, at: number, quantity: number): void {
  const isMore = quantity > books.quantities.storage
  books.quantities.storage = quantity
  prorate(books, at, ['storage'])
  if (isMore) invoice(books, at, [])
}

/** Of each meter's allowance, by the period in which it counts; what goes beyond it in a span of time. */
function useOf(books: Books, { start, end }: Span): Line[] {
  const over = { calls: 0, tokens: 0, reports: 0 }
  const used = new Map<string, number>()
  for (const { at, meter, quantity } of books.uses) {
    const [year, month] = [new Date(at * 1000).getUTCFullYear(), new Date(at * 1000).getUTCMonth()]
    const names = { calls: periodAt(anchorAt(books, at), 'monthly', at).start, tokens: year * 12 + month, reports: year }
    const name = `${meter} ${names[meter]}`
    const before = used.get(name) ?? 0
    used.set(name, before + quantity)
    if (at >= start && at < end) over[meter] += Math.max(0, before + quantity - Math.max(INCLUDED[meter], before))
  }
  return costsOf(over).map((amount) => ({ amount, discountable: true }))
}

/** Until a time: at the end of each month its use is invoiced, and with the last month of a period the next one. */
export function advanceTo(books: Books, to: number): void {
  for (;;) {
    const at = periodAt(anchorAt(books, books.monthBegan), 'monthly', books.monthBegan).end
    if (books.hasEnded || at > to) return
    const use = useOf(books, { start: books.monthBegan, end: at })
    if (books.cancelAt !== null && books.cancelAt <= at) {
      const used = use.filter(({ amount }) => amount > 0)
      invoice(books, at, used)
      books.hasEnded = true
      return
    }
    const renews = books.planEnds <= at
    const beginsAnew = renews && beginScheduled(books, at)
    const period = periodAt(anchorAt(books, at), books.interval, at)
    if (renews) books.planEnds = period.end
    const sold = renews ? soldLines(books, period) : []
    // Where periods begin anew, what was used in the one before is settled first.
    invoice(books, at, beginsAnew ? [...use, ...sold] : [...sold, ...use])
    books.monthBegan = at
  }
}

/** Answers whether periods begin anew: those of another interval are counted from there. */
function beginScheduled(books: Books, at: number): boolean {
  if (books.scheduled === null) return false
  const { interval, seats } = books.scheduled
  const isOther = interval !== books.interval
  if (isOther) books.anchors.push({ since: at, anchor: at })
  books.interval = interval
  books.quantities.plan = seats
  books.scheduled = null
  return isOther
}

/** What the next invoice comes to by now, the balance taken off; 0 when none comes. */
export function nextOf(books: Books): number {
  const ahead = structuredClone(books)
  const at = periodAt(anchorAt(ahead, ahead.monthBegan), 'monthly', ahead.monthBegan).end
  advanceTo(ahead, at)
  const next = ahead.invoices.at(-1)!
  return next.at === at && ahead.invoices.length > books.invoices.length ? Math.max(0, next.total + books.balance) : 0
}

/** What it brings in a month, in minor units. */
export function monthlyRevenueOf({ quantities, interval, code, codeEnds }: Books, at: number): number {
  const months = interval === 'yearly' ? 12 : 1
  const all = total(SOLD.map((sold) => REFERENCE_PRICES[sold][interval] * quantities[sold])) / months
  if (code === null || code.once === true || codeEnds <= at) return all
  return code.percent === undefined ? Math.max(0, all - (code.amount ?? 0) / months) : all * (1 - code.percent / 100)
}

import type { BalanceBook, GrantLine } from '../../grants/book.ts'
import type { Draw } from '../../grants/rules.ts'
import type { Instant } from '../../lib/clock.ts'
import type { Quantity } from '../../lib/quantity.ts'
import { mergeDraws } from './draws.ts'
import { displacedBy, drawnIn, least, sharesOf, type ChangedLine, type Sides, type ToldShares } from './told-late.ts'

/** What is kept of a line that a change ended, for one of the allowances that it billed. */
export type KnownLateUse = ChangedLine & { readonly lineId: string; readonly grantId: string; readonly startsAt: Instant }

/** What of it a decision changes; `told` and `counted` are differences. */
export type LateChange = KnownLateUse & { readonly counted: Quantity; readonly at: Instant }

const NOTHING: ToldShares = { counted: [], passed: { plan: 0n, others: 0n } }

type ToldChange = {
  /** What lines that have ended bill more, or below zero less. */
  readonly counted: Quantity
  /** How much more of it was included by them, and so lies before what was used since. */
  readonly passed: Sides
}

/** What is told late of lines that changes have ended, of one organization while one decision changes it. */
export class LateBook {
  readonly #known = new Map<string, KnownLateUse[]>()
  readonly #before = new Map<string, ToldShares>()
  readonly #read = new Map<string, readonly KnownLateUse[]>()

  /** @param known in the order of their lines */
  constructor(known: readonly KnownLateUse[]) {
    for (const [grantId, lines] of Map.groupBy(known, (line) => line.grantId)) this.#keep(grantId, lines)
  }

  #keep(grantId: string, lines: readonly KnownLateUse[]): void {
    this.#known.set(grantId, [...lines])
    this.#read.set(grantId, lines)
    this.#before.set(grantId, sharesOf(lines))
  }

  has(grantId: string, lineId: string): boolean {
    return this.#known.get(grantId)?.some((line) => line.lineId === lineId) === true
  }

  /** Begins with an allowance that ended within the time of the line: nothing has been drawn of it since. */
  open(line: Pick<KnownLateUse, 'grantId' | 'lineId' | 'startsAt' | 'room' | 'roomBefore' | 'roomAfter'>): void {
    const nothing = { drawn: 0n, drawnElsewhere: 0n, passed: 0n, passedElsewhere: 0n, told: 0n }
    this.#keep(line.grantId, [{ ...line, ...nothing }])
  }

  /** How much was told late of a line's time. */
  toldOf(grantId: string, lineId: string): Quantity {
    return this.#known.get(grantId)?.find((line) => line.lineId === lineId)?.told ?? 0n
  }

  /** What use since the last change has drawn, without what came late from before it. */
  drawnSince({ grant, used, usedElsewhere }: BalanceBook['plan']): Sides {
    const lines = this.#known.get(grant.id) ?? []
    const { plan, others } = sharesOf(lines).passed
    return drawnIn({ drawn: used, drawnElsewhere: usedElsewhere, passed: plan, passedElsewhere: others }, lines.at(-1))
  }

  tell({ grantId, lineId }: Pick<KnownLateUse, 'grantId' | 'lineId'>, change: Quantity): ToldChange {
    const lines = this.#known.get(grantId) ?? []
    const before = sharesOf(lines)
    const told = lines.map((line) => (line.lineId === lineId ? { ...line, told: line.told + change } : line))
    this.#known.set(grantId, told)
    const after = sharesOf(told)
    const passed = { plan: after.passed.plan - before.passed.plan, others: after.passed.others - before.passed.others }
    return { counted: sumOf(after.counted) - sumOf(before.counted), passed }
  }

  changesAt(at: Instant): LateChange[] {
    return [...this.#known].flatMap(([grantId, lines]) => {
      const read = this.#read.get(grantId) ?? []
      const before = this.#before.get(grantId) ?? NOTHING
      const after = sharesOf(lines)
      return lines.flatMap((line, index) => {
        const told = line.told - read[index]!.told
        const counted = after.counted[index]! - before.counted[index]!
        return told === 0n && counted === 0n ? [] : [{ ...line, told, counted, at }]
      })
    })
  }
}

function sumOf(quantities: readonly Quantity[]): Quantity {
  return quantities.reduce((sum, each) => sum + each, 0n)
}

/** Takes what late use of a line that has ended costs: what the plan of its time had left from what stands now, the rest from that line. */
export function drawTold(
  late: LateBook,
  {
    book,
    meter,
    lineId,
    cost,
  }: { readonly book: BalanceBook; readonly meter: string; readonly lineId: string; readonly cost: Quantity },
): Draw[] {
  const { plan } = book
  const grantId = plan.grant.id
  const drawn = late.drawnSince(plan)
  const { counted, passed } = late.tell({ grantId, lineId }, cost)
  const { taken, displaced } = displacedBy(passed, { room: book.roomFor(meter), drawn })
  const draws = book.drawOthers(meter, taken.others)
  const own = { grantId, amount: taken.plan, overage: counted + displaced }
  plan.used += own.amount
  plan.overage += own.overage
  plan.countedLate += counted
  return own.amount + own.overage === 0n ? draws : mergeDraws([...draws, own])
}

/** Gives back late use of a line that has ended, as though it had never been told. Answers draws below zero. */
export function giveBackTold(
  late: LateBook,
  { book, lineId, ...giving }: GivingToOthers & { readonly book: BalanceBook; readonly lineId: string },
): Draw[] {
  const { plan } = book
  const grantId = plan.grant.id
  const change = late.tell({ grantId, lineId }, -giving.quantity)
  const [counted, passed] = [-change.counted, { plan: -change.passed.plan, others: -change.passed.others }]
  const overage = plan.giveBack(counted, false)
  plan.countedLate -= counted
  const given: Draw[] = [{ grantId, amount: overage - counted, overage: -overage }]
  const displaced = plan.makeRoom(passed.plan)
  given.push({ grantId, amount: displaced - passed.plan, overage: -displaced })
  given.push(...giveBackOthers(book, { ...giving, quantity: passed.others }))
  return mergeDraws(given).filter(({ amount, overage: over }) => amount !== 0n || over !== 0n)
}

type GivingToOthers = {
  readonly meter: string
  readonly quantity: Quantity
  readonly drawn: readonly Draw[]
  readonly lineOf: (grantId: string) => GrantLine
}

/**
 * Gives back what late use took of the grants other than the plan's allowance. Where they have nothing left it may have displaced use of now, which
 * went beyond what is included: that is drawn from them again. Else it goes to those that it drew from, then to those that other late use did.
 */
function giveBackOthers(book: BalanceBook, { meter, quantity, drawn, lineOf }: GivingToOthers): Draw[] {
  const { plan } = book
  const lines = book.linesFor(meter)
  const own = drawn.toReversed().map(({ grantId, amount }) => ({ line: lineOf(grantId), most: amount }))
  const hasRoom = book.roomFor(meter).others > 0n
  const given: Draw[] = []
  let left = quantity
  const giveTo = ({ line, most }: { readonly line: GrantLine; readonly most: Quantity }): void => {
    const back = least(left, least(most, line.used))
    if (line === plan || back <= 0n) return
    line.used -= back
    book.countElsewhere(line, -back)
    left -= back
    given.push({ grantId: line.grant.id, amount: -back, overage: 0n })
  }
  // What has ended since displaced nothing of now.
  for (const each of own.filter(({ line }) => !lines.includes(line))) giveTo(each)
  const included = hasRoom ? 0n : plan.includeOverage(left)
  left -= included
  for (const each of [...own, ...lines.toReversed().map((line) => ({ line, most: line.used }))]) giveTo(each)
  const rest = plan.makeRoom(left)
  return [...given, { grantId: plan.grant.id, amount: rest - left, overage: -rest - included }]
}

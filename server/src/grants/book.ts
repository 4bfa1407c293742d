import { MAX_QUANTITY, type Quantity } from '../lib/quantity.ts'
import { presentOverageOf } from '../pricing/rules.ts'
import { compareDrawOrder, type Draw, type Grant } from './rules.ts'

/** A grant while one decision changes it. */
export class GrantLine {
  readonly grant: Grant
  /** What may be used in all; less than the grant's amount where that holds a larger plan's use (see `regrant`). */
  readonly most: Quantity | null
  used: Quantity
  overage: Quantity
  reserved: Quantity
  heldOverage: Quantity
  freeUsed: Quantity
  freeOverage: Quantity
  usedElsewhere: Quantity
  /** What this decision adds to the overage that lines bill which a change of plan has ended (`late_use`). */
  countedLate: Quantity = 0n

  constructor(grant: Grant, most: Quantity | null = grant.amount) {
    this.grant = grant
    this.most = most
    this.used = grant.used
    this.overage = grant.overage
    this.reserved = grant.reserved
    this.heldOverage = grant.heldOverage
    this.freeUsed = grant.freeUsed
    this.freeOverage = grant.freeOverage
    this.usedElsewhere = grant.usedElsewhere
  }

  /** null is unlimited. */
  get available(): Quantity | null {
    if (this.most === null) return null
    const available = this.most - this.#committed
    return available > 0n ? available : 0n
  }

  /** The grant's amount as it is after this decision. */
  get amount(): Quantity | null {
    if (this.most === null) return null
    return this.most > this.#committed ? this.most : this.#committed
  }

  /** Granted less what was revoked: what is used, held and available add up to it. */
  get granted(): Quantity | null {
    const { amount } = this
    return amount === null ? null : amount - this.grant.revoked
  }

  get #committed(): Quantity {
    return this.used + this.reserved + this.grant.revoked
  }

  /**
   * Gives back a part of what was drawn: overage before what was included, and of it first what is billed; of use in a time that
   * nothing billed (`isFree`) first what is not. What was overage when it was drawn may be included since (`regrant`), and is given
   * back as what it is now. Answers how much of it was overage.
   */
  giveBack(quantity: Quantity, isFree: boolean): Quantity {
    const fromFree = isFree ? least(quantity, this.freeOverage) : 0n
    const fromBilled = least(quantity - fromFree, this.overage - this.freeOverage)
    const fromUsed = least(quantity - fromFree - fromBilled, this.used)
    const rest = quantity - fromFree - fromBilled - fromUsed
    this.freeOverage -= fromFree + rest
    this.overage -= fromFree + fromBilled + rest
    this.used -= fromUsed
    const freeUsed = isFree ? this.freeUsed - fromUsed : this.freeUsed
    this.freeUsed = freeUsed < 0n ? 0n : least(freeUsed, this.used)
    return fromFree + fromBilled + rest
  }

  /**
   * Makes room before what was used since the plan was changed: what is more than the plan of now includes goes first, then the overage of
   * now is included instead. Answers how much of it was overage.
   */
  makeRoom(quantity: Quantity): Quantity {
    const over = this.most === null ? 0n : this.#committed - this.most
    const fromOver = over > 0n ? least(quantity, over) : 0n
    const fromOverage = this.includeOverage(quantity - fromOver)
    this.used -= quantity - fromOverage
    return fromOverage
  }

  /** Takes off the overage of now, as far as there is so much of it. Answers how much that was. */
  includeOverage(quantity: Quantity): Quantity {
    const present = presentOverageOf({ ...this.grant, overage: this.overage - this.countedLate, freeOverage: this.freeOverage })
    const included = present > 0n ? least(quantity, present) : 0n
    this.overage -= included
    return included
  }

  get changed(): boolean {
    const { used, overage, reserved, heldOverage, freeUsed, freeOverage, usedElsewhere } = this.grant
    return (
      this.used !== used ||
      this.overage !== overage ||
      this.reserved !== reserved ||
      this.heldOverage !== heldOverage ||
      this.freeUsed !== freeUsed ||
      this.freeOverage !== freeOverage ||
      this.usedElsewhere !== usedElsewhere
    )
  }
}

function least(a: Quantity, b: Quantity): Quantity {
  return a < b ? a : b
}

/**
 * The sums of a book. `used` is what use of its period has drawn, from whatever grant, also one that has ended since; what earlier periods
 * drew from a grant that goes on is neither in it nor in the amount: amount − used − reserved = remaining. `amount` and `remaining` are null
 * when something in it is unlimited.
 */
export type BookTotals = {
  readonly amount: Quantity | null
  readonly used: Quantity
  readonly overage: Quantity
  readonly reserved: Quantity
  readonly remaining: Quantity | null
}

/**
 * The grants of one balance that count at one time, in the order in which they are drawn. Lives for one decision; lines
 * are shared between the books of a period and the next, so that each grant is changed in one place.
 */
export class BalanceBook {
  /** The plan's allowance of the period: it carries the overage. */
  readonly plan: GrantLine
  readonly #lines: readonly GrantLine[]
  readonly #scoped: boolean

  /**
   * @param lines the plan's allowance among them
   * @param left what the plan's allowance left over, when its period is past: it pays right after it, as though nothing had moved on
   */
  constructor(lines: readonly GrantLine[], plan: GrantLine, left: GrantLine | null = null) {
    this.plan = plan
    const ordered = lines.toSorted((a, b) => compareDrawOrder(a.grant, b.grant))
    if (left !== null) ordered.splice(ordered.indexOf(plan) + 1, 0, left)
    this.#lines = ordered
    this.#scoped = lines.some((line) => line.grant.meters !== null)
  }

  /** The grants, in the order in which they are drawn. */
  get lines(): readonly GrantLine[] {
    return this.#lines
  }

  /** How many grants count for a meter, the plan's included. */
  countFor(meter: string): number {
    return this.linesFor(meter).length
  }

  /** What is counted of the balance and held on it, all in all: it can be as much as is stored, and no more. */
  get counted(): Quantity {
    let sum = 0n
    for (const { used, overage, reserved, heldOverage } of this.#lines) sum += used + overage + reserved + heldOverage
    return sum
  }

  /** What a meter may still use; null is unlimited. */
  availableFor(meter: string): Quantity | null {
    let sum = 0n
    for (const line of this.linesFor(meter)) {
      const available = line.available
      if (available === null) return null
      sum += available
    }
    return sum
  }

  /** Takes as much of `cost` as the grants give, in their order; the rest is overage of the plan's allowance. */
  draw(meter: string, cost: Quantity): Draw[] {
    const draws: Draw[] = []
    const left = this.#take(meter, cost, (line, amount) => {
      line.used += amount
      this.countElsewhere(line, amount)
      draws.push({ grantId: line.grant.id, amount, overage: 0n })
    })
    if (left > 0n) {
      this.plan.overage += left
      const index = draws.findIndex((draw) => draw.grantId === this.plan.grant.id)
      const own = draws[index] ?? { grantId: this.plan.grant.id, amount: 0n }
      draws.splice(index < 0 ? draws.length : index, 1, { ...own, overage: left })
    }
    return draws
  }

  /** What a meter may still use of the plan's allowance, and of all other grants. */
  roomFor(meter: string): { readonly plan: Quantity; readonly others: Quantity } {
    const roomOf = (lines: readonly GrantLine[]): Quantity =>
      lines.reduce((sum, { available }) => sum + (available ?? MAX_QUANTITY), 0n)
    return { plan: roomOf([this.plan]), others: roomOf(this.linesFor(meter).filter((line) => line !== this.plan)) }
  }

  /** What a meter may still use of the grants that are drawn before the plan's allowance, and after it. */
  othersFor(meter: string): { readonly before: Quantity; readonly after: Quantity } {
    const lines = this.linesFor(meter)
    const own = lines.indexOf(this.plan)
    const sides = { before: 0n, after: 0n }
    for (const [index, { available }] of lines.entries()) {
      if (index !== own) sides[index < own ? 'before' : 'after'] += available ?? MAX_QUANTITY
    }
    return sides
  }

  /** Takes so much of the grants other than the plan's allowance, in their order. */
  drawOthers(meter: string, cost: Quantity): Draw[] {
    const draws: Draw[] = []
    let left = cost
    for (const line of this.linesFor(meter)) {
      const { available } = line
      const amount = available === null || left < available ? left : available
      if (line === this.plan || amount <= 0n) continue
      line.used += amount
      this.countElsewhere(line, amount)
      left -= amount
      draws.push({ grantId: line.grant.id, amount, overage: 0n })
    }
    return draws
  }

  /** Keeps with the period what its use draws from another grant than a plan's, or (below zero) gives back to it. */
  countElsewhere({ grant }: GrantLine, amount: Quantity): void {
    if (grant.kind === 'plan') return
    const elsewhere = this.plan.usedElsewhere + amount
    // What was drawn before this was counted may be given back since.
    this.plan.usedElsewhere = elsewhere < 0n ? 0n : elsewhere
  }

  /** Holds `cost` on the grants in their order; what does not fit will be overage of the plan's allowance when it is settled. */
  hold(meter: string, cost: Quantity): Draw[] {
    const holds: Draw[] = []
    const left = this.#take(meter, cost, (line, amount) => {
      line.reserved += amount
      holds.push({ grantId: line.grant.id, amount, overage: 0n })
    })
    if (left > 0n) {
      this.plan.heldOverage += left
      holds.push({ grantId: this.plan.grant.id, amount: 0n, overage: left })
    }
    return holds
  }

  /** The sums of what counts for a meter; null is all of it. */
  totalsFor(meter: string | null): BookTotals {
    const { plan } = this
    const used = plan.used + plan.usedElsewhere
    let remaining: Quantity | null = 0n
    let reserved = 0n
    for (const line of this.linesFor(meter)) {
      reserved += line.reserved
      const { available } = line
      remaining = available === null || remaining === null ? null : remaining + available
    }
    return { amount: remaining === null ? null : remaining + used + reserved, used, overage: plan.overage, reserved, remaining }
  }

  #take(meter: string, cost: Quantity, record: (line: GrantLine, amount: Quantity) => void): Quantity {
    let left = cost
    for (const line of this.linesFor(meter)) {
      if (left === 0n) break
      const available = line.available
      const amount = available === null || left < available ? left : available
      if (amount <= 0n) continue
      record(line, amount)
      left -= amount
    }
    return left
  }

  /** Those of them that count for a meter; null is all. */
  linesFor(meter: string | null): readonly GrantLine[] {
    if (!this.#scoped || meter === null) return this.#lines
    return this.#lines.filter(({ grant }) => grant.meters === null || grant.meters.includes(meter))
  }
}

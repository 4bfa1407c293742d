import { BalanceBook, GrantLine } from '../../grants/book.ts'
import { endOfTermsAt, planGrantAt, type History } from '../../grants/history.ts'
import { rolloverIdOf } from '../../grants/rollover.ts'
import {
  isActiveAt,
  periodOfPlanGrant,
  planGrantOf,
  type Draw,
  type Grant,
  type PlanGrant,
  type PlanTerms,
} from '../../grants/rules.ts'
import type { AccountRow } from '../../grants/store.ts'
import type { Instant } from '../../lib/clock.ts'
import { assert } from '../../lib/errors.ts'
import { SECOND_MS } from '../../lib/period.ts'
import type { Quantity } from '../../lib/quantity.ts'
import type { BalanceSnapshot, LateUse, UsageEvent } from '../usage.ts'
import { changedLineAt, isBilledAt, lateUseOf, type KnownLine } from './late.ts'
import { LateBook, type KnownLateUse, type LateChange } from './late-book.ts'

/** What a decision knows of one organization, all read under its lock. */
export type OrganizationState = {
  readonly organizationId: string
  /** The organization's time: its test clock's, else this server's. */
  readonly now: Instant
  readonly terms: PlanTerms
  readonly grants: readonly Grant[]
  /** By balance: less than this many millionths left is told. */
  readonly lowMarks?: AccountRow['lowMarks']
  /** By balance: the plan's allowances that stand now, where they are worked out already. */
  readonly plans?: ReadonlyMap<string, PlanGrant>
  /** Read where something is told or corrected that may not belong to the present period. */
  readonly past?: KnownPast
}

/** What an organization had, and when its use was billed. */
export type KnownPast = {
  readonly history: History
  readonly billed: readonly KnownLine[]
  /** What changes of plan have left of lines for what is told late. */
  readonly late: readonly KnownLateUse[]
}

/** A balance of which less is left than its mark. */
export type LowBalance = { readonly organizationId: string; readonly balanceKey: string; readonly at: Instant }

/** The books of one organization while one decision changes them. */
export class OrganizationLedger {
  readonly state: OrganizationState
  readonly #lines = new Map<string, GrantLine>()
  readonly #books = new Map<string, BalanceBook>()
  readonly #plans = new Map<string, PlanGrant>()
  #late: LateBook | null = null

  constructor(state: OrganizationState) {
    this.state = state
    for (const grant of state.grants) this.#lines.set(grant.id, new GrantLine(grant, this.#mostOf(grant)))
  }

  /** The plan's allowance that stands now. */
  planGrant(balanceKey: string): PlanGrant {
    let plan = this.#plans.get(balanceKey)
    if (!plan) {
      plan = this.state.plans?.get(balanceKey) ?? planGrantOf(this.state.terms, balanceKey, this.state.now)
      this.#plans.set(balanceKey, plan)
    }
    return plan
  }

  /** Of the plan's allowance that stands, what the plan says; of every other grant, its amount. */
  #mostOf(grant: Grant): Quantity | null {
    if (grant.kind !== 'plan') return grant.amount
    const plan = this.planGrant(grant.balanceKey)
    return plan.id === grant.id ? plan.amount : grant.amount
  }

  /** The grants that count now. A plan's allowance counts only while it is the one that stands. */
  currentBook(balanceKey: string): BalanceBook {
    const known = this.#books.get(balanceKey)
    if (known) return known
    const plan = this.#lines.get(this.planGrant(balanceKey).id)
    assert(plan, `the plan's allowance of ${balanceKey} was opened before the decision`)
    return this.#openBook(balanceKey, plan, this.#linesAt(plan, this.state.now))
  }

  /** The grants that counted when something happened: use that is told late lands in the period it belongs to. */
  bookAt(balanceKey: string, at: Instant): BalanceBook {
    const { terms, past } = this.state
    const current = this.currentBook(balanceKey)
    if (past === undefined || isPresent(terms, this.planGrant(balanceKey), at)) return current
    const { id } = planGrantAt(terms, past.history, balanceKey, at)
    return id === current.plan.grant.id ? current : this.#bookThen(this.lineOf(id), at)
  }

  /** What is told late of lines that changes have ended. */
  get late(): LateBook {
    this.#late ??= new LateBook(this.state.past?.late ?? [])
    return this.#late
  }

  /** What of that this decision changed. */
  get lateChanges(): LateChange[] {
    return this.#late?.changesAt(this.state.now) ?? []
  }

  /**
   * The line that a change has ended and that bills what is told late of a moment; null for every other use. Of an allowance that ended in its
   * time, what is left is what there was; of one that went on under other terms it was kept when they changed, or nothing is known of it.
   */
  changedLineAt(book: BalanceBook, meter: string, at: Instant): string | null {
    const { terms, past } = this.state
    const { grant } = book.plan
    if (past === undefined || isPresent(terms, this.planGrant(grant.balanceKey), at)) return null
    const line = changedLineAt(this.#billedTimes(grant.balanceKey), at, endOfTermsAt(past.history, at))
    if (line === null) return null
    if (this.late.has(grant.id, line.id)) return line.id
    if (grant.expiresAt === null || grant.expiresAt.getTime() >= line.endsAt.getTime() + SECOND_MS) return null
    const { before: roomBefore, after: roomAfter } = book.othersFor(meter)
    const room = book.plan.available
    this.late.open({ grantId: grant.id, lineId: line.id, startsAt: line.startsAt, room, roomBefore, roomAfter })
    return line.id
  }

  /** The same of a correction: what it takes from use of a closed time is credited. */
  correctionAt(book: BalanceBook, at: Instant, change: Quantity): LateUse | null {
    const late = this.lateUseAt(book, at)
    return change < 0n && (late === 'closed' || late === 'ended') ? 'credited' : late
  }

  /** What becomes of use of a moment that is told now; null for use of the present. */
  lateUseAt(book: BalanceBook, at: Instant): LateUse | null {
    const { grant } = book.plan
    if (this.isFreeAt(grant.balanceKey, at)) return 'free'
    if (book === this.currentBook(grant.balanceKey)) return null
    return lateUseOf(this.#billedTimes(grant.balanceKey), grant, at)
  }

  /**
   * Whether use of a moment has to be told apart as free: nothing billed the balance then, but something did before or since. Where
   * nothing ever billed it, what has been counted becomes free when that begins (pricing's `forgiveUnbilled`).
   */
  isFreeAt(balanceKey: string, at: Instant): boolean {
    if (isPresent(this.state.terms, this.planGrant(balanceKey), at)) return false
    const times = this.#billedTimes(balanceKey)
    return times.length > 0 && !isBilledAt(times, at)
  }

  #billedTimes(balanceKey: string): readonly KnownLine[] {
    return this.state.past?.billed.filter((time) => time.balanceKey === balanceKey) ?? []
  }

  /** What was drawn in a time that nothing billed stays free. */
  addFree(draws: readonly Draw[]): void {
    for (const { grantId, amount, overage } of draws) {
      const line = this.lineOf(grantId)
      line.freeUsed += amount
      line.freeOverage += overage
    }
  }

  /** The grants among which an event was drawn: those of its own period. */
  bookOf({ occurredAt, after }: Pick<UsageEvent, 'occurredAt' | 'after'>): BalanceBook {
    const { balanceKey, planGrantId } = after
    if (planGrantId === this.planGrant(balanceKey).id) return this.currentBook(balanceKey)
    return this.#bookThen(this.lineOf(planGrantId), occurredAt)
  }

  /** The book of a moment of the past: another moment of its period may have had other grants. */
  #bookThen(plan: GrantLine, at: Instant): BalanceBook {
    const lines = this.#linesAt(plan, at)
    const name = `then ${plan.grant.id} ${lines.map(({ grant }) => grant.id).join(' ')}`
    return this.#books.get(name) ?? this.#openBook(name, plan, lines)
  }

  /** The line of a grant that was read because something is held or was drawn on it. */
  lineOf(grantId: string): GrantLine {
    const line = this.#lines.get(grantId)
    assert(line, `the grant ${grantId} was read with what is held or drawn on it`)
    return line
  }

  /** Gives back one hold and answers the line on which it was. */
  giveBackHold({ grantId, amount, overage }: Draw): GrantLine {
    const line = this.lineOf(grantId)
    line.reserved -= amount
    line.heldOverage -= overage
    return line
  }

  /** The standing allowances of plans that this decision changed. */
  changedPlans(): { readonly line: GrantLine; readonly plan: PlanGrant }[] {
    const changed: { readonly line: GrantLine; readonly plan: PlanGrant }[] = []
    for (const plan of this.#plans.values()) {
      const line = this.#lines.get(plan.id)
      if (line?.changed === true) changed.push({ line, plan })
    }
    return changed
  }

  /** The balances that this decision used, and of which less is left now than their marks. */
  lowBalances(): LowBalance[] {
    const { organizationId, lowMarks, now: at } = this.state
    if (!lowMarks) return []
    const changed = new Set(this.changedLines().map(({ grant }) => grant.balanceKey))
    return Object.entries(lowMarks).flatMap(([balanceKey, mark]) => {
      const remaining = changed.has(balanceKey) ? (this.#books.get(balanceKey)?.totalsFor(null).remaining ?? null) : null
      return remaining !== null && remaining < BigInt(mark) ? [{ organizationId, balanceKey, at }] : []
    })
  }

  changedLines(): GrantLine[] {
    return [...this.#lines.values()].filter((line) => line.changed)
  }

  #openBook(name: string, plan: GrantLine, lines: readonly GrantLine[]): BalanceBook {
    const book = new BalanceBook(lines, plan, this.#leftOf(plan))
    this.#books.set(name, book)
    return book
  }

  /** What an allowance left over, once its period is past. */
  #leftOf(plan: GrantLine): GrantLine | null {
    return this.#lines.size === 1 ? null : (this.#lines.get(rolloverIdOf(plan.grant.id)) ?? null)
  }

  #linesAt(plan: GrantLine, at: Instant): readonly GrantLine[] {
    if (this.#lines.size === 1) return [plan]
    const { balanceKey } = plan.grant
    const left = this.#leftOf(plan)
    return [...this.#lines.values()].filter(
      (line) =>
        line === plan ||
        (line !== left && line.grant.balanceKey === balanceKey && line.grant.kind !== 'plan' && isActiveAt(line.grant, at)),
    )
  }
}

/** Whether a moment belongs to the period and the terms that stand now: for such nothing of the past is looked up. */
export function isPresent({ since }: PlanTerms, { span }: PlanGrant, at: Instant): boolean {
  return at >= span.start && (since == null || at >= since)
}

/** The balance as an answer shows it to a meter; null shows all of it. */
export function snapshotOf(book: BalanceBook, meter: string | null): BalanceSnapshot {
  const { grant } = book.plan
  const { amount, used, overage, reserved, remaining } = book.totalsFor(meter)
  return {
    balanceKey: grant.balanceKey,
    planGrantId: grant.id,
    planKey: grant.planKey ?? '',
    amount,
    used,
    overage,
    reserved,
    remaining,
    period: periodOfPlanGrant(grant.id),
    periodStart: grant.startsAt,
    periodEnd: grant.expiresAt,
  }
}

import type { Quantity } from '../../lib/quantity.ts'

/** Of the plan's own allowance, and of the other grants of a balance. */
export type Sides = { readonly plan: Quantity; readonly others: Quantity }

/**
 * What a change of plan left of a line for use that is told late: what could still be drawn of the plan's allowance, and of the grants that are drawn
 * before and after it (null is without end); what use of its period had drawn, and what of that had come late from before earlier changes. `told` is
 * what was told late of the line's time since.
 */
export type ChangedLine = {
  readonly room: Quantity | null
  readonly roomBefore: Quantity | null
  readonly roomAfter: Quantity | null
  readonly drawn: Quantity
  readonly drawnElsewhere: Quantity
  readonly passed: Quantity
  readonly passedElsewhere: Quantity
  readonly told: Quantity
}

type Drawn = Pick<ChangedLine, 'drawn' | 'drawnElsewhere' | 'passed' | 'passedElsewhere'>

/** What each line bills of late use, in their order, and how much of it all was included by them and passes into what came after. */
export type ToldShares = { readonly counted: readonly Quantity[]; readonly passed: Sides }

/** More than any balance counts. */
const ENDLESS = 10n ** 24n

/**
 * Where late use counts that was used before changes of plan within the period of one allowance. What the plan of its time had left includes
 * it; that lies before what was used under the next plan, so it displaces of that what does not fit any more, which then goes beyond what
 * that plan includes. The rest is billed by the line of its time. Pure: what was told in any order counts as what was told in time.
 * @param lines those of the allowance that changes have ended, the oldest first
 */
export function sharesOf(lines: readonly ChangedLine[]): ToldShares {
  const counted: Quantity[] = []
  let passed: Sides = { plan: 0n, others: 0n }
  for (const [index, line] of lines.entries()) {
    const more = { plan: atLeastNothing(passed.plan - line.passed), others: atLeastNothing(passed.others - line.passedElsewhere) }
    const before = line.roomBefore ?? ENDLESS
    const room = { plan: line.room ?? ENDLESS, others: before + (line.roomAfter ?? ENDLESS) }
    const { taken, displaced } = displacedBy(more, { room, drawn: drawnIn(line, lines[index - 1]) })
    const first = least(line.told, atLeastNothing(before - taken.others))
    const plan = least(line.told - first, atLeastNothing(room.plan - taken.plan))
    const last = least(line.told - first - plan, atLeastNothing(room.others - taken.others - first))
    counted.push(line.told - first - plan - last + displaced)
    passed = {
      plan: passed.plan - more.plan + taken.plan + plan,
      others: passed.others - more.others + taken.others + first + last,
    }
  }
  return { counted, passed }
}

/**
 * What use from before does to a time that has drawn: of what is left it takes its part; what was drawn and does not fit any more moves to what is
 * left on the other side, or is displaced. An allowance stays as large as what was used of it while it was included, so that displaces no more than there
 * is. `taken`: what more is drawn of either side.
 */
export function displacedBy(
  more: Sides,
  { room, drawn }: { readonly room: Sides; readonly drawn: Sides },
): { readonly taken: Sides; readonly displaced: Quantity } {
  const plan = least(atLeastNothing(more.plan - room.plan), drawn.plan)
  const others = least(atLeastNothing(more.others - room.others), drawn.others)
  const toOthers = least(plan, atLeastNothing(room.others - more.others))
  const toPlan = least(others, atLeastNothing(room.plan - more.plan))
  return {
    taken: { plan: more.plan - plan + toPlan, others: more.others - others + toOthers },
    displaced: plan - toOthers + others - toPlan,
  }
}

/** What use of a line's own time drew, without what had come late from before it. */
export function drawnIn(line: Drawn, before: Drawn | undefined): Sides {
  const { drawn, drawnElsewhere, passed, passedElsewhere } = before ?? NOTHING
  return {
    plan: atLeastNothing(line.drawn - drawn - (line.passed - passed)),
    others: atLeastNothing(line.drawnElsewhere - drawnElsewhere - (line.passedElsewhere - passedElsewhere)),
  }
}

const NOTHING: Drawn = { drawn: 0n, drawnElsewhere: 0n, passed: 0n, passedElsewhere: 0n }

function atLeastNothing(quantity: Quantity): Quantity {
  return quantity > 0n ? quantity : 0n
}

export function least(a: Quantity, b: Quantity): Quantity {
  return a < b ? a : b
}

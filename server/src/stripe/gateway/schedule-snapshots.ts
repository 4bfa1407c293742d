import type { Instant } from '../../lib/clock.ts'
import type { PhaseItem } from './mutations.ts'
import { fromUnix, idOf, type Reference } from './wire.ts'

export type ScheduleSnapshot = {
  readonly id: string
  readonly status: string
  readonly endBehavior: string
  readonly phases: readonly { readonly startsAt: Instant; readonly endsAt: Instant; readonly items: readonly PhaseItem[] }[]
}

export type WireSchedule = {
  readonly id: string
  readonly status: string
  readonly end_behavior: string
  readonly current_phase: { readonly end_date: number } | null
  readonly phases: readonly {
    readonly start_date: number
    readonly end_date: number
    readonly items: readonly {
      readonly price: string | { readonly id: string }
      readonly quantity?: number
      readonly tax_rates?: readonly { readonly id: string }[] | null
      readonly discounts?: readonly { readonly discount: Reference | null }[]
    }[]
  }[]
}

export function toScheduleSnapshot(schedule: WireSchedule): ScheduleSnapshot {
  return {
    id: schedule.id,
    status: schedule.status,
    endBehavior: schedule.end_behavior,
    phases: schedule.phases.map((phase) => ({
      startsAt: fromUnix(phase.start_date),
      endsAt: fromUnix(phase.end_date),
      items: phase.items.map((item) => ({
        priceId: idOf(item.price) ?? '',
        quantity: item.quantity ?? null,
        taxRateIds: (item.tax_rates ?? []).map(({ id }) => id),
        discountIds: (item.discounts ?? []).flatMap(({ discount }) => idOf(discount) ?? []),
      })),
    })),
  }
}

/** What a schedule sells after its running phase, and from when: one that was made in Stripe's dashboard may change within a period. */
export type NextPhase = { readonly items: readonly PhaseItem[]; readonly at: Instant }

export function nextPhaseOf(schedule: WireSchedule): NextPhase | null {
  const { current_phase: running } = schedule
  if (running === null) return null
  const phase = toScheduleSnapshot(schedule).phases.find(({ startsAt }) => startsAt >= fromUnix(running.end_date))
  return phase === undefined || phase.items.length === 0 ? null : { items: phase.items, at: phase.startsAt }
}

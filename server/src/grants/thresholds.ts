import type { Catalog } from '../catalog/catalog.ts'
import type { NewEvent } from '../events/types.ts'
import type { Instant } from '../lib/clock.ts'
import { formatQuantity, quantityToJson, type Quantity } from '../lib/quantity.ts'
import type { Grant, PlanGrant } from './rules.ts'

/** Use of a plan's allowance before and after a change, overage included. */
export type UseChange = {
  readonly grant: Grant
  readonly plan: PlanGrant
  /** Whose names the balances have. */
  readonly catalog: Catalog
  readonly before: Quantity
  readonly after: Quantity
}

/**
 * The shares of an allowance that a change reaches, as events. Each is told once per period and amount: the event's key says so,
 * whoever tells it again. After a plan changed within the period, the shares of the new amount count, with what was used so far.
 */
export function thresholdsReached({ grant, plan, catalog, before, after }: UseChange, occurredAt: Instant): NewEvent[] {
  const { amount, allowance, span } = plan
  if (amount === null || amount === 0n || after <= before || allowance.thresholds.length === 0) return []
  const reached = allowance.thresholds.filter(
    (percent) => isReached(percent, amount, after) && !isReached(percent, amount, before),
  )
  return reached.map((percent) => ({
    organizationId: grant.organizationId,
    type: 'usage.threshold_reached',
    key: `usage.threshold_reached:${grant.id}:${formatQuantity(amount)}:${percent}`,
    data: {
      grant_id: grant.id,
      balance: grant.balanceKey,
      balance_name: catalog.balances.get(grant.balanceKey)?.name ?? grant.balanceKey,
      percent,
      used: quantityToJson(after),
      amount: quantityToJson(amount),
      period_end: span.end?.toISOString() ?? null,
    },
    occurredAt,
  }))
}

function isReached(percent: number, amount: Quantity, used: Quantity): boolean {
  return used * 100n >= amount * BigInt(percent)
}

import type { Transaction } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import {
  insertMovement,
  listFirstPayments,
  listRevenueSubscriptions,
  readLedger,
  upsertMrrAccount,
  type MrrAccount,
} from './ledger-store.ts'
import { movementOf, movementTime, revenueOf, type RevenueSubscription } from './rules.ts'

export type Derived = {
  readonly organizationId: string
  /** The organization's time. */
  readonly now: Instant
  /** The server's time. */
  readonly recordedAt: Instant
}

/**
 * Compares what an organization brings in a month with what the ledger holds, and writes down the difference as a movement. Called in
 * the transaction that derived its account, which holds the account's lock: so a replay finds no difference and writes nothing.
 */
export async function recordRevenue(tx: Transaction, derived: Derived): Promise<void> {
  const { organizationId, now } = derived
  const ledger = await readLedger(tx, organizationId)
  if (ledger === null) return
  const { planKey, accounts: known } = ledger
  const subscriptions = await listRevenueSubscriptions(tx, organizationId)
  if (known.length === 0 && subscriptions.length === 0) return
  const revenue = revenueOf(subscriptions, now)
  const unpaid = [...revenue.keys()].some(
    (currency) => (known.find((account) => account.currency === currency)?.firstPaidAt ?? null) === null,
  )
  const firstPayments = unpaid ? await listFirstPayments(tx, organizationId) : new Map<string, Instant>()
  for (const currency of new Set([...revenue.keys(), ...known.map((account) => account.currency)])) {
    const before = known.find((account) => account.currency === currency) ?? null
    const { mrr, status } = revenue.get(currency) ?? { mrr: 0n, status: 'canceled' as const }
    const firstPaidAt = before?.firstPaidAt ?? firstPayments.get(currency) ?? null
    const own = subscriptions.filter((subscription) => subscription.currency === currency)
    await recordCurrency(tx, { derived, before, after: { currency, planKey, status, mrr, firstPaidAt }, subscriptions: own })
  }
}

type Change = {
  readonly derived: Derived
  readonly before: MrrAccount | null
  readonly after: Pick<MrrAccount, 'currency' | 'planKey' | 'status' | 'mrr' | 'firstPaidAt'>
  readonly subscriptions: readonly RevenueSubscription[]
}

async function recordCurrency(tx: Transaction, { derived, before, after, subscriptions }: Change): Promise<void> {
  const { organizationId, now, recordedAt } = derived
  const mrrBefore = before?.mrr ?? 0n
  const movements = before?.movements ?? 0
  const kind = movementOf(mrrBefore, after.mrr, movements > 0)
  if (kind === null) {
    if (before !== null && isSame(before, after)) return
    await upsertMrrAccount(tx, organizationId, { ...after, movements, movedAt: before?.movedAt ?? null })
    return
  }
  const dating = { movedAt: before?.movedAt ?? null, statusBefore: before?.status ?? null, now }
  const occurredAt = movementTime(kind, subscriptions, dating)
  const { currency, planKey, mrr: mrrAfter } = after
  const movement = {
    organizationId,
    currency,
    planKey,
    number: movements + 1,
    kind,
    amount: mrrAfter - mrrBefore,
    mrrAfter,
    occurredAt,
  }
  await upsertMrrAccount(tx, organizationId, { ...after, movements: movement.number, movedAt: occurredAt })
  await insertMovement(tx, movement, recordedAt)
}

function isSame(before: MrrAccount, after: Change['after']): boolean {
  return (
    before.planKey === after.planKey &&
    before.status === after.status &&
    before.firstPaidAt?.getTime() === after.firstPaidAt?.getTime()
  )
}

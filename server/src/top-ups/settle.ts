import type { Transaction } from '../db/database.ts'
import { timeOf, type GrantsContext } from '../grants/actions.ts'
import { restoreGrantIn, revokeGrantIn, storeGrantIn, type Giver } from '../grants/giving.ts'
import { availableOf } from '../grants/rules.ts'
import { findGrantsById, lockAccount } from '../grants/store.ts'
import { eachApart } from '../jobs/apart.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import type { Quantity } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import type { Intent } from '../stripe/intents/intent.ts'
import { listAutoTopUps } from './auto-store.ts'
import { unpaidShare, type Payment } from './rules.ts'
import { stopBuying } from './stopping.ts'
import {
  listUnsettledPurchases,
  listReleased,
  NOT_CARRIED_OUT,
  setFailed,
  setPaid,
  setTakenBack,
  TOP_UP_METADATA,
  type Purchase,
  type Refusal,
} from './store.ts'

const GIVER: Giver = { actor: 'system:top-ups', requestId: null }

/**
 * Brings an organization's top-ups in line with its payments in the mirror: gives what was paid, takes back what was refunded or is
 * disputed, and ends what a bank has refused to be debited for. Called in the transaction in which the mirror has changed; doing it again changes nothing.
 * @param now the organization's time
 */
export async function settleTopUps(
  tx: Transaction,
  context: GrantsContext,
  { organizationId, now }: { organizationId: string; now: Instant },
): Promise<void> {
  for (const { purchase, payment, refused } of await listUnsettledPurchases(tx, organizationId)) {
    if (refused !== null) {
      await endRefused(tx, context, purchase, refused)
      continue
    }
    if (purchase.status !== 'paid') {
      await give(tx, context, purchase, now)
      await setPaid(tx, purchase, { chargeId: payment.chargeId, paidAt: now })
    }
    const isLess = payment.refundedMinor > 0 || payment.disputed
    if (isLess || purchase.refundedMinor > 0 || purchase.disputed) await takeBack(tx, context, purchase, payment)
  }
}

/** Ends a purchase whose payment turned out not to have been made: nobody but who asked for it pays it any more. */
export async function endUnmade(tx: Transaction, { kind, organizationId, params }: Intent): Promise<void> {
  if (kind !== 'create_payment' || organizationId === null || !('metadata' in params)) return
  const id = params.metadata[TOP_UP_METADATA]
  if (id !== undefined) await setFailed(tx, { organizationId, id }, NOT_CARRIED_OUT)
}

const REFUSED = 'payment_failed'

/** A debit has failed, days after it was made: what buys by itself stops as after a declined card. */
async function endRefused(
  tx: Transaction,
  { catalogs, clock }: GrantsContext,
  purchase: Purchase,
  refused: Refusal,
): Promise<void> {
  const { organizationId, balanceKey, automatic } = purchase
  await setFailed(tx, purchase, REFUSED)
  if (!automatic) return
  const auto = (await listAutoTopUps(tx, organizationId)).find((each) => each.balanceKey === balanceKey)
  if (auto) await stopBuying(tx, catalogs, auto, { at: clock.now(), code: REFUSED, method: refused.methodId })
}

export function topUpGrantId({ id }: Pick<Purchase, 'id'>): string {
  return `top_up:${id}`
}

async function give(tx: Transaction, context: GrantsContext, purchase: Purchase, now: Instant): Promise<void> {
  const { organizationId, balanceKey, amount, expiresAfterDays, name } = purchase
  const expiresAt = expiresAfterDays === null ? null : new Date(now.getTime() + expiresAfterDays * DAY_MS)
  const span = { startsAt: now, expiresAt }
  const grant = { organizationId, id: topUpGrantId(purchase), balanceKey, kind: 'top_up' as const, amount, ...span, reason: name }
  await storeGrantIn(tx, context, grant, GIVER)
}

const AT_ONCE = 20

/** Takes back what holds have let go of since a refund or a dispute. Answers for how many organizations. */
export async function takeBackReleased(context: BillingContext): Promise<number> {
  const { db, clock, catalogs, policy } = context
  const organizationIds = await listReleased(db, clock.now(), AT_ONCE)
  const failed = (id: string, err: unknown): void =>
    context.log.warn({ event: 'top_up.take_back_failed', organization_id: id, err }, 'taking back failed; it is tried again')
  await eachApart(
    organizationIds,
    (id) =>
      db.transaction(async (tx) => {
        const account = await lockAccount(tx, id)
        if (account === null) return
        const grants = { catalogs, clock, graceDays: policy.graceDays }
        await settleTopUps(tx, grants, { organizationId: id, now: timeOf(account, clock.now()) })
      }),
    failed,
  )
  return organizationIds.length
}

/**
 * Takes back the share that is not paid any more, as far as it is not used or held; what holds let go of later follows within
 * seconds (`takeBackReleased`). A dispute that was won gives back what it took, and so does a refund that failed.
 */
async function takeBack(tx: Transaction, context: GrantsContext, purchase: Purchase, payment: Payment): Promise<void> {
  const { organizationId } = purchase
  const id = topUpGrantId(purchase)
  const [grant] = await findGrantsById(tx, [{ organizationId, id }])
  const available = (grant && availableOf(grant)) ?? 0n
  const owed = unpaidShare(purchase.amount, payment) - purchase.takenBack
  const taken: Quantity = owed < available ? owed : available
  if (taken > 0n) await revokeGrantIn(tx, context, { organizationId, id, most: taken }, GIVER)
  if (taken < 0n) await restoreGrantIn(tx, context, { organizationId, id, most: -taken }, GIVER)
  const { refundedMinor, disputed } = payment
  await setTakenBack(tx, purchase, { refundedMinor, disputed, takenBack: purchase.takenBack + taken })
}

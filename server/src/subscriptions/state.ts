import type { Catalog } from '../catalog/catalog.ts'
import type { Queryable } from '../db/database.ts'
import type { BillingContext } from '../stripe/context.ts'
import type { BillingState, CurrentSubscription, Terms } from './plan-change.ts'
import {
  findAccountSubscription,
  findDebt,
  findScheduledOffer,
  listLiveSubscriptionIds,
  listOffers,
  readHistory,
  type AccountSubscription,
} from './store.ts'

/** Everything that a plan change of an organization depends on, from the mirror. */
export async function readBillingState(context: BillingContext, db: Queryable, organizationId: string): Promise<BillingState> {
  const { catalog } = context.catalogs.current
  const found = await findAccountSubscription(db, organizationId)
  const subscription = found === null || ENDED.has(found.status) ? null : toCurrent(found)
  const live = await listLiveSubscriptionIds(db, organizationId)
  return {
    subscription,
    otherSubscriptionIds: live.filter((id) => id !== subscription?.id),
    debt: await findDebt(db, organizationId),
    scheduledOffer: subscription?.scheduledAt == null ? null : await findScheduledOffer(db, organizationId),
    offers: await listOffers(db, purchasablePlans(catalog)),
    planKeys: new Set(catalog.plans.keys()),
    defaultPlanKey: catalog.defaultPlanKey,
    ...(await readHistory(db, organizationId)),
  }
}

/** Statuses of a subscription that ended for good. */
export const ENDED: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired'])

/** Plans that the present catalog sells. */
export function purchasablePlans(catalog: Catalog): string[] {
  return [...catalog.plans.values()].filter(({ purchasable }) => purchasable).map(({ key }) => key)
}

function toCurrent(found: AccountSubscription): CurrentSubscription {
  return {
    id: found.subscriptionId,
    itemId: found.itemId,
    status: found.status,
    planKey: found.planKey,
    interval: found.interval ?? 'monthly',
    priceId: found.priceId,
    amountMinor: found.amountMinor,
    currency: found.currency,
    quantity: found.quantity,
    currentPeriodStart: found.currentPeriodStart,
    currentPeriodEnd: found.currentPeriodEnd,
    trialEndsAt: found.trialEndsAt,
    cancelAt: found.cancelAt,
    cancelAtPeriodEnd: found.cancelAtPeriodEnd,
    scheduleId: found.scheduleId,
    phaseStartedAt: found.phaseStartedAt,
    scheduledAt: found.scheduledAt,
    scheduled: scheduledTerms(found),
    waitingInvoiceId: found.waitingInvoiceId,
    resumedUnpaid: found.resumedUnpaid,
    collectionPaused: found.pauseBehavior !== null,
    usageItems: found.usageItems,
    billedBalances: found.billedBalances,
    addOnItems: found.addOnItems,
    discountIds: found.discountIds,
    taxRateIds: found.taxRateIds,
    automaticTax: found.automaticTax,
    itemTerms: found.itemTerms,
  }
}

function scheduledTerms({ scheduledPlanKey, scheduledInterval, scheduledQuantity }: AccountSubscription): Terms | null {
  if (scheduledPlanKey === null || scheduledInterval === null || scheduledQuantity === null) return null
  return { planKey: scheduledPlanKey, interval: scheduledInterval, quantity: scheduledQuantity }
}

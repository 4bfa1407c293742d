import { expect } from 'vitest'
import type { BillingState, CurrentSubscription, Offer, PlanChange, PlanChangeRequest } from '../src/subscriptions/plan-change.ts'
import { computePlanChange } from '../src/subscriptions/rules.ts'

// What the tests of plan changes share: what is sold, and an organization in memory that has bought of it or not.

export const at = (day: number) => new Date(Date.UTC(2026, 2, day))
export const now = at(10)
export const offer = (planKey: string, interval: 'monthly' | 'yearly', amountMinor: number): Offer => ({
  planKey,
  interval,
  priceId: `price_${planKey}_${interval}`,
  amountMinor,
  currency: 'usd',
  soldSince: at(1),
  usagePriceIds: [],
  addOnPriceIds: {},
})
export const offers = [
  offer('starter', 'monthly', 900),
  offer('pro', 'monthly', 2900),
  offer('pro', 'yearly', 29_000),
  offer('enterprise', 'monthly', 19_900),
]
export const subscription: CurrentSubscription = {
  id: 'sub_1',
  itemId: 'si_1',
  status: 'active',
  planKey: 'pro',
  interval: 'monthly',
  priceId: 'price_pro_monthly',
  amountMinor: 2900,
  currency: 'usd',
  quantity: 1,
  currentPeriodStart: at(1),
  currentPeriodEnd: at(31),
  trialEndsAt: null,
  cancelAt: null,
  cancelAtPeriodEnd: false,
  scheduleId: null,
  phaseStartedAt: at(1),
  scheduledAt: null,
  scheduled: null,
  waitingInvoiceId: null,
  resumedUnpaid: false,
  collectionPaused: false,
  discountIds: [],
  taxRateIds: [],
  automaticTax: false,
  itemTerms: {},
  usageItems: [],
  billedBalances: {},
  addOnItems: [],
}
export const nobody: BillingState = {
  subscription: null,
  otherSubscriptionIds: [],
  debt: null,
  offers,
  planKeys: new Set(['free', 'starter', 'pro', 'enterprise', 'partner']),
  scheduledOffer: null,
  defaultPlanKey: 'free',
  hasPaymentMethod: false,
  hadSubscription: false,
  hadTrial: false,
}
export const subscribed: BillingState = { ...nobody, subscription, hadSubscription: true, hasPaymentMethod: true }
export const policy = { trialDays: 14, downgradeAt: 'now' as const }
export const compute = (state: BillingState, request: PlanChangeRequest): PlanChange =>
  computePlanChange(state, request, policy, now)
export const coded = (code: string) => expect.objectContaining({ code }) as Error

import type { BillingContext } from '../src/stripe/context.ts'
import { changePlan } from '../src/subscriptions/actions.ts'
import type { PlanChangeRequest } from '../src/subscriptions/plan-change.ts'

export type Purchase = {
  readonly organizationId: string
  /** Default: a card that is never refused. */
  readonly paymentMethodId?: string
}

/** Subscribes an organization to `pro`. */
export async function buyPro(
  context: BillingContext,
  { organizationId, paymentMethodId = 'pm_card_visa' }: Purchase,
): Promise<void> {
  await changeByOperator(context, organizationId, {
    kind: 'subscribe',
    planKey: 'pro',
    interval: null,
    quantity: 1,
    paymentMethodId,
    trialDays: null,
    byOperator: false,
    discount: null,
  })
}

/** To another plan, with its interval and seats as they are. */
export const switchTo = (planKey: string, at: 'now' | 'period_end' | null = 'now') =>
  ({ kind: 'switch', planKey, interval: null, quantity: null, at }) as const

/** A change as an operator and not over HTTP: in a context that may be one whose Stripe fails or whose process dies. */
export async function changeByOperator(
  context: BillingContext,
  organizationId: string,
  request: PlanChangeRequest,
): Promise<void> {
  await changePlan(context, { organizationId, request, prorationAt: null }, { actor: 'operator:test', requestId: 'req_test' })
}

/** Pays on a hosted page as a browser would, with a card that is never refused; 303 says that it is paid. */
export async function payOn(page: string): Promise<Response> {
  const form = new URLSearchParams({ email: 'buyer@example.com', card_number: '4242424242424242', exp: '12/34', cvc: '123' })
  return fetch(page, { method: 'POST', body: form, redirect: 'manual' })
}

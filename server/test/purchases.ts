import type { BillingContext } from '../src/stripe/context.ts'
import { changePlan } from '../src/subscriptions/actions.ts'

export type Purchase = {
  readonly organizationId: string
  /** Default: a card that is never refused. */
  readonly paymentMethodId?: string
}

/** Subscribes an organization to `pro`, as an operator and not over HTTP: in a context that may be one whose Stripe fails or whose process dies. */
export async function buyPro(
  context: BillingContext,
  { organizationId, paymentMethodId = 'pm_card_visa' }: Purchase,
): Promise<void> {
  const request = {
    kind: 'subscribe',
    planKey: 'pro',
    interval: null,
    quantity: 1,
    paymentMethodId,
    trialDays: null,
    byOperator: false,
    discount: null,
  } as const
  await changePlan(context, { organizationId, request, prorationAt: null }, { actor: 'operator:test', requestId: 'req_purchase' })
}

import type { Ctx } from '../engine/context.ts'
import type { PageRequest, PageResponse } from '../http/pages.ts'
import type { StoredSubscription } from '../resources/subscriptions/stored.ts'
import type { FormErrors } from './forms.ts'
import { subscriptionOf, tryWithPortal, withPortal, type Portal } from './portal-session.ts'
import { respondNotFound } from './respond.ts'

/** A page or a deed for one of the customer's subscriptions; a page also shows what was refused before. */
export type Step = (ctx: Ctx, portal: Portal, subscription: StoredSubscription, errors?: FormErrors) => PageResponse

/** A step on a subscription, where the configuration allows the feature. What the deed refuses is shown on the step's page. */
export function step(
  request: PageRequest,
  feature: 'subscription_cancel' | 'subscription_pause',
  show: Step,
  work: Step | null = null,
): PageResponse {
  const guarded =
    (then: Step, errors: FormErrors = {}) =>
    (ctx: Ctx, portal: Portal): PageResponse => {
      const subscription = subscriptionOf(ctx, portal, request)
      const allowed = portal.configuration.features[feature].enabled
      return subscription === null || !allowed ? respondNotFound('subscription') : then(ctx, portal, subscription, errors)
    }
  if (work === null) return withPortal(request, guarded(show))
  return tryWithPortal(request, guarded(work), (ctx, portal, errors, status) => ({
    ...guarded(show, errors)(ctx, portal),
    status,
  }))
}

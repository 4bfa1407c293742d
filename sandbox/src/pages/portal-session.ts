import type { Ctx } from '../engine/context.ts'
import { redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import type { Stored } from '../model/stored.ts'
import { describeMethod } from '../payments/cards.ts'
import { defaultPaymentMethod } from '../payments/payment-methods.ts'
import type { Configuration } from '../payments/portal-configurations.ts'
import { findPortalSession, type PortalSession } from '../payments/portal-sessions.ts'
import { isEnded, type StoredSubscription } from '../resources/subscriptions/stored.ts'
import type { FormErrors } from './forms.ts'
import type { Back } from './portal-flow-view.ts'
import { errorsOf, respondNotFound, segment } from './respond.ts'

/** A portal session as its pages see it. */
export interface Portal {
  readonly session: PortalSession
  readonly configuration: Configuration
  readonly customer: Stored<'customer'>
  /** `/p/session/…` */
  readonly base: string
  /** The flow that the session was made for, until it is done. */
  readonly flow: PortalSession['flow']
}

/** The portal that a request is for; null when the address is unknown or over. */
export function portalOf(ctx: Ctx, request: PageRequest): Portal | null {
  const session = findPortalSession(ctx, segment(request, 'token'))
  const customer = session === null ? undefined : ctx.get('customer', session.customer)
  if (session === null || customer === undefined) return null
  return {
    base: `/p/session/${session._.token}`,
    configuration: ctx.require('billing_portal.configuration', session.configuration),
    customer,
    flow: session._.completed ? null : session.flow,
    session,
  }
}

/** Answers with the portal, or says that there is none. */
export function withPortal(request: PageRequest, work: (ctx: Ctx, portal: Portal) => PageResponse): PageResponse {
  return request.transact((ctx) => {
    const portal = portalOf(ctx, request)
    return portal === null ? respondNotFound('billing session') : work(ctx, portal)
  })
}

/** Does something with the portal; what the API would refuse is shown by `again`, in a transaction of its own. */
export function tryWithPortal(
  request: PageRequest,
  work: (ctx: Ctx, portal: Portal) => PageResponse,
  again: (ctx: Ctx, portal: Portal, errors: FormErrors, status: number) => PageResponse,
): PageResponse {
  try {
    return withPortal(request, work)
  } catch (error) {
    const { errors, status } = errorsOf(error)
    return withPortal(request, (ctx, portal) => again(ctx, portal, errors, status))
  }
}

/** Where the link on top of a step leads: out of a flow to the shop, else to the portal's home. */
export function backOf({ base, flow, session }: Portal): Back {
  return flow === null ? { label: 'Back to billing', url: base } : { label: 'Back to the shop', url: session.return_url }
}

/** What was done, as the address of the home page names it and as the page says it. */
export const notices = {
  canceled: 'The subscription was canceled.',
  cancels: 'The cancellation is scheduled.',
  card: 'The card was saved.',
  changed: 'The plan was changed.',
  discounted: 'The discount was applied.',
  information: 'The information was saved.',
  paused: 'The subscription was paused.',
  renewed: 'The subscription will not be canceled.',
  resumed: 'The subscription was resumed.',
} as const

export type Done = keyof typeof notices

/** Goes on after something was done: as the flow says, or back to the home page with a notice. */
export function goOn(ctx: Ctx, portal: Portal, done: Done): PageResponse {
  const { base, flow, session } = portal
  if (flow === null) return redirect(`${base}?done=${done}`)
  ctx.update('billing_portal.session', session.id, { _: { ...session._, completed: true } })
  switch (flow.after_completion.type) {
    case 'redirect':
      return redirect(flow.after_completion.redirect?.return_url ?? base)
    case 'hosted_confirmation':
      return redirect(`${base}/done?done=${done}`)
    case 'portal_homepage':
      return redirect(`${base}?done=${done}`)
  }
}

/** The customer's running subscription of the address. */
export function subscriptionOf(ctx: Ctx, portal: Portal, request: PageRequest): StoredSubscription | null {
  const subscription = ctx.get('subscription', segment(request, 'subscription'))
  if (subscription === undefined || subscription.customer !== portal.customer.id || isEnded(subscription)) return null
  return subscription
}

/** "Visa ending in 4242" for what the next invoice is charged to; null without a payment method. */
export function methodOnFile(ctx: Ctx, customer: string, subscription: string | null): string | null {
  const id = defaultPaymentMethod(ctx, customer, subscription)
  const method = id === null ? undefined : ctx.get('payment_method', id)
  return method === undefined ? null : describeMethod(method)
}

/** A transaction that is always undone carries its result in an error. */
class Abandoned<T> extends Error {
  readonly value: T

  constructor(value: T) {
    super('A preview is not kept.')
    this.value = value
  }
}

/** Does something for real, reads what came of it, and undoes it: a preview that cannot differ from the deed. */
export function preview<T>(request: PageRequest, work: (ctx: Ctx) => T): T {
  try {
    return request.transact((ctx): never => {
      throw new Abandoned(work(ctx))
    })
  } catch (error) {
    if (error instanceof Abandoned) return error.value as T
    throw error
  }
}

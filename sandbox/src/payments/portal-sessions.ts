import type { Ctx } from '../engine/context.ts'
import { invalidRequest, missing, noSuch } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import { requireCustomer } from '../resources/customers/customer-find.ts'
import { requireUrl } from '../resources/payments/intent-params.ts'
import { isEnded } from '../resources/subscriptions/stored.ts'
import type { Params } from '../wire.gen.ts'
import { portalSessionSeconds } from './inferred.ts'
import { defaultConfiguration, type Configuration } from './portal-configurations.ts'

export type PortalSession = Stored<'billing_portal.session'>
type Flow = NonNullable<PortalSession['flow']>
export const portalSessionTakes = ['configuration', 'customer', 'flow_data', 'locale', 'return_url'] as const
type SessionParams = Pick<Params['POST /v1/billing_portal/sessions'], (typeof portalSessionTakes)[number]>
type FlowData = NonNullable<SessionParams['flow_data']>

const featureOfFlow = {
  customer_update: 'customer_update',
  payment_method_update: 'payment_method_update',
  subscription_cancel: 'subscription_cancel',
  subscription_pause: 'subscription_pause',
  subscription_update: 'subscription_update',
  subscription_update_confirm: 'subscription_update',
} as const

/** A running subscription of the customer. Throws as if another's did not exist. */
export function requireOwnSubscription(ctx: Ctx, customer: string, id: string, param: string): Stored<'subscription'> {
  const subscription = ctx.get('subscription', id)
  if (subscription?.customer !== customer) throw noSuch('subscription', id, param)
  if (isEnded(subscription)) throw invalidRequest(`The subscription ${id} has ended.`, { param })
  return subscription
}

/** What Stripe says when the configuration does not allow a flow. Sources: docs/recordings in public issue threads; other flows worded by us. */
function disabledFlow(type: FlowData['type'], feature: string): string {
  if (feature === 'subscription_update') {
    return 'This subscription cannot be updated because the subscription update feature in the portal configuration is disabled.'
  }
  if (feature === 'subscription_cancel') {
    return 'This subscription cannot be canceled because the subscription cancel feature in the portal configuration is disabled.'
  }
  return `The flow ${type} needs the feature ${feature}, which is disabled in the portal configuration.`
}

function completionOf(flow: FlowData, returnUrl: string | null): Flow['after_completion'] {
  const given = flow.after_completion
  const type = given?.type ?? 'portal_homepage'
  const target = given?.redirect?.return_url ?? returnUrl
  if (type === 'redirect' && target === null) throw missing('flow_data[after_completion][redirect][return_url]')
  requireUrl(given?.redirect?.return_url, 'flow_data[after_completion][redirect][return_url]')
  return {
    hosted_confirmation:
      type === 'hosted_confirmation' ? { custom_message: given?.hosted_confirmation?.custom_message ?? null } : null,
    redirect: type === 'redirect' ? { return_url: target ?? '' } : null,
    type,
  }
}

function isUnchanged(
  subscription: Stored<'subscription'>,
  wish: { id: string; price: string | null; quantity?: number },
): boolean {
  const item = subscription._.items.find(({ id }) => id === wish.id)
  return (wish.price ?? item?.price) === item?.price && (wish.quantity ?? item?.quantity) === item?.quantity
}

/** Stripe answers with an error, not with a page, when a cancellation is pending already. */
function requireUncanceled(ctx: Ctx, id: string): void {
  if (ctx.require('subscription', id).cancel_at === null) return
  throw invalidRequest(`The subscription ${id} is already set to be canceled at period end.`, {
    param: 'flow_data[subscription_cancel][subscription]',
  })
}

function confirmedUpdate(ctx: Ctx, customer: string, flow: FlowData): Flow['subscription_update_confirm'] {
  const given = flow.subscription_update_confirm
  if (given === undefined) throw missing('flow_data[subscription_update_confirm]')
  const at = 'flow_data[subscription_update_confirm]'
  const subscription = requireOwnSubscription(ctx, customer, given.subscription, `${at}[subscription]`)
  if (given.items.length !== 1) throw invalidRequest('Exactly one item must be given.', { param: `${at}[items]` })
  const items = given.items.map((item, index) => {
    if (!subscription._.items.some((known) => known.id === item.id))
      throw noSuch('subscription_item', item.id, `${at}[items][${index}][id]`)
    if (item.price !== undefined) ctx.require('price', item.price, `${at}[items][${index}][price]`)
    return { id: item.id, price: item.price ?? null, ...(item.quantity === undefined ? {} : { quantity: item.quantity }) }
  })
  const discounts = given.discounts?.map(({ coupon = null, promotion_code = null }) => ({ coupon, promotion_code })) ?? null
  if (discounts === null && items.every((item) => isUnchanged(subscription, item))) {
    throw invalidRequest(`Cannot update the subscription ${subscription.id} because there are no changes to confirm.`, {
      param: at,
    })
  }
  return { discounts, items, subscription: subscription.id }
}

function flowOf(ctx: Ctx, customer: string, flow: FlowData, configuration: Configuration, returnUrl: string | null): Flow {
  const feature = featureOfFlow[flow.type]
  if (!configuration.features[feature].enabled) {
    throw invalidRequest(disabledFlow(flow.type, feature), { param: 'flow_data[type]' })
  }
  const own = (given: { subscription: string } | undefined, name: string): { subscription: string } => {
    if (given === undefined) throw missing(`flow_data[${name}]`)
    return { subscription: requireOwnSubscription(ctx, customer, given.subscription, `flow_data[${name}][subscription]`).id }
  }
  const { type } = flow
  const canceled = type === 'subscription_cancel' ? own(flow.subscription_cancel, type) : null
  if (canceled !== null) requireUncanceled(ctx, canceled.subscription)
  const coupon = flow.subscription_cancel?.retention?.coupon_offer.coupon
  if (coupon !== undefined) ctx.require('coupon', coupon, 'flow_data[subscription_cancel][retention][coupon_offer][coupon]')
  const retention = coupon === undefined ? null : { coupon_offer: { coupon }, type: 'coupon_offer' as const }
  return {
    after_completion: completionOf(flow, returnUrl),
    customer_update: type === 'customer_update' ? {} : null,
    subscription_cancel: canceled === null ? null : { retention, ...canceled },
    subscription_pause: type === 'subscription_pause' ? own(flow.subscription_pause, type) : null,
    subscription_update: type === 'subscription_update' ? own(flow.subscription_update, type) : null,
    subscription_update_confirm: type === 'subscription_update_confirm' ? confirmedUpdate(ctx, customer, flow) : null,
    type,
  }
}

/** Opens the portal for a customer. Emits `billing_portal.session.created`. Throws Stripe's errors. */
export function createPortalSession(ctx: Ctx, params: SessionParams): PortalSession {
  if (params.customer === undefined) throw missing('customer')
  requireUrl(params.return_url, 'return_url')
  const customer = requireCustomer(ctx, params.customer, 'customer').id
  const configuration =
    params.configuration === undefined
      ? defaultConfiguration(ctx)
      : ctx.require('billing_portal.configuration', params.configuration, 'configuration')
  if (!configuration.active) throw invalidRequest('The configuration is not active.', { param: 'configuration' })
  const returnUrl = params.return_url ?? configuration.default_return_url
  const token = `test_${ctx.token(40)}`
  return ctx.create(
    'billing_portal.session',
    {
      id: ctx.newId('bps', 24),
      object: 'billing_portal.session',
      configuration: configuration.id,
      created: ctx.now(),
      customer,
      customer_account: null,
      flow: params.flow_data === undefined ? null : flowOf(ctx, customer, params.flow_data, configuration, returnUrl),
      livemode: false,
      locale: params.locale ?? null,
      on_behalf_of: null,
      return_url: returnUrl,
      url: `${ctx.baseUrl}/p/session/${token}`,
      _: { completed: false, token },
    },
    'billing_portal.session.created',
  )
}

/** The open session that an address's token names; null when it is unknown or its time is over. */
export function findPortalSession(ctx: Ctx, token: string): PortalSession | null {
  const session = ctx.store.lastBy('billing_portal.session', 'token', token)
  return session === undefined || session.created + portalSessionSeconds <= ctx.now() ? null : session
}

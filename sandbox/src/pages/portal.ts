import type { Ctx } from '../engine/context.ts'
import { page, redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import { describeMethod } from '../payments/cards.ts'
import { unitAmountOf } from '../resources/catalog/price-terms.ts'
import { methodUnderWay } from '../resources/invoices/collect.ts'
import { isEnded, type StoredSubscription } from '../resources/subscriptions/stored.ts'
import { renderMessage } from './layout.ts'
import { formatInterval, formatUnitPrice } from './money.ts'
import { planOptions } from './portal-plans.ts'
import { notices, portalOf, withPortal, type Done, type Portal } from './portal-session.ts'
import { renderPortalHome, type PortalHomeView, type PortalInvoice, type PortalSubscription } from './portal-view.ts'
import { respond } from './respond.ts'

/** "$29.00 per month", "$5.00 × 3 per month". */
export function priceWords(ctx: Ctx, priceId: string, quantity: number | undefined, currency: string): string {
  const price = ctx.require('price', priceId)
  const unit = unitAmountOf(price, currency)
  const amount = unit === null ? 'Tiered price' : formatUnitPrice(unit, currency)
  const each = price.recurring === null ? '' : ` ${formatInterval(price.recurring.interval, price.recurring.interval_count)}`
  return `${amount}${quantity === undefined || quantity === 1 ? '' : ` × ${quantity}`}${each}`
}

/** The products of a subscription, by name. */
export function subscriptionName(ctx: Ctx, subscription: StoredSubscription): string {
  const names = subscription._.items.map((item) => {
    const price = ctx.require('price', item.price)
    return ctx.get('product', price.product)?.name ?? price.nickname ?? price.id
  })
  return [...new Set(names)].join(', ')
}

function pausedUntil(subscription: StoredSubscription): PortalSubscription['pausedUntil'] {
  if (subscription.status === 'paused') return 'indefinitely'
  if (subscription.pause_collection === null) return null
  return subscription.pause_collection.resumes_at ?? 'indefinitely'
}

function viewOf(ctx: Ctx, portal: Portal, subscription: StoredSubscription): PortalSubscription {
  const { subscription_cancel: cancel, subscription_pause: pause, subscription_update: update } = portal.configuration.features
  const ends = subscription.cancel_at
  const paused = pausedUntil(subscription)
  const changeable = update.enabled && subscription._.items.length === 1 && ends === null && paused === null
  return {
    can: {
      cancel: cancel.enabled && ends === null,
      pause: pause.enabled && ends === null && paused === null && subscription.status === 'active',
      renew: cancel.enabled && ends !== null,
      resume: pause.enabled && paused !== null,
      update: changeable && planOptions(ctx, portal, subscription).length > 0,
    },
    endsAt: ends,
    id: subscription.id,
    name: subscriptionName(ctx, subscription),
    pausedUntil: paused,
    periodEnd: subscription._.items[0]?.current_period_end ?? null,
    prices: subscription._.items.map((item) => priceWords(ctx, item.price, item.quantity, subscription.currency)),
    status: subscription.status,
    trialEnd: subscription.trial_end,
  }
}

function invoicesOf(ctx: Ctx, customer: string): PortalInvoice[] {
  const shown = ctx.store.by('invoice', 'customer', customer).filter((invoice) => invoice.status !== 'draft')
  return shown.toReversed().map((invoice) => ({
    amount: invoice.total,
    createdAt: invoice.created,
    currency: invoice.currency,
    number: invoice.number ?? invoice.id,
    status: methodUnderWay(ctx, invoice.id) === null ? (invoice.status ?? 'open') : 'processing',
    url: invoice.hosted_invoice_url ?? null,
  }))
}

function customerFacts(ctx: Ctx, portal: Portal): PortalHomeView['customer'] {
  const { address, email, id, name, phone } = portal.customer
  const taxIds = ctx.store.by('tax_id', 'customer', id)
  const lines = [address?.line1, address?.line2, address?.postal_code, address?.city, address?.state, address?.country]
  const place = lines.filter((line) => line != null && line !== '').join(', ')
  const facts: ReadonlyArray<readonly [string, string | null | undefined]> = [
    ['Name', name],
    ['E-mail', email],
    ['Phone', phone],
    ['Address', place],
    ['Tax id', taxIds.map(({ value }) => value).join(', ')],
  ]
  return facts.flatMap(([label, value]) => (value == null || value === '' ? [] : [[label, value] as const]))
}

function homeView(ctx: Ctx, portal: Portal, notice: string | null): PortalHomeView {
  const { configuration, customer, session } = portal
  const methods = ctx.store.by('payment_method', 'customer', customer.id)
  const subscriptions = ctx.store.by('subscription', 'customer', customer.id).filter((subscription) => !isEnded(subscription))
  return {
    base: portal.base,
    canUpdateCustomer: configuration.features.customer_update.enabled,
    canUpdatePaymentMethod: configuration.features.payment_method_update.enabled,
    customer: customerFacts(ctx, portal),
    headline: configuration.business_profile.headline,
    invoices: configuration.features.invoice_history.enabled ? invoicesOf(ctx, customer.id) : null,
    notice,
    paymentMethods: methods.map((method) => ({
      expires: method.card === undefined ? null : `${String(method.card.exp_month).padStart(2, '0')}/${method.card.exp_year}`,
      id: method.id,
      isDefault: customer.invoice_settings.default_payment_method === method.id,
      label: describeMethod(method),
    })),
    privacy: configuration.business_profile.privacy_policy_url,
    returnUrl: session.return_url,
    subscriptions: subscriptions.toReversed().map((subscription) => viewOf(ctx, portal, subscription)),
    terms: configuration.business_profile.terms_of_service_url,
  }
}

/** Where a flow begins. */
function flowStart({ base, flow }: Portal): string | null {
  if (flow === null) return null
  const of = (step: { subscription: string } | null, action: string): string =>
    `${base}/subscriptions/${step?.subscription ?? ''}/${action}`
  switch (flow.type) {
    case 'customer_update':
      return `${base}/customer`
    case 'payment_method_update':
      return `${base}/payment-method`
    case 'subscription_cancel':
      return of(flow.subscription_cancel, 'cancel')
    case 'subscription_pause':
      return of(flow.subscription_pause, 'pause')
    case 'subscription_update':
      return of(flow.subscription_update, 'update')
    case 'subscription_update_confirm':
      return of(flow.subscription_update_confirm, 'confirm')
  }
}

function noticeOf(request: PageRequest): string | null {
  const done = request.url.searchParams.get('done')
  return done !== null && done in notices ? notices[done as Done] : null
}

const home = (request: PageRequest): PageResponse =>
  withPortal(request, (ctx, portal) => {
    const start = flowStart(portal)
    return start === null ? respond(renderPortalHome(homeView(ctx, portal, noticeOf(request)))) : redirect(start)
  })

/** The confirmation that a flow may end with. */
const done = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const portal = portalOf(ctx, request)
    const message = portal?.session.flow?.after_completion.hosted_confirmation?.custom_message ?? null
    const text = message ?? noticeOf(request) ?? 'You can close this page.'
    const href = portal?.session.return_url ?? null
    return respond(renderMessage({ link: href === null ? null : { href, label: 'Continue' }, text, title: 'Done' }))
  })

/** The home of the billing portal. */
export const portalPages = [page('GET /p/session/{token}', home), page('GET /p/session/{token}/done', done)]

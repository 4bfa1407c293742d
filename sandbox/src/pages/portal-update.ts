import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { page, type PageRequest, type PageResponse } from '../http/pages.ts'
import { previewRenewal } from '../resources/invoices/upcoming.ts'
import type { StoredSubscription } from '../resources/subscriptions/stored.ts'
import { updateSubscription } from '../resources/subscriptions/update.ts'
import type { FormErrors } from './forms.ts'
import { dueSums, totalSums } from './invoice-sums.ts'
import { renderPlanChoice, renderPlanConfirmation, type ChangePreview } from './portal-flow-view.ts'
import { planOptions, quantityBounds } from './portal-plans.ts'
import { backOf, methodOnFile, goOn, portalOf, preview, subscriptionOf, withPortal, type Portal } from './portal-session.ts'
import { priceWords, subscriptionName } from './portal.ts'
import { errorsOf, respond, respondNotFound, textOf } from './respond.ts'

/** A change that the customer asked for; null keeps what is. */
interface Wish {
  readonly item: string
  readonly price: string
  readonly quantity: number | null
  readonly discounts: ReadonlyArray<{ readonly coupon: string } | { readonly promotion_code: string }>
  /** What the form carries on. */
  readonly fields: ReadonlyArray<readonly [string, string]>
}

type Read = (name: string) => string

function promotionOf(ctx: Ctx, code: string): ReadonlyArray<{ readonly promotion_code: string }> {
  if (code === '') return []
  const found = ctx.store.by('promotion_code', 'code', code.toLowerCase()).find((candidate) => candidate.active)
  if (found === undefined) throw invalidRequest('This code is not valid.', { param: 'promotion_code' })
  return [{ promotion_code: found.id }]
}

function quantityOf(ctx: Ctx, portal: Portal, price: string, text: string): number | null {
  const bounds = quantityBounds(ctx, portal, price)
  if (bounds === null || text === '') return null
  const quantity = Number(text)
  if (!Number.isSafeInteger(quantity) || quantity < bounds.min || (bounds.max !== null && quantity > bounds.max)) {
    const range = bounds.max === null ? `${bounds.min} or more` : `from ${bounds.min} to ${bounds.max}`
    throw invalidRequest(`The quantity must be ${range}.`, { param: 'quantity' })
  }
  return quantity
}

/** The wish that a flow was made for, or the one that the customer chose. Throws when the configuration does not offer it. */
function wishOf(ctx: Ctx, portal: Portal, subscription: StoredSubscription, read: Read): Wish {
  const confirm = portal.flow?.subscription_update_confirm ?? null
  const [asked] = confirm?.items ?? []
  if (confirm !== null && asked !== undefined) {
    const own = subscription._.items.find((item) => item.id === asked.id)
    const discounts = (confirm.discounts ?? []).map(({ coupon, promotion_code }) =>
      promotion_code === null ? { coupon: coupon ?? '' } : { promotion_code },
    )
    return {
      discounts,
      fields: [],
      item: asked.id ?? '',
      price: asked.price ?? own?.price ?? '',
      quantity: asked.quantity ?? own?.quantity ?? null,
    }
  }
  const own = subscription._.items[0]
  const price = read('price') || (own?.price ?? '')
  if (!planOptions(ctx, portal, subscription).some((option) => option.price === price)) {
    throw invalidRequest('This plan is not offered.', { param: 'price' })
  }
  const quantity = quantityOf(ctx, portal, price, read('quantity')) ?? own?.quantity ?? null
  const fields = ['price', 'quantity', 'promotion_code']
    .map((name) => [name, read(name)] as const)
    .filter(([, value]) => value !== '')
  return { discounts: promotionOf(ctx, read('promotion_code')), fields, item: own?.id ?? '', price, quantity }
}

function carryOut(
  ctx: Ctx,
  portal: Portal,
  subscription: StoredSubscription,
  wish: Wish,
  payment_behavior: 'allow_incomplete' | 'error_if_incomplete',
): void {
  const { billing_cycle_anchor, proration_behavior, trial_update_behavior } = portal.configuration.features.subscription_update
  const endsTrial = subscription.status === 'trialing' && trial_update_behavior === 'end_trial'
  const discounts = [...subscription.discounts.map((discount) => ({ discount })), ...wish.discounts]
  updateSubscription(
    ctx,
    subscription.id,
    defined({
      billing_cycle_anchor: billing_cycle_anchor === null ? undefined : { type: billing_cycle_anchor },
      discounts: wish.discounts.length === 0 ? undefined : discounts,
      items: [defined({ id: wish.item, price: wish.price, quantity: wish.quantity ?? undefined })],
      payment_behavior,
      proration_behavior,
      trial_end: endsTrial ? ('now' as const) : undefined,
    }),
  )
}

/** What the change would come to: it is made, read and undone. */
function changePreview(ctx: Ctx, portal: Portal, subscription: StoredSubscription, wish: Wish): ChangePreview {
  const known = new Set(ctx.store.by('invoiceitem', 'pending', subscription.customer).map((item) => item.id))
  carryOut(ctx, portal, subscription, wish, 'allow_incomplete')
  const after = ctx.require('subscription', subscription.id)
  const invoice =
    after.latest_invoice === subscription.latest_invoice || after.latest_invoice === null
      ? null
      : ctx.require('invoice', after.latest_invoice)
  const pending = ctx.store.by('invoiceitem', 'pending', subscription.customer).filter((item) => !known.has(item.id))
  const renewal = previewRenewal(ctx, after)
  const lines = (invoice === null ? pending : invoice._.lines).map(({ amount, description }) => ({
    amount,
    description: description ?? '',
  }))
  const sums = invoice === null ? [] : [...totalSums(invoice), ...dueSums(invoice)]
  return {
    currency: subscription.currency,
    dueNow: invoice?.amount_due ?? 0,
    effectiveAt: null,
    lines: [...lines, ...sums.map(({ amount, label }) => ({ amount, description: label }))],
    linesWait: invoice === null && pending.length > 0,
    nextInvoice: renewal === null ? null : { amount: renewal.amount_due, at: renewal.period_end },
  }
}

const choose = (request: PageRequest, errors: FormErrors = {}, status = 200): PageResponse =>
  withPortal(request, (ctx, portal) => {
    const subscription = subscriptionOf(ctx, portal, request)
    if (subscription === null) return respondNotFound('subscription')
    const own = subscription._.items[0]
    const bounds = own === undefined ? null : quantityBounds(ctx, portal, own.price)
    const { default_allowed_updates: allowed } = portal.configuration.features.subscription_update
    const asked = request.url.searchParams.get('price')
    const content = renderPlanChoice({
      action: `${portal.base}/subscriptions/${subscription.id}/confirm`,
      back: backOf(portal),
      chosen: asked ?? own?.price ?? null,
      errors,
      options: planOptions(ctx, portal, subscription),
      promotionCode: allowed.includes('promotion_code'),
      quantity: bounds === null ? null : { min: bounds.min, value: own?.quantity ?? 1 },
    })
    return respond(content, status)
  })

function renderConfirmation(
  ctx: Ctx,
  portal: Portal,
  subscription: StoredSubscription,
  wish: Wish,
  change: ChangePreview,
  errors: FormErrors,
  status: number,
): PageResponse {
  const own = subscription._.items.find((item) => item.id === wish.item)
  const to = ctx.require('price', wish.price)
  const name = ctx.get('product', to.product)?.name ?? to.nickname ?? to.id
  const back =
    portal.flow === null
      ? { label: 'Back to the plans', url: `${portal.base}/subscriptions/${subscription.id}/update` }
      : backOf(portal)
  const content = renderPlanConfirmation({
    action: `${portal.base}/subscriptions/${subscription.id}/confirm`,
    back,
    methodOnFile: methodOnFile(ctx, portal.customer.id, subscription.id),
    errors,
    from: `${subscriptionName(ctx, subscription)}, ${own === undefined ? '' : priceWords(ctx, own.price, own.quantity, subscription.currency)}`,
    hidden: wish.fields,
    preview: change,
    to: `${name}, ${priceWords(ctx, wish.price, wish.quantity ?? undefined, subscription.currency)}`,
  })
  return respond(content, status)
}

/** The change with its amounts; what cannot be asked for leads back to the choice with the reason. */
function showConfirmation(request: PageRequest, read: Read, errors: FormErrors = {}, status = 200): PageResponse {
  try {
    const change = preview(request, (ctx) => {
      const portal = portalOf(ctx, request)
      const subscription = portal === null ? null : subscriptionOf(ctx, portal, request)
      if (portal === null || subscription === null) return null
      return changePreview(ctx, portal, subscription, wishOf(ctx, portal, subscription, read))
    })
    return withPortal(request, (ctx, portal) => {
      const subscription = subscriptionOf(ctx, portal, request)
      if (subscription === null || change === null) return respondNotFound('subscription')
      const wish = wishOf(ctx, portal, subscription, read)
      return renderConfirmation(ctx, portal, subscription, wish, change, errors, status)
    })
  } catch (error) {
    const refused = errorsOf(error)
    return choose(request, refused.errors, refused.status)
  }
}

const confirm = (request: PageRequest): PageResponse =>
  showConfirmation(request, (name) => request.url.searchParams.get(name)?.trim() ?? '')

/** Makes the change; a declined card leaves everything as it was, and the page says why. */
const change = (request: PageRequest): PageResponse => {
  const read: Read = (name) => textOf(request.form, name)
  try {
    return withPortal(request, (ctx, portal) => {
      const subscription = subscriptionOf(ctx, portal, request)
      if (subscription === null) return respondNotFound('subscription')
      carryOut(ctx, portal, subscription, wishOf(ctx, portal, subscription, read), 'error_if_incomplete')
      return goOn(ctx, portal, 'changed')
    })
  } catch (error) {
    const { errors, status } = errorsOf(error)
    return showConfirmation(request, read, errors, status)
  }
}

/** Changing the plan: choose, see what it comes to, confirm. */
export const portalUpdatePages = [
  page('GET /p/session/{token}/subscriptions/{subscription}/update', (request) => choose(request)),
  page('GET /p/session/{token}/subscriptions/{subscription}/confirm', confirm),
  page('POST /p/session/{token}/subscriptions/{subscription}/confirm', change),
]

import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { page, type PageRequest, type PageResponse } from '../http/pages.ts'
import { cancelSubscription } from '../resources/subscriptions/cancel.ts'
import type { StoredSubscription } from '../resources/subscriptions/stored.ts'
import { updateSubscription } from '../resources/subscriptions/update.ts'
import type { FormErrors } from './forms.ts'
import { renderOption } from './forms.ts'
import { html, type Html } from './html.ts'
import { formatDate } from './money.ts'
import { renderDecision } from './portal-flow-view.ts'
import { backOf, goOn, type Portal } from './portal-session.ts'
import { step, type Step } from './portal-step.ts'
import { subscriptionName } from './portal.ts'
import { respond, textOf } from './respond.ts'

type Reason = Portal['configuration']['features']['subscription_cancel']['cancellation_reason']['options'][number]

const reasonWords: Readonly<Record<Reason, string>> = {
  customer_service: 'Customer service was less than expected',
  low_quality: 'The quality was less than expected',
  missing_features: 'Some features are missing',
  other: 'Another reason',
  switched_service: 'I am switching to a different service',
  too_complex: 'It is too complex',
  too_expensive: 'It is too expensive',
  unused: 'I do not use it enough',
}

function reasonQuestions(portal: Portal): Html | null {
  const { cancellation_reason: reason } = portal.configuration.features.subscription_cancel
  if (!reason.enabled) return null
  return html`<fieldset>
      <legend>Why do you cancel?</legend>
      ${reason.options.map((option) =>
        renderOption({ checked: false, label: reasonWords[option], name: 'feedback', required: false, value: option }),
      )}
    </fieldset>
    <div class="field">
      <label for="comment">Anything else <span class="quiet">(optional)</span></label>
      <textarea id="comment" name="comment" rows="3" maxlength="500"></textarea>
    </div>`
}

/** The coupon with which a flow tries to keep the customer. */
function retentionOf(ctx: Ctx, portal: Portal): { readonly coupon: string; readonly words: string } | null {
  const offer = portal.flow?.subscription_cancel?.retention?.coupon_offer
  const coupon = offer?.coupon == null ? undefined : ctx.get('coupon', offer.coupon)
  return coupon === undefined ? null : { coupon: coupon.id, words: coupon.name ?? coupon.id }
}

function show(ctx: Ctx, portal: Portal, subscription: StoredSubscription, errors: FormErrors, status = 200): PageResponse {
  const name = subscriptionName(ctx, subscription)
  const atEnd = portal.configuration.features.subscription_cancel.mode === 'at_period_end'
  const end = Math.max(...subscription._.items.map((item) => item.current_period_end))
  const offer = retentionOf(ctx, portal)
  const stay =
    offer && html`<p><button class="plain" name="action" value="stay" formnovalidate>Stay, with ${offer.words}</button></p>`
  const content = renderDecision({
    back: backOf(portal),
    confirm: 'Cancel subscription',
    danger: true,
    errors,
    questions: html`${stay}${reasonQuestions(portal)}`,
    text: atEnd
      ? `${name} can be used until ${formatDate(end)}, and then ends. Nothing more is charged.`
      : `${name} ends now.${portal.configuration.features.subscription_cancel.proration_behavior === 'none' ? ' What was paid is not given back.' : ' The time that is left is credited.'}`,
    title: `Cancel ${name}`,
  })
  return respond(content, status)
}

function detailsOf(portal: Portal, request: PageRequest): { feedback?: Reason; comment?: string } {
  const { cancellation_reason: reason } = portal.configuration.features.subscription_cancel
  if (!reason.enabled) return {}
  const comment = textOf(request.form, 'comment')
  const feedback = reason.options.find((option) => option === textOf(request.form, 'feedback'))
  return defined({ comment: comment === '' ? undefined : comment.slice(0, 500), feedback })
}

/** Cancels as the configuration says. A subscription in flexible billing mode gets the date, one in classic mode the flag, as on Stripe. */
function cancel(ctx: Ctx, portal: Portal, subscription: StoredSubscription, request: PageRequest): PageResponse {
  const { mode, proration_behavior } = portal.configuration.features.subscription_cancel
  const cancellation_details = detailsOf(portal, request)
  if (mode === 'immediately') {
    const prorate = proration_behavior !== 'none'
    cancelSubscription(ctx, subscription.id, {
      cancellation_details,
      invoice_now: proration_behavior === 'always_invoice',
      prorate,
    })
    return goOn(ctx, portal, 'canceled')
  }
  const flexible = subscription.billing_mode.type === 'flexible'
  const when = flexible ? ({ cancel_at: 'max_period_end' } as const) : ({ cancel_at_period_end: true } as const)
  updateSubscription(ctx, subscription.id, { ...when, cancellation_details })
  return goOn(ctx, portal, 'cancels')
}

function stay(ctx: Ctx, portal: Portal, subscription: StoredSubscription): PageResponse | null {
  const offer = retentionOf(ctx, portal)
  if (offer === null) return null
  const discounts = [...subscription.discounts.map((discount) => ({ discount })), { coupon: offer.coupon }]
  updateSubscription(ctx, subscription.id, { discounts })
  return goOn(ctx, portal, 'discounted')
}

const showCancel: Step = (ctx, portal, subscription, errors = {}) => show(ctx, portal, subscription, errors)

const doCancel = (request: PageRequest): PageResponse =>
  step(request, 'subscription_cancel', showCancel, (ctx, portal, subscription) => {
    const kept = textOf(request.form, 'action') === 'stay' ? stay(ctx, portal, subscription) : null
    return kept ?? cancel(ctx, portal, subscription, request)
  })

const showRenew: Step = (ctx, portal, subscription, errors = {}) =>
  respond(
    renderDecision({
      back: backOf(portal),
      confirm: 'Do not cancel',
      errors,
      text: `${subscriptionName(ctx, subscription)} goes on as before, and is charged at its next renewal.`,
      title: `Keep ${subscriptionName(ctx, subscription)}`,
    }),
  )

const doRenew: Step = (ctx, portal, subscription) => {
  updateSubscription(ctx, subscription.id, { cancel_at: '' })
  return goOn(ctx, portal, 'renewed')
}

const base = '/p/session/{token}/subscriptions/{subscription}' as const

/** Canceling, and undoing it while the subscription still runs. */
export const portalCancelPages = [
  page(`GET ${base}/cancel`, (request) => step(request, 'subscription_cancel', showCancel)),
  page(`POST ${base}/cancel`, doCancel),
  page(`GET ${base}/renew`, (request) => step(request, 'subscription_cancel', showRenew)),
  page(`POST ${base}/renew`, (request) => step(request, 'subscription_cancel', showRenew, doRenew)),
]

import type { Ctx } from '../engine/context.ts'
import { page, redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import { challengeUrl, confirmIntent, settle } from '../payments/confirm.ts'
import { createPaymentMethod } from '../payments/payment-methods.ts'
import { confirmSetupIntent, type SetupConfirmed } from '../payments/setup-intents.ts'
import type { PaymentIntent } from '../payments/payment-intents.ts'
import type { SetupIntent } from '../payments/setup-intents.ts'
import { intentOfSecret, returnTarget } from './challenge.ts'
import type { FormErrors } from './forms.ts'
import { linkTarget } from './html.ts'
import { errorsOf, readCard, respond, respondNotFound, segment, textOf } from './respond.ts'
import { renderIntentDone, renderIntentForm } from './setup-view.ts'

type Intent = PaymentIntent | SetupIntent

function form(intent: Intent, exp: string, errors: FormErrors, status = 200): PageResponse {
  const payment = intent.object === 'payment_intent' ? { amount: intent.amount, currency: intent.currency } : null
  return respond(renderIntentForm({ description: intent.description, errors, exp, payment }), status)
}

const doneState = (intent: Intent) => (intent.object === 'payment_intent' ? 'paid' : 'saved')

function finished(intent: Intent): PageResponse | null {
  if (intent.status === 'succeeded' || intent.status === 'requires_capture') return respond(renderIntentDone(doneState(intent)))
  if (intent.status === 'canceled') return respond(renderIntentDone('canceled'), 410)
  return intent.status === 'processing' ? respond(renderIntentDone('processing')) : null
}

function show(request: PageRequest): PageResponse {
  return request.transact((ctx) => {
    const intent = intentOfSecret(ctx, segment(request, 'secret'))
    if (intent === null) return respondNotFound('payment or set-up')
    return finished(intent) ?? form(intent, '', {})
  })
}

/** The way back that the address carries, as Stripe.js takes it with `confirmSetup`. */
function returnUrlOf(request: PageRequest): string | null {
  const given = request.url.searchParams.get('return_url')
  return given === null ? null : linkTarget(given)
}

type Confirmed = { readonly kind: 'succeeded' | 'requires_action' } | { readonly kind: 'declined'; readonly message: string }

function messageOf(confirmed: SetupConfirmed & { kind: 'declined' }): string {
  const { message } = confirmed.error
  return typeof message === 'string' ? message : 'Your card was declined.'
}

function confirm(ctx: Ctx, intent: Intent, method: string, returnUrl: string | null): Confirmed {
  if (intent.object === 'setup_intent') {
    const confirmed = confirmSetupIntent(ctx, intent.id, { authenticated: false, paymentMethod: method, returnUrl })
    return confirmed.kind === 'declined' ? { kind: 'declined', message: messageOf(confirmed) } : { kind: confirmed.kind }
  }
  const confirmed = confirmIntent(ctx, intent.id, { authenticated: false, offSession: false, paymentMethod: method, returnUrl })
  settle(ctx, confirmed)
  if (confirmed.kind === 'declined') return { kind: 'declined', message: confirmed.decline.message }
  return { kind: confirmed.kind === 'requires_action' ? 'requires_action' : 'succeeded' }
}

function submit(request: PageRequest): PageResponse {
  const secret = segment(request, 'secret')
  const exp = textOf(request.form, 'exp')
  const card = readCard(request.form)
  const again = (errors: FormErrors, status: number): PageResponse =>
    request.transact((ctx) => {
      const intent = intentOfSecret(ctx, secret)
      return intent === null ? respondNotFound('payment or set-up') : form(intent, exp, errors, status)
    })
  try {
    const outcome = request.transact((ctx): PageResponse | Confirmed => {
      const intent = intentOfSecret(ctx, secret)
      if (intent === null) return respondNotFound('payment or set-up')
      const over = finished(intent)
      if (over !== null) return over
      if ('errors' in card) return form(intent, exp, card.errors, 400)
      const method = createPaymentMethod(ctx, { card: card.card })
      const confirmed = confirm(ctx, intent, method.id, returnUrlOf(request))
      if (confirmed.kind === 'declined') return confirmed
      if (confirmed.kind === 'requires_action') return redirect(challengeUrl(ctx, intent.client_secret))
      const target = returnTarget(intentOfSecret(ctx, secret) ?? intent, 'succeeded')
      return target === null ? respond(renderIntentDone(doneState(intent))) : redirect(target)
    })
    if (!('kind' in outcome)) return outcome
    const words = 'message' in outcome ? outcome.message : ''
    return again({ form: `${words} Enter the card again, or use another one.` }, 402)
  } catch (error) {
    const { errors, status } = errorsOf(error)
    return again(errors, status)
  }
}

/**
 * The form that stands where Stripe.js would: `/setup/{client_secret}?return_url=…` for set-ups, and `/pay/{client_secret}` for payments.
 */
export const setupPages = [
  page('GET /setup/{secret}', show),
  page('POST /setup/{secret}', submit),
  page('GET /pay/{secret}', show),
  page('POST /pay/{secret}', submit),
]

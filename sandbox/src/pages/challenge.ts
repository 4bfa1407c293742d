import type { Ctx } from '../engine/context.ts'
import { page, redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import { describeMethod } from '../payments/cards.ts'
import { answerChallenge } from '../payments/confirm.ts'
import type { PaymentIntent } from '../payments/payment-intents.ts'
import { answerSetupChallenge, type SetupIntent } from '../payments/setup-intents.ts'
import { renderChallenge, renderChallengeDone } from './challenge-view.ts'
import { linkTarget } from './html.ts'
import { respond, segment, textOf } from './respond.ts'

type Intent = PaymentIntent | SetupIntent

/** The intent that a client secret names; the part before `_secret_` is its id. */
export function intentOfSecret(ctx: Ctx, secret: string): Intent | null {
  const id = secret.split('_secret_')[0] ?? ''
  const intent = id.startsWith('seti_') ? ctx.get('setup_intent', id) : ctx.get('payment_intent', id)
  return intent?.client_secret === secret ? intent : null
}

/** Where the holder goes on: the return URL with what Stripe adds to it. Null where there is no way back. */
export function returnTarget(intent: Intent, status: 'succeeded' | 'failed' | 'requires_action'): string | null {
  const target = intent._.returnUrl === null ? null : linkTarget(intent._.returnUrl)
  if (target === null) return null
  const url = new URL(target)
  url.searchParams.set(intent.object, intent.id)
  url.searchParams.set(`${intent.object}_client_secret`, intent.client_secret ?? '')
  url.searchParams.set('redirect_status', status)
  return url.href
}

function isOpen(intent: Intent): boolean {
  return intent.object === 'payment_intent' ? intent._.challenged : intent.status === 'requires_action'
}

function show(request: PageRequest): PageResponse {
  return request.transact((ctx) => {
    const intent = intentOfSecret(ctx, segment(request, 'secret'))
    const method = intent?.payment_method == null ? undefined : ctx.get('payment_method', intent.payment_method)
    if (intent === null || !isOpen(intent) || method?.card === undefined) return respond(renderChallengeDone('over'), 410)
    const payment = intent.object === 'payment_intent' ? { amount: intent.amount, currency: intent.currency } : null
    return respond(renderChallenge({ card: describeMethod(method), payment }))
  })
}

/** Answers the challenge of either kind of intent; true when the payment or set-up went through. */
function settleChallenge(ctx: Ctx, intent: Intent, outcome: 'complete' | 'fail'): boolean {
  const { kind } =
    intent.object === 'payment_intent' ? answerChallenge(ctx, intent.id, outcome) : answerSetupChallenge(ctx, intent.id, outcome)
  return kind === 'succeeded' || kind === 'requires_capture'
}

function answer(request: PageRequest): PageResponse {
  const outcome = textOf(request.form, 'outcome') === 'complete' ? 'complete' : 'fail'
  return request.transact((ctx) => {
    const intent = intentOfSecret(ctx, segment(request, 'secret'))
    if (intent === null || !isOpen(intent)) return respond(renderChallengeDone('over'), 410)
    const succeeded = settleChallenge(ctx, intent, outcome)
    const target = returnTarget(intent, succeeded ? 'succeeded' : 'failed')
    if (target !== null) return redirect(target)
    return respond(renderChallengeDone(succeeded ? 'succeeded' : 'failed'), succeeded ? 200 : 402)
  })
}

/** The 3D Secure page of intents. */
export const challengePages = [page('GET /3ds/{secret}', show), page('POST /3ds/{secret}', answer)]

import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import type { FormObject } from '../http/form.ts'
import { page, redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import { describeMethod } from '../payments/cards.ts'
import {
  answerSessionChallenge,
  asksForCard,
  submitSession,
  type Completion,
  type Submission,
} from '../payments/checkout-complete.ts'
import { sameJson } from '../engine/difference.ts'
import { contentOf, problemWithAnswer } from '../payments/checkout-fields.ts'
import { applyPromotionCode, removePromotionCode } from '../payments/checkout-promotion.ts'
import { amountsPatch, totalsOf, trialOf, type Session, type SessionTotals } from '../payments/checkout-totals.ts'
import { createPaymentMethod } from '../payments/payment-methods.ts'
import { isMetered, unitAmountOf } from '../resources/catalog/price-terms.ts'
import { renderChallenge, renderChallengeDone } from './challenge-view.ts'
import { addressOfBilling, asksForBilling, billingErrors, billingOf, collectedOf, knownBilling } from './checkout-billing.ts'
import { renderCheckout, renderClosedCheckout, type BillingInput, type CheckoutLine, type CheckoutView } from './checkout-view.ts'
import type { FormErrors } from './forms.ts'
import { formatInterval, formatMoney, formatUnitPrice } from './money.ts'
import { errorsOf, readCard, respond, respondNotFound, segment, textOf } from './respond.ts'

/** Where the visitor goes when the page is paid: the success URL, with the session's id written into it. */
export function successUrl(session: Session): string {
  return (session.success_url ?? '').replaceAll('{CHECKOUT_SESSION_ID}', session.id)
}

function unitPrice(price: Parameters<typeof unitAmountOf>[0], currency: string): string {
  const unit = unitAmountOf(price, currency)
  const amount = unit === null ? 'Tiered price' : formatUnitPrice(unit, currency)
  const { recurring } = price
  const each = recurring === null ? '' : ` ${formatInterval(recurring.interval, recurring.interval_count)}`
  return isMetered(price) ? `${amount} per unit used, billed${each}` : `${amount}${each}`
}

function linesOf(ctx: Ctx, session: Session, totals: SessionTotals): CheckoutLine[] {
  return session._.items.map((item, index) => {
    const price = ctx.require('price', item.price)
    const product = ctx.get('product', price.product)
    return {
      amount: totals.lines[index]?.amount ?? 0,
      description: product?.description ?? null,
      name: product?.name ?? price.nickname ?? 'Item',
      quantity: isMetered(price) ? null : item.quantity,
      unitPrice: unitPrice(price, session.currency ?? price.currency),
    }
  })
}

function recurringWords(ctx: Ctx, session: Session): string | null {
  const prices = session._.items.map((item) => ctx.require('price', item.price).recurring)
  const first = prices.find((recurring) => recurring !== null)
  return first == null ? null : formatInterval(first.interval, first.interval_count)
}

/** What the subscription costs each period once the trial is over. */
function afterTrial(ctx: Ctx, session: Session): string {
  const { trial_end: _end, trial_period_days: _days, ...rest } = session._.subscriptionData
  const full = totalsOf(ctx, { ...session, _: { ...session._, subscriptionData: rest } })
  return `${formatMoney(full.total, session.currency ?? 'usd')} ${recurringWords(ctx, session) ?? ''}`.trim()
}

function quantitiesOf(ctx: Ctx, session: Session): CheckoutView['quantities'] {
  return session._.items.flatMap((item) => {
    if (item.adjustable?.enabled !== true) return []
    const product = ctx.get('product', ctx.require('price', item.price).product)
    return [{ item: item.id, min: item.adjustable.minimum ?? 1, name: product?.name ?? 'item', quantity: item.quantity }]
  })
}

/** What the visitor typed, to be shown again; card number and code are not among it. */
interface Typed {
  readonly email?: string
  readonly exp?: string
  readonly promotionCode?: string
  readonly answers?: Readonly<Record<string, string>>
  readonly billing?: BillingInput
}

/** Nobody can pay before it is known how much the tax is. */
const awaitsAddress = (totals: SessionTotals | null): boolean => totals?.automaticTax.status === 'requires_location_inputs'

function viewOf(ctx: Ctx, session: Session, typed: Typed, errors: FormErrors): CheckoutView {
  const totals = session.mode === 'setup' ? null : totalsOf(ctx, session)
  const trial = trialOf(ctx, session)
  const known = session.customer === null ? session.customer_email : (ctx.get('customer', session.customer)?.email ?? null)
  const code = session._.promotionCode
  return {
    action: `/c/pay/${session.id}`,
    afterSubmit: session.custom_text.after_submit?.message ?? null,
    appliedPromotionCode: code === null ? null : ctx.require('promotion_code', code).code,
    asksForCard: asksForCard(session, totals),
    asksForPromotionCode: session.allow_promotion_codes === true,
    asksForTaxId: session.tax_id_collection?.enabled === true,
    awaitsAddress: awaitsAddress(totals),
    billing: asksForBilling(session) ? (typed.billing ?? knownBilling(ctx, session)) : null,
    billingRequired: session.billing_address_collection === 'required',
    cancelUrl: session.cancel_url,
    currency: session.currency ?? 'usd',
    customFields: session.custom_fields.map((field) => ({
      key: field.key,
      label: field.label.custom ?? field.key,
      maximum: contentOf(field).maximum,
      numeric: field.numeric !== undefined,
      optional: field.optional,
      options: field.dropdown?.options ?? null,
      value: typed.answers?.[field.key] ?? contentOf(field).initial ?? '',
    })),
    discounts: (totals?.discounts ?? []).map(({ amount, coupon }) => ({ amount, label: coupon.name ?? coupon.id })),
    email: { fixed: known !== null, value: known ?? typed.email ?? '' },
    errors,
    exp: typed.exp ?? '',
    lines: totals === null ? [] : linesOf(ctx, session, totals),
    mode: session.mode,
    notice: null,
    promotionCode: typed.promotionCode ?? '',
    quantities: quantitiesOf(ctx, session),
    recurring: session.mode === 'subscription' ? recurringWords(ctx, session) : null,
    submitNote: session.custom_text.submit?.message ?? null,
    submitType: session.submit_type,
    subtotal: totals?.subtotal ?? 0,
    includedTax: totals?.includedTax ?? 0,
    isTaxed: session.automatic_tax.enabled,
    tax: totals?.tax ?? 0,
    total: totals?.total ?? 0,
    trial: trial === null ? null : { ...trial, thenEach: afterTrial(ctx, session) },
  }
}

function closed(session: Session): PageResponse {
  return session.status === 'complete'
    ? respond(renderClosedCheckout({ continueUrl: successUrl(session), status: 'complete' }))
    : respond(renderClosedCheckout({ continueUrl: session.cancel_url, status: 'expired' }), 410)
}

function show(request: PageRequest): PageResponse {
  return request.transact((ctx) => {
    const session = ctx.get('checkout.session', segment(request, 'session'))
    if (session === undefined) return respondNotFound('checkout')
    return session.status === 'open' ? respond(renderCheckout(viewOf(ctx, session, {}, {}))) : closed(session)
  })
}

function answersOf(session: Session, form: FormObject): Record<string, string> {
  return Object.fromEntries(session.custom_fields.map((field) => [field.key, textOf(form, `custom_${field.key}`)]))
}

/** What is wrong with the form before any bank is asked. */
function formErrors(view: CheckoutView, session: Session, form: FormObject): FormErrors {
  const errors: Record<string, string> = {}
  if (!view.email.fixed && !/^[^\s@]+@[^\s@]+$/.test(view.email.value)) {
    errors['email'] = view.email.value === '' ? 'Enter an e-mail address.' : 'Enter an e-mail address such as name@example.com.'
  }
  const answers = answersOf(session, form)
  for (const field of session.custom_fields) {
    const problem = problemWithAnswer(field, answers[field.key] ?? '')
    if (problem !== null) errors[`custom_${field.key}`] = problem
  }
  const card = view.asksForCard ? readCard(form) : null
  const cardErrors = card !== null && 'errors' in card ? card.errors : {}
  return { ...errors, ...(view.billing === null ? {} : billingErrors(session, view.billing)), ...cardErrors }
}

function submissionOf(ctx: Ctx, session: Session, view: CheckoutView, form: FormObject): Submission {
  const { billing, email } = view
  const card = view.asksForCard ? readCard(form) : null
  const name = billing?.name || null
  const address = billing === null ? null : addressOfBilling(billing)
  const details = {
    address: address === null ? {} : withoutNulls(address),
    email: email.value,
    ...(name === null ? {} : { name }),
  }
  const method = card !== null && 'card' in card ? createPaymentMethod(ctx, { billing_details: details, card: card.card }) : null
  return {
    address,
    answers: answersOf(session, form),
    authenticated: false,
    email: email.value,
    name,
    paymentMethod: method?.id ?? null,
  }
}

function withoutNulls(address: Readonly<Record<string, string | null>>): Record<string, string> {
  return Object.fromEntries(Object.entries(address).filter((entry): entry is [string, string] => entry[1] !== null))
}

function typedOf(session: Session, form: FormObject): Typed {
  return {
    answers: answersOf(session, form),
    billing: billingOf(form),
    email: textOf(form, 'email'),
    exp: textOf(form, 'exp'),
    promotionCode: textOf(form, 'promotion_code'),
  }
}

function afterCompletion(completion: Completion, again: (errors: FormErrors, status: number) => PageResponse): PageResponse {
  switch (completion.kind) {
    case 'complete':
      return redirect(successUrl(completion.session))
    case 'challenge':
      return redirect(`/c/pay/${completion.session.id}/authenticate`)
    case 'declined':
      return again({ form: `${completion.decline.message} Nothing was paid. Enter the card again, or use another one.` }, 402)
  }
}

/** The promotion code field: its own buttons, and whatever stands in it when the visitor pays. */
function changePromotion(ctx: Ctx, session: Session, form: FormObject): Session {
  const action = textOf(form, 'action')
  const code = textOf(form, 'promotion_code')
  if (session.allow_promotion_codes !== true) return session
  if (action === 'remove_promotion_code') return withAmounts(ctx, removePromotionCode(ctx, session))
  return code === '' || session._.promotionCode !== null ? session : withAmounts(ctx, applyPromotionCode(ctx, session, code))
}

/** Takes the quantities that the visitor asks for, within what the session allows. Throws with the field's name. */
function changeQuantities(ctx: Ctx, session: Session, form: FormObject): Session {
  const items = session._.items.map((item) => {
    const text = textOf(form, `quantity_${item.id}`)
    if (item.adjustable?.enabled !== true || text === '') return item
    const { maximum, minimum } = item.adjustable
    const [least, most] = [minimum ?? 1, maximum ?? 99]
    const quantity = Number(text)
    if (Number.isSafeInteger(quantity) && quantity >= least && quantity <= most) return { ...item, quantity }
    throw invalidRequest(`Enter a quantity from ${least} to ${most}.`, { param: `quantity_${item.id}` })
  })
  const same = items.every((item, index) => item.quantity === session._.items[index]?.quantity)
  return same ? session : withAmounts(ctx, ctx.update('checkout.session', session.id, { _: { ...session._, items } }))
}

function withAmounts(ctx: Ctx, session: Session): Session {
  return ctx.update('checkout.session', session.id, amountsPatch(totalsOf(ctx, session)))
}

/** Takes what the visitor says of where they are, where it is as it should be. */
function changeBilling(ctx: Ctx, session: Session, form: FormObject): Session {
  const action = textOf(form, 'action')
  const isSaid = action === 'set_address' || !onlyChanges.has(action)
  if (!isSaid || session.mode === 'setup' || !asksForBilling(session)) return session
  const billing = billingOf(form)
  if (Object.keys(billingErrors(session, billing)).length > 0) return session
  const collected = collectedOf(session, billing)
  if (sameJson(collected, session._.collected)) return session
  return withAmounts(ctx, ctx.update('checkout.session', session.id, { _: { ...session._, collected } }))
}

/** Buttons that change the order and do not pay it. */
const onlyChanges = new Set(['apply_promotion_code', 'remove_promotion_code', 'set_address', 'update_quantities'])

function submit(request: PageRequest): PageResponse {
  const id = segment(request, 'session')
  const again = (errors: FormErrors, status: number): PageResponse =>
    request.transact((ctx) => {
      const session = ctx.require('checkout.session', id)
      return respond(renderCheckout(viewOf(ctx, session, typedOf(session, request.form), errors)), status)
    })
  try {
    const outcome = request.transact((ctx): PageResponse | { errors: FormErrors } | Completion => {
      const before = ctx.get('checkout.session', id)
      if (before === undefined) return respondNotFound('checkout')
      if (before.status !== 'open') return closed(before)
      const misplaced = textOf(request.form, 'action') === 'set_address' ? billingErrors(before, billingOf(request.form)) : {}
      if (Object.keys(misplaced).length > 0) return { errors: misplaced }
      const counted = changeQuantities(ctx, before, request.form)
      const located = changeBilling(ctx, counted, request.form)
      const session = changePromotion(ctx, located, request.form)
      const view = viewOf(ctx, session, typedOf(session, request.form), {})
      if (onlyChanges.has(textOf(request.form, 'action'))) return respond(renderCheckout(view))
      // Nobody pays a total that they have not seen.
      if (counted !== before || located.amount_total !== counted.amount_total)
        return respond(renderCheckout({ ...view, notice: 'The total has changed. Check it, and pay.' }))
      const errors = formErrors(view, session, request.form)
      if (Object.keys(errors).length > 0) return { errors }
      return submitSession(ctx, id, submissionOf(ctx, session, view, request.form))
    })
    if ('errors' in outcome) return again(outcome.errors, 400)
    return 'kind' in outcome ? afterCompletion(outcome, again) : outcome
  } catch (error) {
    const { errors, status } = errorsOf(error)
    return again(errors, status)
  }
}

function showChallenge(request: PageRequest): PageResponse {
  return request.transact((ctx) => {
    const session = ctx.get('checkout.session', segment(request, 'session'))
    const method = session?._.challenge == null ? undefined : ctx.get('payment_method', session._.challenge.paymentMethod)
    if (session === undefined || method?.card === undefined) return respond(renderChallengeDone('over'), 410)
    const total = session.mode === 'setup' ? 0 : totalsOf(ctx, session).total
    const payment = total === 0 ? null : { amount: total, currency: session.currency ?? 'usd' }
    return respond(renderChallenge({ card: describeMethod(method), payment }))
  })
}

function answerChallenge(request: PageRequest): PageResponse {
  const id = segment(request, 'session')
  const again = (errors: FormErrors, status: number): PageResponse =>
    request.transact((ctx) => respond(renderCheckout(viewOf(ctx, ctx.require('checkout.session', id), {}, errors)), status))
  const outcome = textOf(request.form, 'outcome') === 'complete' ? 'complete' : 'fail'
  try {
    const completion = request.transact((ctx) =>
      ctx.get('checkout.session', id) === undefined ? null : answerSessionChallenge(ctx, id, outcome),
    )
    return completion === null ? respond(renderChallengeDone('over'), 410) : afterCompletion(completion, again)
  } catch (error) {
    const { errors, status } = errorsOf(error)
    return again(errors, status)
  }
}

/** The hosted checkout page. Its form posts to its own address. */
export const checkoutPages = [
  page('GET /c/pay/{session}', show),
  page('POST /c/pay/{session}', submit),
  page('GET /c/pay/{session}/authenticate', showChallenge),
  page('POST /c/pay/{session}/authenticate', answerChallenge),
]

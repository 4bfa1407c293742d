import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import { createCustomer, updateCustomer } from '../resources/customers/customers.ts'
import { createTaxId } from '../resources/customers/tax-ids.ts'
import { shippingOf } from '../resources/payments/intent-params.ts'
import { authorize } from './authorization.ts'
import { answeredFields } from './checkout-fields.ts'
import { recordSale } from './checkout-invoice.ts'
import { noDetails } from './checkout-sessions.ts'
import { createCheckoutSubscription } from './checkout-subscription.ts'
import { amountsPatch, totalsOf, type Session, type SessionTotals } from './checkout-totals.ts'
import { confirmIntent, markAuthenticated } from './confirm.ts'
import { createIntent, updateIntent, type PaymentIntent } from './payment-intents.ts'
import { attachApproved, behaviourOf, type PaymentMethod } from './payment-methods.ts'
import { confirmSetupIntent, createSetupIntent } from './setup-intents.ts'
import { describeDecline, type Decline } from './test-cards.ts'

type Address = NonNullable<NonNullable<Session['customer_details']>['address']>

/** What the visitor sent with the page. */
export interface Submission {
  readonly email: string
  readonly name: string | null
  readonly address: Address | null
  /** Null where no card is asked for. */
  readonly paymentMethod: string | null
  readonly answers: Readonly<Record<string, string>>
  /** The challenge of the card was answered. */
  readonly authenticated: boolean
}

/** What came of it. */
export type Completion =
  | { readonly kind: 'complete'; readonly session: Session }
  | { readonly kind: 'challenge'; readonly session: Session }
  | { readonly kind: 'declined'; readonly session: Session; readonly decline: Decline }

/** Whether the page asks for a card: always, unless nothing is due and the session says that it may do without. */
export function asksForCard(session: Session, totals: SessionTotals | null): boolean {
  if (session.mode === 'setup' || totals === null || totals.total > 0) return true
  return session.mode === 'subscription' && session.payment_method_collection === 'always'
}

function knownCustomer(ctx: Ctx, session: Session, submission: Submission): string | null {
  const customer = session.customer === null ? undefined : ctx.require('customer', session.customer)
  if (customer === undefined) return null
  const { address, name } = session._.customerUpdate
  const patch = defined({
    address: address === 'auto' && submission.address !== null ? stated(submission.address) : undefined,
    email: customer.email === null ? submission.email : undefined,
    ...(name === 'auto' ? namesOf(session, submission) : {}),
  })
  if (Object.keys(patch).length > 0) updateCustomer(ctx, customer.id, patch)
  keepTaxId(ctx, session, customer.id)
  return customer.id
}

/** A business is known by its own name. */
function namesOf(session: Session, submission: Submission): { business_name?: string; name?: string } {
  const business = session._.collected?.businessName ?? null
  return defined({ business_name: business ?? undefined, name: business ?? submission.name ?? undefined })
}

/** The visitor's tax id becomes their customer's, unless it is that already. */
function keepTaxId(ctx: Ctx, session: Session, customer: string): void {
  const taxId = session._.collected?.taxId ?? null
  const known = ctx.store.by('tax_id', 'customer', customer)
  if (taxId === null || known.some(({ type, value }) => type === taxId.type && value === taxId.value)) return
  createTaxId(ctx, customer, taxId)
}

const stated = (address: Address): { [F in keyof Address]?: string } =>
  Object.fromEntries(Object.entries(address).filter(([, value]) => value !== null))

/** The session's customer, made now where the session makes one; null for a guest. */
function customerFor(ctx: Ctx, session: Session, submission: Submission): string | null {
  const known = knownCustomer(ctx, session, submission)
  if (known !== null || session.customer_creation !== 'always') return known
  const address = submission.address === null ? undefined : stated(submission.address)
  const { id } = createCustomer(ctx, defined({ address, email: submission.email, ...namesOf(session, submission) }))
  keepTaxId(ctx, session, id)
  return id
}

function finish(ctx: Ctx, id: string, submission: Submission, patch: Partial<Session>): Session {
  const session = ctx.require('checkout.session', id)
  const details = session.customer_details ?? noDetails
  const { businessName = null, taxId = null } = session._.collected ?? {}
  const totals = session.mode === 'setup' ? {} : amountsPatch(totalsOf(ctx, session))
  const done: Partial<Session> = {
    ...totals,
    ...(businessName === null
      ? {}
      : { collected_information: { business_name: businessName, individual_name: null, shipping_details: null } }),
    custom_fields: answeredFields(session.custom_fields, submission.answers),
    customer_details: {
      ...details,
      address: submission.address ?? details.address,
      business_name: businessName,
      email: submission.email || details.email,
      name: businessName ?? submission.name ?? details.name,
      tax_ids: taxId === null ? details.tax_ids : [taxId],
    },
    status: 'complete',
    url: null,
    _: { ...session._, challenge: null },
    ...patch,
  }
  return ctx.change('checkout.session', id, done, 'checkout.session.completed')
}

function sessionIntent(ctx: Ctx, session: Session, total: number): PaymentIntent {
  if (session.payment_intent !== null) return updateIntent(ctx, session.payment_intent, { amount: total })
  const data = session._.paymentIntentData
  const intent = createIntent(ctx, {
    amount: total,
    captureMethod: data.capture_method ?? 'automatic_async',
    checkoutSession: session.id,
    currency: session.currency ?? 'usd',
    customer: session.customer,
    description: data.description ?? null,
    metadata: mergeMetadata({}, data.metadata),
    paymentMethod: null,
    receiptEmail: data.receipt_email ?? null,
    setupFutureUsage: data.setup_future_usage ?? null,
    shipping: shippingOf(data.shipping),
    statementDescriptor: data.statement_descriptor ?? null,
    statementDescriptorSuffix: data.statement_descriptor_suffix ?? null,
    transferGroup: data.transfer_group ?? null,
  })
  ctx.update('checkout.session', session.id, { payment_intent: intent.id })
  return intent
}

function pay(ctx: Ctx, session: Session, submission: Submission, decline: Decline | null): Completion {
  const { total } = totalsOf(ctx, session)
  if (total === 0) {
    const customer = customerFor(ctx, session, submission)
    return { kind: 'complete', session: finish(ctx, session.id, submission, { customer, payment_status: 'no_payment_required' }) }
  }
  const intent = sessionIntent(ctx, session, total)
  // A customer is made only for a payment that goes through.
  const customer = decline === null ? customerFor(ctx, session, submission) : session.customer
  ctx.update('payment_intent', intent.id, { customer })
  const { authenticated, paymentMethod } = submission
  const confirmed = confirmIntent(ctx, intent.id, { authenticated, offSession: false, paymentMethod, returnUrl: null })
  if (confirmed.kind === 'declined') {
    return { kind: 'declined', decline: confirmed.decline, session: ctx.require('checkout.session', session.id) }
  }
  const payment_status = confirmed.kind === 'succeeded' ? 'paid' : 'unpaid'
  const invoice = recordSale(ctx, session, customer, intent.id)
  return {
    kind: 'complete',
    session: finish(ctx, session.id, submission, { customer, invoice, payment_intent: intent.id, payment_status }),
  }
}

function save(ctx: Ctx, session: Session, submission: Submission): Completion {
  const customer = customerFor(ctx, session, submission)
  const intent = session.setup_intent ?? ''
  ctx.update('setup_intent', intent, { customer })
  const { authenticated, paymentMethod } = submission
  const confirmed = confirmSetupIntent(ctx, intent, { authenticated, paymentMethod, returnUrl: null })
  if (confirmed.kind !== 'succeeded') throw new Error(`The set-up of ${session.id} ended as ${confirmed.kind}`)
  return { kind: 'complete', session: finish(ctx, session.id, submission, { customer }) }
}

/** Saves the card that a subscription is paid with; where nothing is due the bank is asked by a setup intent, as on Stripe. */
function keepCard(ctx: Ctx, session: Session, customer: string, submission: Submission, total: number): void {
  const { authenticated, paymentMethod } = submission
  if (paymentMethod === null) return
  if (total > 0) {
    attachApproved(ctx, paymentMethod, customer)
    if (authenticated) markAuthenticated(ctx, paymentMethod)
    return
  }
  const intent = createSetupIntent(ctx, { checkoutSession: session.id, customer, paymentMethod })
  confirmSetupIntent(ctx, intent.id, { authenticated, paymentMethod: null, returnUrl: null })
}

function subscribe(ctx: Ctx, session: Session, submission: Submission): Completion {
  const { total } = totalsOf(ctx, session)
  const customer = customerFor(ctx, session, submission) ?? ''
  ctx.update('checkout.session', session.id, { customer })
  keepCard(ctx, session, customer, submission, total)
  const subscription = createCheckoutSubscription(ctx, { customer, paymentMethod: submission.paymentMethod, session })
  if (subscription.status !== 'active' && subscription.status !== 'trialing') {
    throw new Error(`The subscription of ${session.id} began as ${subscription.status}`)
  }
  const patch: Partial<Session> = {
    customer,
    invoice: subscription.latest_invoice,
    payment_status: total > 0 ? 'paid' : 'no_payment_required',
    subscription: subscription.id,
  }
  return { kind: 'complete', session: finish(ctx, session.id, submission, patch) }
}

function askBank(session: Session, method: PaymentMethod, authenticated: boolean, total: number): ReturnType<typeof authorize> {
  const requested = session.payment_method_options?.card?.request_three_d_secure ?? 'automatic'
  return authorize(behaviourOf(method), {
    authenticated,
    challengeRequested: requested !== 'automatic',
    offSession: false,
    purpose: total > 0 ? 'payment' : 'setup',
    setUp: false,
  })
}

function challenge(ctx: Ctx, session: Session, submission: Submission, method: string): Completion {
  const { address, answers, email, name } = submission
  const challenge = { address, custom: { ...answers }, email, name, paymentMethod: method }
  return { kind: 'challenge', session: ctx.update('checkout.session', session.id, { _: { ...session._, challenge } }) }
}

/** A card that its bank refused for a set-up or a subscription: the set-up keeps the failed attempt, a subscription is never begun. */
function refuse(ctx: Ctx, session: Session, submission: Submission, decline: Decline): Completion {
  if (session.mode === 'payment') return pay(ctx, session, submission, decline)
  if (session.mode === 'setup') {
    const { authenticated, paymentMethod } = submission
    confirmSetupIntent(ctx, session.setup_intent ?? '', { authenticated, paymentMethod, returnUrl: null })
  }
  return { kind: 'declined', decline, session: ctx.require('checkout.session', session.id) }
}

/**
 * Carries out what the visitor asked for: asks the card's bank first, so that customer and subscription are made only when the page is
 * paid; ends with `checkout.session.completed`. A decline or a challenge leaves the session open.
 */
export function submitSession(ctx: Ctx, id: string, submission: Submission): Completion {
  const session = ctx.require('checkout.session', id)
  if (session.status !== 'open') throw new Error(`Checkout session ${id} is ${session.status}`)
  const total = session.mode === 'setup' ? 0 : totalsOf(ctx, session).total
  if (submission.paymentMethod !== null) {
    const method = ctx.require('payment_method', submission.paymentMethod)
    const answer = askBank(session, method, submission.authenticated, total)
    if (answer.kind === 'challenge') return challenge(ctx, session, submission, method.id)
    if (answer.kind === 'declined') return refuse(ctx, session, submission, describeDecline(answer.reason))
  }
  switch (session.mode) {
    case 'payment':
      return pay(ctx, session, submission, null)
    case 'setup':
      return save(ctx, session, submission)
    case 'subscription':
      return subscribe(ctx, session, submission)
  }
}

/** Goes on after the challenge of a session's card was answered. Failing it leaves the session open. */
export function answerSessionChallenge(ctx: Ctx, id: string, outcome: 'complete' | 'fail'): Completion | null {
  const session = ctx.require('checkout.session', id)
  const open = session._.challenge
  if (session.status !== 'open' || open === null) return null
  ctx.update('checkout.session', id, { _: { ...session._, challenge: null } })
  if (outcome === 'fail') {
    const message = 'We are unable to authenticate your payment method. Please choose a different payment method and try again.'
    const decline = { ...describeDecline('authentication_required'), message }
    return { kind: 'declined', decline, session: ctx.require('checkout.session', id) }
  }
  const { custom, paymentMethod, ...rest } = open
  return submitSession(ctx, id, { ...rest, answers: custom, authenticated: true, paymentMethod })
}

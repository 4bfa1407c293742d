import type { Ctx } from '../engine/context.ts'
import { invalidRequest, missing, notSupported, StripeError } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import { authorize } from './authorization.ts'
import type { CardInput, CheckedCard } from './cards.ts'
import { bankChecks, checkCard, declineFields, testCardFacts } from './cards.ts'
import type { TestBankAccount } from './test-accounts.ts'
import { findTestAccountById, findTestAccountByKey, testRoutingNumber } from './test-accounts.ts'
import type { CardOutcome } from './test-cards.ts'
import { describeDecline, findTestCardById, findTestCardByKey } from './test-cards.ts'

export type PaymentMethod = Stored<'payment_method'>
export type BillingDetails = PaymentMethod['billing_details']

type Clearable<T> = { [F in keyof T]?: T[F] | '' | undefined }

export interface BillingDetailsInput {
  readonly address?: Clearable<Record<'city' | 'country' | 'line1' | 'line2' | 'postal_code' | 'state', string>> | ''
  readonly email?: string
  readonly name?: string
  readonly phone?: string
  readonly tax_id?: string
}

export interface PaymentMethodInput {
  readonly type?: string
  readonly card?: CardInput
  readonly billing_details?: BillingDetailsInput
  readonly metadata?: Record<string, string> | ''
  readonly allow_redisplay?: 'always' | 'limited' | 'unspecified'
}

const emptyAddress = { city: null, country: null, line1: null, line2: null, postal_code: null, state: null }

const textOr = (given: string | undefined, before: string | null): string | null =>
  given === undefined ? before : given === '' ? null : given

/** Billing details after a change; `''` clears a field. */
export function mergeBillingDetails(before: BillingDetails | null, given: BillingDetailsInput | undefined): BillingDetails {
  const old = before ?? { address: emptyAddress, email: null, name: null, phone: null, tax_id: null }
  if (given === undefined) return old
  const oldAddress = old.address ?? emptyAddress
  const address = given.address === '' ? {} : (given.address ?? {})
  const base = given.address === '' ? emptyAddress : oldAddress
  return {
    address: {
      city: textOr(address.city, base.city),
      country: textOr(address.country, base.country),
      line1: textOr(address.line1, base.line1),
      line2: textOr(address.line2, base.line2),
      postal_code: textOr(address.postal_code, base.postal_code),
      state: textOr(address.state, base.state),
    },
    email: textOr(given.email, old.email),
    name: textOr(given.name, old.name),
    phone: textOr(given.phone, old.phone),
    tax_id: textOr(given.tax_id, old.tax_id),
  }
}

type Kind = Pick<PaymentMethod, 'card' | 'us_bank_account' | 'type' | '_'>

function storeMethod(ctx: Ctx, kind: Kind, input: PaymentMethodInput): PaymentMethod {
  return ctx.create('payment_method', {
    id: ctx.newId('pm', 24),
    object: 'payment_method',
    allow_redisplay: input.allow_redisplay ?? 'unspecified',
    billing_details: mergeBillingDetails(null, input.billing_details),
    created: ctx.now(),
    customer: null,
    customer_account: null,
    livemode: false,
    metadata: input.metadata === '' ? {} : (input.metadata ?? {}),
    ...kind,
  })
}

function storeCard(ctx: Ctx, card: CheckedCard, input: PaymentMethodInput): PaymentMethod {
  const _ = { card: card.testCard.key, setUp: false, spent: false }
  return storeMethod(ctx, { card: card.facts, type: 'card', _ }, input)
}

function storeAccount(ctx: Ctx, account: TestBankAccount): PaymentMethod {
  const us_bank_account: PaymentMethod['us_bank_account'] = {
    account_holder_type: 'individual',
    account_type: 'checking',
    bank_name: 'STRIPE TEST BANK',
    financial_connections_account: null,
    fingerprint: null,
    last4: account.last4,
    networks: { preferred: 'ach', supported: ['ach'] },
    routing_number: testRoutingNumber,
    status_details: {},
  }
  const _ = { card: null, account: account.key, setUp: false, spent: false }
  return storeMethod(ctx, { us_bank_account, type: 'us_bank_account', _ }, {})
}

/** Makes a payment method from a card number or token. Any other type is refused by name: bank accounts are there by their test ids. */
export function createPaymentMethod(ctx: Ctx, input: PaymentMethodInput): PaymentMethod {
  const type = input.type ?? (input.card === undefined ? undefined : 'card')
  if (type === undefined) throw missing('type')
  if (type !== 'card') throw notSupported(`A payment method of type '${type}'`, 'type')
  if (input.card === undefined) throw missing('card')
  if (input.card.number === undefined && input.card.token === undefined) throw missing('card[number]')
  return storeCard(ctx, checkCard(input.card, ctx.now()), input)
}

/** Whether an id is one of Stripe's test ids, which name no method that is stored. */
export function isTestMethod(id: string): boolean {
  return findTestCardById(id) !== undefined || findTestAccountById(id) !== undefined
}

/**
 * The payment method that an id names. A test id (`pm_card_visa`, `tok_visa`, `pm_usBankAccount_success`) makes a new method each time,
 * as on Stripe. Throws `resource_missing`.
 */
export function resolvePaymentMethod(ctx: Ctx, id: string, param: string): PaymentMethod {
  const account = findTestAccountById(id)
  if (account !== undefined) return storeAccount(ctx, account)
  const testCard = findTestCardById(id)
  return testCard === undefined
    ? ctx.require('payment_method', id, param)
    : storeCard(ctx, testCardFacts(testCard, ctx.now()), {})
}

/** The test bank account of a method that is debited; undefined for a card. */
export function accountOf(method: PaymentMethod): TestBankAccount | undefined {
  return method._.account === undefined ? undefined : findTestAccountByKey(method._.account)
}

/** How the method's card behaves; a bank account is nothing but good until its bank answers. */
export function behaviourOf(method: PaymentMethod): CardOutcome {
  if (accountOf(method) !== undefined) return {}
  const card = method._.card === null ? undefined : findTestCardByKey(method._.card)
  if (card === undefined) throw new Error(`Payment method ${method.id} has no test card`)
  return card
}

const spentMessage =
  'This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.'

/** Refuses a method that was used up without a customer, or detached. */
export function requireUsable(method: PaymentMethod, param: string): void {
  if (method._.spent) throw invalidRequest(spentMessage, { param })
}

/** Checks that the method may be used for this customer (null: a guest). Throws Stripe's error when it belongs to another. */
export function requireUsableBy(method: PaymentMethod, customer: string | null, param: string): void {
  requireUsable(method, param)
  if (method.customer === null || method.customer === customer) return
  throw invalidRequest(
    customer === null
      ? `The provided PaymentMethod (${method.id}) is attached to a Customer. You must also pass that Customer as 'customer'.`
      : `The customer does not have a payment method with the ID ${method.id}. The payment method must be attached to the customer.`,
    { param },
  )
}

/** The method with the bank's checks of code and address filled in; called when the bank is asked the first time. */
export function recordBankChecks(ctx: Ctx, method: PaymentMethod): PaymentMethod {
  if (method.card === undefined) return method
  const address = method.billing_details.address
  const checks = bankChecks(behaviourOf(method), method.card, {
    line1: address?.line1 != null,
    postalCode: address?.postal_code != null,
  })
  return ctx.update('payment_method', method.id, { card: { ...method.card, checks } })
}

/** Attaches without asking the bank: it has just approved a payment or a set-up. */
export function attachApproved(ctx: Ctx, id: string, customer: string): PaymentMethod {
  const method = ctx.require('payment_method', id)
  if (method.customer === customer) return method
  requireUsable(method, 'payment_method')
  recordBankChecks(ctx, method)
  return ctx.change('payment_method', id, { customer }, 'payment_method.attached')
}

/**
 * Attaches a method to a customer; the bank is asked, and may decline. Emits `payment_method.attached`.
 * Source: https://docs.stripe.com/api/payment_methods/attach
 */
export function attachPaymentMethod(ctx: Ctx, id: string, customer: string, param = 'id'): PaymentMethod {
  ctx.require('customer', customer, 'customer')
  const method = resolvePaymentMethod(ctx, id, param)
  if (method.customer === customer) return method
  if (method.customer !== null) throw invalidRequest('The payment method you provided has already been attached to a customer.')
  requireUsable(method, 'payment_method')
  const attempt = { purpose: 'setup', offSession: false, setUp: false, authenticated: true, challengeRequested: false } as const
  const answer = authorize(behaviourOf(method), attempt)
  // Nothing of a refused attachment is kept, so this is no `cardError`.
  if (answer.kind === 'declined')
    throw new StripeError(402, { ...declineFields(describeDecline(answer.reason)), type: 'card_error' })
  return attachApproved(ctx, method.id, customer)
}

/** Detaches a method and takes it off every place where it is a default. Emits `payment_method.detached`. */
export function detachPaymentMethod(ctx: Ctx, id: string): PaymentMethod {
  const method = ctx.require('payment_method', id)
  if (method.customer === null) {
    throw invalidRequest('The payment method you provided is not attached to a customer so detachment is impossible.')
  }
  const customer = ctx.get('customer', method.customer)
  const detached = ctx.change(
    'payment_method',
    id,
    { customer: null, _: { ...method._, spent: true } },
    'payment_method.detached',
  )
  if (customer?.invoice_settings.default_payment_method === id) {
    const invoice_settings = { ...customer.invoice_settings, default_payment_method: null }
    ctx.change('customer', customer.id, { invoice_settings }, 'customer.updated')
  }
  if (customer?.default_source === id) ctx.change('customer', customer.id, { default_source: null }, 'customer.updated')
  for (const subscription of ctx.store.by('subscription', 'customer', method.customer)) {
    if (subscription.default_payment_method !== id) continue
    ctx.change('subscription', subscription.id, { default_payment_method: null }, 'customer.subscription.updated')
  }
  return detached
}

/**
 * The method with which a subscription's or a customer's invoices are paid, or null. Order: the subscription's default, the
 * subscription's default source, the customer's invoice default, the customer's default source.
 * Source: https://docs.stripe.com/api/subscriptions/object#subscription_object-default_payment_method
 */
export function defaultPaymentMethod(ctx: Ctx, customerId: string, subscriptionId: string | null): string | null {
  const customer = ctx.get('customer', customerId)
  const subscription = subscriptionId === null ? undefined : ctx.get('subscription', subscriptionId)
  const candidates = [
    subscription?.default_payment_method,
    subscription?.default_source,
    customer?.invoice_settings.default_payment_method,
    customer?.default_source,
  ]
  return candidates.find((candidate): candidate is string => typeof candidate === 'string') ?? null
}

import type { Ctx } from '../engine/context.ts'
import { invalidRequest, missing, notSupported } from '../engine/errors.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import { requireCustomer } from '../resources/customers/customer-find.ts'
import { refusedCheckoutOptions, requireUrl } from '../resources/payments/intent-params.ts'
import { AUTOMATIC_TAX_REFUSES, automaticTaxOf, noAutomaticTax } from '../resources/tax/automatic-tax.ts'
import type { Params } from '../wire.gen.ts'
import { customFieldsOf } from './checkout-fields.ts'
import { makeItems } from './checkout-items.ts'
import { requireTaxable, sessionTax } from './checkout-tax.ts'
import { amountsPatch, totalsOf, type Session } from './checkout-totals.ts'
import { cancelIntent } from './payment-intents.ts'
import { cancelSetupIntent, createSetupIntent } from './setup-intents.ts'

export const sessionTakes = [
  'adaptive_pricing',
  'allow_promotion_codes',
  'allowed_payment_method_types',
  'automatic_tax',
  'billing_address_collection',
  'cancel_url',
  'client_reference_id',
  'currency',
  'custom_fields',
  'custom_text',
  'customer',
  'customer_creation',
  'customer_email',
  'customer_update',
  'discounts',
  'expires_at',
  'invoice_creation',
  'line_items',
  'locale',
  'metadata',
  'mode',
  'payment_intent_data',
  'payment_method_collection',
  'payment_method_options',
  'phone_number_collection',
  'saved_payment_method_options',
  'setup_intent_data',
  'submit_type',
  'subscription_data',
  'success_url',
  'tax_id_collection',
  'ui_mode',
] as const

export const sessionRefuses = [
  ...AUTOMATIC_TAX_REFUSES,
  'invoice_creation.invoice_data.account_tax_ids',
  'invoice_creation.invoice_data.issuer',
  'invoice_creation.invoice_data.rendering_options',
  'payment_intent_data.application_fee_amount',
  'payment_intent_data.on_behalf_of',
  'payment_intent_data.transfer_data',
  ...refusedCheckoutOptions,
  'setup_intent_data.on_behalf_of',
  'subscription_data.application_fee_percent',
  'subscription_data.invoice_settings.account_tax_ids',
  'subscription_data.invoice_settings.issuer',
  'subscription_data.on_behalf_of',
  'subscription_data.transfer_data',
]

export type SessionParams = Pick<Params['POST /v1/checkout/sessions'], (typeof sessionTakes)[number]>

const halfAnHour = 1800
const aDay = 86_400

function requireExclusive(params: SessionParams, one: keyof SessionParams, other: keyof SessionParams): void {
  if (params[one] === undefined || params[other] === undefined) return
  const words = `You may only specify one of these parameters: ${one}, ${other}.`
  throw invalidRequest(words, { code: 'parameters_exclusive', param: one })
}

/** What would need Stripe.js, shipping rules, or data that the page does not ask for. */
function requireSupported(params: SessionParams): void {
  if (params.ui_mode !== undefined && params.ui_mode !== 'hosted_page')
    throw notSupported(`The ui_mode '${params.ui_mode}'`, 'ui_mode')
  if (params.phone_number_collection?.enabled === true)
    throw notSupported('Asking for a phone number', 'phone_number_collection[enabled]')
  const types = params.allowed_payment_method_types
  if (types !== undefined && !types.includes('card'))
    throw notSupported('A checkout without cards', 'allowed_payment_method_types')
}

function requireFitsMode(params: SessionParams, mode: Session['mode']): void {
  const owner = {
    invoice_creation: 'payment',
    payment_intent_data: 'payment',
    setup_intent_data: 'setup',
    subscription_data: 'subscription',
  } as const
  for (const [name, needed] of Object.entries(owner)) {
    if (params[name as keyof typeof owner] === undefined || mode === needed) continue
    throw invalidRequest(`You can not pass \`${name}\` in \`${mode}\` mode.`, { param: name })
  }
  if (params.payment_method_collection !== undefined && mode !== 'subscription') {
    throw invalidRequest('You can only pass `payment_method_collection` in `subscription` mode.', {
      param: 'payment_method_collection',
    })
  }
  if (params.customer_creation !== undefined && mode === 'subscription') {
    throw invalidRequest('`customer_creation` can only be used in `payment` and `setup` mode.', { param: 'customer_creation' })
  }
}

function expiryOf(params: SessionParams, now: number): number {
  const at = params.expires_at
  if (at === undefined) return now + aDay
  if (at < now + halfAnHour) {
    throw invalidRequest('The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.', {
      param: 'expires_at',
    })
  }
  if (at > now + aDay) {
    throw invalidRequest('The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.', {
      param: 'expires_at',
    })
  }
  return at
}

function requireTrial(params: SessionParams, now: number): void {
  const { trial_end: end, trial_period_days: days } = params.subscription_data ?? {}
  if (end !== undefined && days !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: trial_end, trial_period_days.', {
      param: 'subscription_data[trial_end]',
    })
  }
  if (end !== undefined && end < now + 2 * aDay) {
    throw invalidRequest('The `trial_end` date has to be at least 2 days in the future.', {
      param: 'subscription_data[trial_end]',
    })
  }
  if (days !== undefined && days < 1) {
    throw invalidRequest('The minimum number of trial period days is 1.', { param: 'subscription_data[trial_period_days]' })
  }
}

/** A coupon or promotion code as a session keeps it; both are checked again when the page is paid. */
function discountsOf(ctx: Ctx, params: SessionParams): Session['discounts'] {
  return (params.discounts ?? []).map((discount, index) => {
    const at = `discounts[${index}]`
    if (discount.promotion_code !== undefined) {
      const code = ctx.require('promotion_code', discount.promotion_code, `${at}[promotion_code]`)
      if (!code.active)
        throw invalidRequest(`This promotion code is not active: ${code.code}`, { param: `${at}[promotion_code]` })
      return { coupon: null, promotion_code: code.id }
    }
    if (discount.coupon === undefined) throw missing(`${at}[coupon]`)
    return { coupon: ctx.require('coupon', discount.coupon, `${at}[coupon]`).id, promotion_code: null }
  })
}

export const noDetails: NonNullable<Session['customer_details']> = {
  address: null,
  business_name: null,
  email: null,
  individual_name: null,
  name: null,
  phone: null,
  tax_exempt: 'none',
  tax_ids: null,
}

function knownDetails(ctx: Ctx, params: SessionParams): Session['customer_details'] {
  if (params.customer_email !== undefined) return { ...noDetails, email: params.customer_email }
  const customer = params.customer === undefined ? undefined : ctx.get('customer', params.customer)
  if (customer === undefined) return null
  const { email, name, phone, tax_exempt } = customer
  return { ...noDetails, email, name: name ?? null, phone: phone ?? null, tax_exempt: tax_exempt ?? 'none' }
}

function customerCreation(params: SessionParams, mode: Session['mode']): Session['customer_creation'] {
  if (params.customer !== undefined) return null
  const always = mode === 'subscription' || params.invoice_creation?.enabled === true
  return always ? 'always' : (params.customer_creation ?? 'if_required')
}

const message = (text: { message: string } | '' | undefined): { message: string } | null => text || null

/** Makes a session: nothing is sold until its page is paid. Throws Stripe's errors. */
export function createSession(ctx: Ctx, params: SessionParams): Session {
  const mode = params.mode
  if (mode === undefined) throw missing('mode')
  if (params.success_url === undefined) throw missing('success_url')
  requireSupported(params)
  requireUrl(params.success_url, 'success_url')
  requireUrl(params.cancel_url, 'cancel_url')
  requireExclusive(params, 'customer', 'customer_email')
  requireExclusive(params, 'allow_promotion_codes', 'discounts')
  requireFitsMode(params, mode)
  if (params.customer !== undefined) requireCustomer(ctx, params.customer, 'customer')
  requireTaxable(ctx, params, mode)
  const now = ctx.now(params.customer)
  requireTrial(params, now)
  const { currency, items } = makeItems(ctx, { currency: params.currency, lineItems: params.line_items, mode })
  const discounts = discountsOf(ctx, params)
  const id = `cs_test_${ctx.token(58)}`
  const customer = params.customer ?? null
  const hidden: Session['_'] = {
    challenge: null,
    collected: null,
    customerUpdate: params.customer_update ?? {},
    items,
    invoiceData: params.invoice_creation?.invoice_data ?? {},
    paymentIntentData: params.payment_intent_data ?? {},
    promotionCode: null,
    setupIntentData: params.setup_intent_data ?? {},
    subscriptionData: params.subscription_data ?? {},
  }
  const automaticTax = automaticTaxOf({ ...noAutomaticTax(), provider: null, status: null }, params.automatic_tax)
  const priced = { automatic_tax: automaticTax, currency, customer, discounts, mode, _: hidden }
  const noAmounts = { amount_subtotal: null, amount_total: null, automatic_tax: sessionTax(ctx, priced), total_details: null }
  const amounts = mode === 'setup' ? noAmounts : amountsPatch(totalsOf(ctx, priced))
  const card = params.payment_method_options?.card
  return ctx.create('checkout.session', {
    id,
    object: 'checkout.session',
    adaptive_pricing: mode === 'setup' ? null : { enabled: params.adaptive_pricing?.enabled ?? false },
    after_expiration: null,
    allow_promotion_codes: params.allow_promotion_codes ?? null,
    allowed_payment_method_types: params.allowed_payment_method_types ?? null,
    ...amounts,
    billing_address_collection: params.billing_address_collection ?? null,
    cancel_url: params.cancel_url ?? null,
    client_reference_id: params.client_reference_id ?? null,
    client_secret: null,
    collected_information: null,
    consent: null,
    consent_collection: null,
    created: now,
    currency,
    currency_conversion: null,
    custom_fields: customFieldsOf(params.custom_fields),
    custom_text: {
      after_submit: message(params.custom_text?.after_submit),
      shipping_address: message(params.custom_text?.shipping_address),
      submit: message(params.custom_text?.submit),
      terms_of_service_acceptance: message(params.custom_text?.terms_of_service_acceptance),
    },
    customer,
    customer_account: null,
    customer_creation: customerCreation(params, mode),
    customer_details: knownDetails(ctx, params),
    customer_email: params.customer_email ?? null,
    discounts,
    expires_at: expiryOf(params, now),
    integration_identifier: null,
    invoice: null,
    invoice_creation: mode === 'payment' ? invoiceCreationOf(params.invoice_creation) : null,
    livemode: false,
    locale: params.locale ?? null,
    managed_payments: null,
    metadata: mergeMetadata({}, params.metadata),
    mode,
    origin_context: null,
    payment_intent: null,
    payment_link: null,
    payment_method_collection: mode === 'subscription' ? (params.payment_method_collection ?? 'always') : 'if_required',
    payment_method_configuration_details: null,
    payment_method_options: { card: { request_three_d_secure: card?.request_three_d_secure ?? 'automatic' } },
    payment_method_types: ['card'],
    payment_status: mode === 'setup' ? 'no_payment_required' : 'unpaid',
    permissions: null,
    phone_number_collection: { enabled: false },
    recovered_from: null,
    saved_payment_method_options: savedMethodOptions(params, mode),
    setup_intent: mode === 'setup' ? setupIntentFor(ctx, id, customer, hidden.setupIntentData) : null,
    shipping_address_collection: null,
    shipping_cost: null,
    shipping_options: [],
    status: 'open',
    submit_type: params.submit_type ?? null,
    subscription: null,
    success_url: params.success_url,
    ...taxIdCollection(params),
    ui_mode: 'hosted_page',
    url: `${ctx.baseUrl}/c/pay/${id}`,
    wallet_options: null,
    _: hidden,
  })
}

function taxIdCollection({ tax_id_collection: asked }: SessionParams): Pick<Session, 'tax_id_collection'> {
  return asked === undefined ? {} : { tax_id_collection: { enabled: asked.enabled, required: asked.required ?? 'never' } }
}

function invoiceCreationOf(given: SessionParams['invoice_creation']): Session['invoice_creation'] {
  const data = given?.invoice_data ?? {}
  return {
    enabled: given?.enabled ?? false,
    invoice_data: {
      account_tax_ids: null,
      custom_fields: data.custom_fields || null,
      description: data.description ?? null,
      footer: data.footer ?? null,
      issuer: null,
      metadata: mergeMetadata({}, data.metadata),
      rendering_options: null,
    },
  }
}

function setupIntentFor(ctx: Ctx, session: string, customer: string | null, data: Session['_']['setupIntentData']): string {
  const { description = null } = data
  const metadata = mergeMetadata({}, data.metadata)
  return createSetupIntent(ctx, { checkoutSession: session, customer, description, metadata, paymentMethod: null }).id
}

function savedMethodOptions(params: SessionParams, mode: Session['mode']): Session['saved_payment_method_options'] {
  if (mode === 'setup') return null
  const given = params.saved_payment_method_options
  return {
    allow_redisplay_filters: given?.allow_redisplay_filters ?? ['always'],
    payment_method_remove: given?.payment_method_remove ?? null,
    payment_method_save: given?.payment_method_save ?? null,
  }
}

/** Ends an open session. Emits `checkout.session.expired`. */
export function expireSession(ctx: Ctx, id: string): Session {
  const session = ctx.require('checkout.session', id)
  if (session.status !== 'open') {
    throw invalidRequest(
      `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of "${session.status}".`,
    )
  }
  const { payment_intent: intent, setup_intent: setup } = session
  const expired = { status: 'expired' as const, url: null, _: { ...session._, challenge: null } }
  const result = ctx.change('checkout.session', id, expired, 'checkout.session.expired')
  if (intent !== null) cancelIntent(ctx, intent, 'abandoned')
  if (setup !== null) cancelSetupIntent(ctx, setup, 'abandoned')
  return result
}

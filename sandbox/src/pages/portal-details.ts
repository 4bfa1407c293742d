import { defined } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { page, redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import type { Stored } from '../model/stored.ts'
import { challengeUrl } from '../payments/confirm.ts'
import { portalCardReplacesSubscriptionDefaults } from '../payments/inferred.ts'
import { createPaymentMethod } from '../payments/payment-methods.ts'
import { confirmSetupIntent, createSetupIntent } from '../payments/setup-intents.ts'
import { isTaxIdOf, taxIdTypeOf } from '../payments/checkout-tax.ts'
import { updateCustomer } from '../resources/customers/customers.ts'
import { createTaxId, deleteTaxId } from '../resources/customers/tax-ids.ts'
import { isEnded } from '../resources/subscriptions/stored.ts'
import type { FormErrors } from './forms.ts'
import { renderCardUpdate, renderCustomerUpdate } from './portal-flow-view.ts'
import { backOf, goOn, tryWithPortal, withPortal, type Portal } from './portal-session.ts'
import { readCard, respond, respondNotFound, textOf } from './respond.ts'

/** Makes a saved card the one that the next invoices are charged to. */
function useCard(ctx: Ctx, portal: Portal, method: string): void {
  const { customer } = portal
  updateCustomer(ctx, customer.id, { invoice_settings: { default_payment_method: method } })
  if (!portalCardReplacesSubscriptionDefaults()) return
  for (const subscription of ctx.store.by('subscription', 'customer', customer.id)) {
    if (isEnded(subscription) || subscription.default_payment_method === null) continue
    ctx.change('subscription', subscription.id, { default_payment_method: method }, 'customer.subscription.updated')
  }
}

const cardPage = (portal: Portal, exp: string, errors: FormErrors, status = 200): PageResponse =>
  respond(renderCardUpdate({ back: backOf(portal), errors, exp }), status)

const showCard = (request: PageRequest): PageResponse =>
  withPortal(request, (_ctx, portal) =>
    portal.configuration.features.payment_method_update.enabled ? cardPage(portal, '', {}) : respondNotFound('page'),
  )

type Saved = PageResponse | { readonly errors: FormErrors; readonly status: number }

function saveCard(ctx: Ctx, portal: Portal, request: PageRequest): Saved {
  const card = readCard(request.form)
  if ('errors' in card) return { errors: card.errors, status: 400 }
  const { email, id: customer, name } = portal.customer
  const details = defined({ email: email ?? undefined, name: name ?? undefined })
  const method = createPaymentMethod(ctx, { billing_details: details, card: card.card })
  const intent = createSetupIntent(ctx, { customer, paymentMethod: method.id })
  const returnUrl = `${ctx.baseUrl}${portal.base}/payment-method/saved`
  const confirmed = confirmSetupIntent(ctx, intent.id, { authenticated: false, paymentMethod: null, returnUrl })
  if (confirmed.kind === 'requires_action') return redirect(challengeUrl(ctx, intent.client_secret))
  if (confirmed.kind === 'declined') {
    const message = typeof confirmed.error['message'] === 'string' ? confirmed.error['message'] : 'Your card was declined.'
    return { errors: { form: `${message} The card was not saved.` }, status: 402 }
  }
  useCard(ctx, portal, method.id)
  return goOn(ctx, portal, 'card')
}

const submitCard = (request: PageRequest): PageResponse => {
  const exp = textOf(request.form, 'exp')
  return tryWithPortal(
    request,
    (ctx, portal) => {
      if (!portal.configuration.features.payment_method_update.enabled) return respondNotFound('page')
      const saved = saveCard(ctx, portal, request)
      return 'errors' in saved ? cardPage(portal, exp, saved.errors, saved.status) : saved
    },
    (_ctx, portal, errors, status) => cardPage(portal, exp, errors, status),
  )
}

/** Where the bank sends the holder back after authenticating a new card. Opening it again changes nothing. */
const cardAuthenticated = (request: PageRequest): PageResponse =>
  withPortal(request, (ctx, portal) => {
    const intent = ctx.get('setup_intent', request.url.searchParams.get('setup_intent') ?? '')
    if (intent?.customer !== portal.customer.id) return respondNotFound('set-up')
    if (intent.status !== 'succeeded' || intent.payment_method === null) {
      return cardPage(portal, '', { form: 'The card could not be authenticated. Use another one.' }, 402)
    }
    useCard(ctx, portal, intent.payment_method)
    return goOn(ctx, portal, 'card')
  })

interface Field {
  readonly name: string
  readonly label: string
  readonly value: string
  readonly autocomplete: string
}

/** Of several tax ids the newest one. */
function shownTaxId(ctx: Ctx, { customer }: Portal): Stored<'tax_id'> | undefined {
  return ctx.store.lastBy('tax_id', 'customer', customer.id)
}

function fieldsOf(ctx: Ctx, portal: Portal): Field[] {
  const { address, email, name, phone } = portal.customer
  const allowed = new Set<string>(portal.configuration.features.customer_update.allowed_updates)
  const field = (key: string, label: string, value: string | null | undefined, autocomplete: string): Field => ({
    autocomplete,
    label,
    name: key,
    value: value ?? '',
  })
  return [
    ...(allowed.has('name') ? [field('name', 'Name', name, 'name')] : []),
    ...(allowed.has('email') ? [field('email', 'E-mail', email, 'email')] : []),
    ...(allowed.has('phone') ? [field('phone', 'Phone', phone, 'tel')] : []),
    ...(allowed.has('address')
      ? [
          field('line1', 'Street and number', address?.line1, 'address-line1'),
          field('postal_code', 'Postal code', address?.postal_code, 'postal-code'),
          field('city', 'City', address?.city, 'address-level2'),
          field('state', 'State', address?.state, 'address-level1'),
          field('country', 'Country (two letters)', address?.country, 'country'),
        ]
      : []),
    ...(allowed.has('tax_id') ? [field('tax_id', 'Tax id', shownTaxId(ctx, portal)?.value, 'off')] : []),
  ]
}

function customerPage(ctx: Ctx, portal: Portal, errors: FormErrors, request: PageRequest | null, status = 200): PageResponse {
  const fields = fieldsOf(ctx, portal).map((field) =>
    request === null ? field : { ...field, value: textOf(request.form, field.name) },
  )
  return respond(renderCustomerUpdate({ back: backOf(portal), errors, fields }), status)
}

const showCustomer = (request: PageRequest): PageResponse =>
  withPortal(request, (ctx, portal) =>
    portal.configuration.features.customer_update.enabled ? customerPage(ctx, portal, {}, null) : respondNotFound('page'),
  )

function customerErrors(given: ReadonlyMap<string, string>): FormErrors {
  const errors: Record<string, string> = {}
  const email = given.get('email')
  const country = given.get('country')
  if (email !== undefined && !/^[^\s@]+@[^\s@]+$/.test(email))
    errors['email'] = 'Enter an e-mail address such as name@example.com.'
  if (country !== undefined && country !== '' && !/^[A-Za-z]{2}$/.test(country))
    errors['country'] = 'Enter the country as two letters, such as DE.'
  return errors
}

function saveCustomer(ctx: Ctx, portal: Portal, given: ReadonlyMap<string, string>): void {
  const old = portal.customer.address
  const place = {
    city: given.get('city') ?? '',
    country: (given.get('country') ?? '').toUpperCase(),
    line1: given.get('line1') ?? '',
  }
  const address = given.has('line1')
    ? { ...place, line2: old?.line2 ?? '', postal_code: given.get('postal_code') ?? '', state: given.get('state') ?? '' }
    : undefined
  updateCustomer(
    ctx,
    portal.customer.id,
    defined({ address, email: given.get('email'), name: given.get('name'), phone: given.get('phone') }),
  )
}

/** The kind of tax id follows from where the customer says that they are, or from where they are known to be. */
function countryOf({ customer }: Portal, given: ReadonlyMap<string, string>): string {
  return (given.get('country') ?? customer.address?.country ?? '').toUpperCase()
}

/** What is entered where another tax id, or none, was shown; null where nothing was changed. */
function newTaxId(ctx: Ctx, portal: Portal, given: ReadonlyMap<string, string>): string | null {
  const value = given.get('tax_id')?.toUpperCase().replaceAll(' ', '')
  return value === undefined || value === (shownTaxId(ctx, portal)?.value ?? '') ? null : value
}

function taxIdErrors(ctx: Ctx, portal: Portal, given: ReadonlyMap<string, string>): FormErrors {
  const value = newTaxId(ctx, portal, given) ?? ''
  const country = countryOf(portal, given)
  if (value === '') return {}
  if (taxIdTypeOf(country) === null) return { tax_id: 'This page takes no tax ids of this country.' }
  return isTaxIdOf(country, value) ? {} : { tax_id: 'Enter the tax id as it is written for the country, such as DE123456789.' }
}

function saveTaxId(ctx: Ctx, portal: Portal, given: ReadonlyMap<string, string>): void {
  const value = newTaxId(ctx, portal, given)
  if (value === null) return
  const shown = shownTaxId(ctx, portal)
  const type = taxIdTypeOf(countryOf(portal, given))
  if (shown !== undefined) deleteTaxId(ctx, shown.id)
  if (type !== null && value !== '') createTaxId(ctx, portal.customer.id, { type, value })
}

const submitCustomer = (request: PageRequest): PageResponse =>
  tryWithPortal(
    request,
    (ctx, portal) => {
      if (!portal.configuration.features.customer_update.enabled) return respondNotFound('page')
      const given = new Map(fieldsOf(ctx, portal).map((field) => [field.name, textOf(request.form, field.name)]))
      const errors = { ...customerErrors(given), ...taxIdErrors(ctx, portal, given) }
      if (Object.keys(errors).length > 0) return customerPage(ctx, portal, errors, request, 400)
      saveCustomer(ctx, portal, given)
      saveTaxId(ctx, portal, given)
      return goOn(ctx, portal, 'information')
    },
    (ctx, portal, errors, status) => customerPage(ctx, portal, errors, request, status),
  )

/** The card on file and the billing information. */
export const portalDetailsPages = [
  page('GET /p/session/{token}/payment-method', showCard),
  page('POST /p/session/{token}/payment-method', submitCard),
  page('GET /p/session/{token}/payment-method/saved', cardAuthenticated),
  page('GET /p/session/{token}/customer', showCustomer),
  page('POST /p/session/{token}/customer', submitCustomer),
]

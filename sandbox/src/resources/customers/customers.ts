import { updated } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch, withoutEffects } from '../../engine/errors.ts'
import { list, wholeList } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'
import { field, search, type SearchFields } from '../../engine/search.ts'
import type { Stored } from '../../model/stored.ts'
import { attachPaymentMethod } from '../../payments/payment-methods.ts'
import type { Params } from '../../wire.gen.ts'
import { requireRoomOnClock } from '../test-clock-limits.ts'
import { addressOf } from './address.ts'
import { changeBalance } from './customer-balance.ts'
import { deleteCustomer } from './customer-delete.ts'
import { requireCustomer } from './customer-find.ts'
import { createTaxId } from './tax-ids.ts'

export { requireCustomer } from './customer-find.ts'

type Customer = Stored<'customer'>
type CreateParams = Params['POST /v1/customers']
type UpdateParams = Params['POST /v1/customers/{id}']

const BOTH = [
  'address',
  'balance',
  'business_name',
  'description',
  'email',
  'individual_name',
  'invoice_prefix',
  'invoice_settings',
  'metadata',
  'name',
  'next_invoice_sequence',
  'phone',
  'preferred_locales',
  'shipping',
  'tax',
  'tax_exempt',
  'validate',
] as const
const UPDATE_TAKES = [...BOTH, 'default_source'] as const
const CREATE_TAKES = [...BOTH, 'test_clock', 'payment_method', 'tax_id_data'] as const

type Blank = {
  readonly id: string
  readonly created: number
  readonly invoicePrefix: string
  readonly testClock: string | null
}

/** A customer of whom nothing is known yet. */
export function blankCustomer({ id, created, invoicePrefix, testClock }: Blank): Customer {
  return {
    id,
    object: 'customer',
    address: null,
    balance: 0,
    created,
    currency: null,
    default_source: null,
    delinquent: false,
    description: null,
    discount: null,
    email: null,
    invoice_prefix: invoicePrefix,
    invoice_settings: { custom_fields: null, default_payment_method: null, footer: null, rendering_options: null },
    livemode: false,
    metadata: {},
    name: null,
    next_invoice_sequence: 1,
    phone: null,
    preferred_locales: [],
    shipping: null,
    tax_exempt: 'none',
    test_clock: testClock,
  }
}

/** Makes a customer and announces it. */
export function createCustomer(ctx: Ctx, params: Pick<CreateParams, (typeof CREATE_TAKES)[number]>): Customer {
  if (params.test_clock !== undefined) {
    ctx.require('test_helpers.test_clock', params.test_clock, 'test_clock')
    requireRoomOnClock(ctx, params.test_clock)
  }
  const id = ctx.newId('cus')
  const testClock = params.test_clock ?? null
  const created = ctx.nowOf({ test_clock: testClock })
  const blank = blankCustomer({ id, created, invoicePrefix: ctx.token(8).toUpperCase(), testClock })
  ctx.create('customer', blank)
  const patch = patchOf(ctx, blank, withAttached(ctx, id, params))
  const customer = ctx.update('customer', id, patch)
  setBalance(ctx, customer, params.balance)
  for (const taxId of params.tax_id_data ?? []) createTaxId(ctx, id, taxId)
  const made = ctx.require('customer', id)
  ctx.emit('customer.created', made)
  return made
}

/** Attaches the method given at creation; `invoice_settings` may name it by the same id, also a test id. */
function withAttached<T extends Pick<CreateParams, 'invoice_settings' | 'payment_method'>>(
  ctx: Ctx,
  customer: string,
  params: T,
): T {
  if (params.payment_method === undefined) return params
  const method = params.payment_method
  // A customer whose card is declined at creation is not created.
  const attached = withoutEffects(() => attachPaymentMethod(ctx, method, customer, 'payment_method').id)
  const settings = params.invoice_settings
  if (settings?.default_payment_method !== params.payment_method) return params
  return { ...params, invoice_settings: { ...settings, default_payment_method: attached } }
}

/** Changes a customer and announces what differs. */
export function updateCustomer(ctx: Ctx, id: string, params: Pick<UpdateParams, (typeof UPDATE_TAKES)[number]>): Customer {
  const customer = requireCustomer(ctx, id)
  const before = ctx.present(customer)
  const { default_source: source } = params
  if (source !== undefined) requireOwnMethod(ctx, customer, source, 'default_source')
  ctx.update('customer', id, { ...patchOf(ctx, customer, params), default_source: source ?? customer.default_source })
  setBalance(ctx, customer, params.balance)
  // `change` with nothing more to change: only announces what differs.
  const after = ctx.require('customer', id)
  if (JSON.stringify(before) !== JSON.stringify(ctx.present(after))) ctx.emit('customer.updated', after, { before })
  return after
}

/** The balance parameter sets the balance; the difference is recorded as an adjustment. */
function setBalance(ctx: Ctx, customer: Customer, balance: number | undefined): void {
  if (balance === undefined || balance === customer.balance) return
  changeBalance(ctx, customer.id, {
    amount: balance - customer.balance,
    currency: customer.currency ?? 'usd',
    type: 'adjustment',
  })
}

function patchOf(ctx: Ctx, old: Customer, params: Pick<UpdateParams, (typeof BOTH)[number]>): Partial<Customer> {
  return {
    address: params.address === undefined ? (old.address ?? null) : params.address === '' ? null : addressOf(params.address),
    ...optional('business_name', updated(old.business_name, params.business_name)),
    description: updated(old.description, params.description),
    email: updated(old.email, checkedEmail(params.email)),
    ...optional('individual_name', updated(old.individual_name, params.individual_name)),
    invoice_prefix: params.invoice_prefix === undefined ? (old.invoice_prefix ?? null) : checkedPrefix(params.invoice_prefix),
    invoice_settings: invoiceSettings(ctx, old, params.invoice_settings),
    metadata: mergeMetadata(old.metadata, params.metadata),
    name: updated(old.name ?? null, params.name),
    next_invoice_sequence: params.next_invoice_sequence ?? old.next_invoice_sequence ?? 1,
    phone: updated(old.phone ?? null, params.phone),
    preferred_locales: params.preferred_locales ?? old.preferred_locales ?? [],
    shipping: shippingOf(old, params.shipping),
    tax_exempt: updated(old.tax_exempt ?? 'none', params.tax_exempt) ?? 'none',
  }
}

function optional<N extends string>(name: N, value: string | null | undefined): { [K in N]?: string } {
  return (value === undefined || value === null ? {} : { [name]: value }) as { [K in N]?: string }
}

function checkedEmail(email: string | undefined): string | undefined {
  if (email === undefined || email === '' || /^[^\s@]+@[^\s@]+$/.test(email)) return email
  throw invalidRequest(`Invalid email address: ${email}`, { param: 'email', code: 'email_invalid' })
}

function checkedPrefix(prefix: string): string {
  if (/^[A-Z0-9]{3,12}$/.test(prefix)) return prefix
  throw invalidRequest('Invoice prefixes must be 3 to 12 uppercase letters or numbers.', { param: 'invoice_prefix' })
}

function invoiceSettings(ctx: Ctx, customer: Customer, param: UpdateParams['invoice_settings']): Customer['invoice_settings'] {
  const old = customer.invoice_settings
  if (param === undefined) return old
  const method = param.default_payment_method
  if (method !== undefined) requireOwnMethod(ctx, customer, method, 'invoice_settings[default_payment_method]')
  const rendering = param.rendering_options
  return {
    custom_fields: updated(old.custom_fields, param.custom_fields),
    default_payment_method: updated(old.default_payment_method, method),
    footer: updated(old.footer, param.footer),
    rendering_options:
      rendering === undefined
        ? old.rendering_options
        : rendering === ''
          ? null
          : { amount_tax_display: rendering.amount_tax_display || null, template: rendering.template ?? null },
  }
}

function requireOwnMethod(ctx: Ctx, customer: Customer, id: string, param: string): void {
  const method = ctx.get('payment_method', id)
  if (method === undefined) throw noSuch('PaymentMethod', id, param)
  if (method.customer !== customer.id) {
    throw invalidRequest(
      `The customer does not have a payment method with the ID ${id}. The payment method must be attached to the customer.`,
      { param, code: 'resource_missing' },
    )
  }
}

function shippingOf(old: Customer, param: UpdateParams['shipping']): Customer['shipping'] {
  if (param === undefined) return old.shipping
  if (param === '') return null
  return shippingDetails(param)
}

/** Where goods for a customer go, as it is stored. */
export function shippingDetails(param: Exclude<NonNullable<UpdateParams['shipping']>, ''>): NonNullable<Customer['shipping']> {
  return { address: addressOf(param.address), name: param.name, phone: param.phone ?? null }
}

function adjustBalance(
  ctx: Ctx,
  id: string,
  params: Omit<Params['POST /v1/customers/{id}/balance_transactions'], 'expand'>,
): Stored<'customer_balance_transaction'> {
  const before = ctx.present(requireCustomer(ctx, id))
  const transaction = changeBalance(ctx, id, {
    amount: params.amount,
    currency: params.currency,
    type: 'adjustment',
    description: params.description ?? null,
    metadata: mergeMetadata({}, params.metadata),
  })
  ctx.emit('customer.updated', ctx.require('customer', id), { before })
  return transaction
}

function requireTransaction(ctx: Ctx, customer: string, id: string): Stored<'customer_balance_transaction'> {
  const transaction = ctx.require('customer_balance_transaction', id)
  if (transaction.customer !== customer) throw noSuch('customer_balance_transaction', id)
  return transaction
}

const operations = [
  operation({ on: 'POST /v1/customers', takes: CREATE_TAKES, run: createCustomer }),
  operation({
    on: 'POST /v1/customers/{id}',
    takes: UPDATE_TAKES,
    run: (ctx, params, { id }) => updateCustomer(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/customers/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.get('deleted_customer', id) ?? requireCustomer(ctx, id),
  }),
  operation({
    on: 'DELETE /v1/customers/{id}',
    takes: [],
    run: (ctx, _params, { id }) => deleteCustomer(ctx, requireCustomer(ctx, id)),
  }),
  operation({
    on: 'GET /v1/customers',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'email', 'test_clock'],
    run: (ctx, params) =>
      list(ctx, 'customer', params, {
        url: '/v1/customers',
        by: params.email === undefined ? ['test_clock', params.test_clock] : ['email', params.email],
        where: (customer) => params.test_clock === undefined || customer.test_clock === params.test_clock,
      }),
  }),
  operation({
    on: 'GET /v1/customers/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) => search(ctx, 'customer', params, { url: '/v1/customers/search', fields: searchFields }),
  }),
  operation({
    on: 'POST /v1/customers/{id}/balance_transactions',
    takes: ['amount', 'currency', 'description', 'metadata'],
    run: (ctx, params, { id }) => adjustBalance(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/customers/{id}/balance_transactions',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'invoice'],
    run: (ctx, params, { id }) =>
      list(ctx, 'customer_balance_transaction', params, {
        url: `/v1/customers/${requireCustomer(ctx, id).id}/balance_transactions`,
        by: ['customer', id],
        where: (transaction) => params.invoice === undefined || transaction.invoice === params.invoice,
      }),
  }),
  operation({
    on: 'GET /v1/customers/{customerId}/balance_transactions/{id}',
    takes: [],
    run: (ctx, _params, { customerId, id }) => requireTransaction(ctx, customerId, id),
  }),
  operation({
    on: 'POST /v1/customers/{customerId}/balance_transactions/{id}',
    takes: ['description', 'metadata'],
    run: (ctx, params, { customerId, id }) => {
      const old = requireTransaction(ctx, customerId, id)
      const metadata = mergeMetadata(old.metadata, params.metadata)
      return ctx.update('customer_balance_transaction', id, {
        description: updated(old.description, params.description),
        metadata,
      })
    },
  }),
]

const searchFields: SearchFields<Customer> = {
  created: field.numeric((customer) => customer.created),
  email: field.string((customer) => customer.email),
  name: field.string((customer) => customer.name),
  phone: field.string((customer) => customer.phone),
}

const presenters = [
  presenter('customer', {
    compose: (customer, ctx) => {
      const discount = customer.discount === null ? undefined : ctx.get('discount', customer.discount)
      return { discount: discount === undefined ? null : ctx.present(discount) }
    },
    onExpand: {
      subscriptions: (customer, ctx) => {
        const running = ctx.store
          .by('subscription', 'customer', customer.id)
          .filter((subscription) => subscription.status !== 'canceled')
        const newestFirst = running.toReversed().map((subscription) => ctx.present(subscription))
        return wholeList(newestFirst, `/v1/customers/${customer.id}/subscriptions`)
      },
      sources: (customer) => wholeList([], `/v1/customers/${customer.id}/sources`),
      tax_ids: (customer, ctx) => {
        const taxIds = ctx.store.by('tax_id', 'customer', customer.id).toReversed()
        return wholeList(taxIds, `/v1/customers/${customer.id}/tax_ids`)
      },
    },
  }),
]

export const customersModule: Module = { operations, presenters }

import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { requireCustomer } from './customer-find.ts'

type TaxId = Stored<'tax_id'>
type CreateParams = Params['POST /v1/customers/{id}/tax_ids']

/** Numbers with which a test chooses the outcome of the verification. Source: docs.stripe.com/billing/customer/tax-ids#test-mode. */
const TEST_NUMBERS: Readonly<Record<string, NonNullable<TaxId['verification']>['status']>> = {
  '000000000': 'verified',
  '111111111': 'unverified',
  '222222222': 'pending',
}

/** Kinds whose numbers Stripe verifies; others are kept as they are. */
const VERIFIED_TYPES = new Set(['au_abn', 'eu_vat', 'gb_vat'])

/** Gives a customer a tax id. The number is not looked up anywhere; the test numbers choose the outcome. */
export function createTaxId(ctx: Ctx, customer: string | null, params: { type: CreateParams['type']; value: string }): TaxId {
  const value = params.value.trim()
  if (value === '') throw invalidRequest(`Invalid value for ${params.type}.`, { param: 'value', code: 'tax_id_invalid' })
  const status = TEST_NUMBERS[value.replaceAll(/\D/g, '')] ?? 'pending'
  const verification = VERIFIED_TYPES.has(params.type) ? { status, verified_address: null, verified_name: null } : null
  const country = params.type === 'eu_vat' ? value.slice(0, 2).toUpperCase() : params.type.slice(0, 2).toUpperCase()
  return ctx.create(
    'tax_id',
    {
      id: ctx.newId('txi', 24),
      object: 'tax_id',
      country,
      created: ctx.now(customer),
      customer,
      customer_account: null,
      livemode: false,
      owner:
        customer === null ? { customer_account: null, type: 'self' } : { customer, customer_account: null, type: 'customer' },
      type: params.type,
      value,
      verification,
    },
    'customer.tax_id.created',
  )
}

/** Takes a tax id away. */
export function deleteTaxId(ctx: Ctx, id: string): object {
  const taxId = ctx.require('tax_id', id)
  ctx.delete('tax_id', id)
  ctx.emit('customer.tax_id.deleted', taxId)
  return { id, object: 'tax_id', deleted: true }
}

function requireOwn(ctx: Ctx, customer: string, id: string): TaxId {
  const taxId = ctx.require('tax_id', id)
  if (taxId.customer !== customer) throw noSuch('tax_id', id)
  return taxId
}

/** The customer that an `owner` parameter names; null for the account itself. */
function ownerOf(ctx: Ctx, owner: Params['POST /v1/tax_ids']['owner']): string | null {
  if (owner === undefined || owner.type === 'self') return null
  if (owner.type !== 'customer' || owner.customer === undefined) {
    throw invalidRequest('The owner must be `self` or a customer.', { param: 'owner[type]' })
  }
  return requireCustomer(ctx, owner.customer, 'owner[customer]').id
}

const ofCustomers = [
  operation({
    on: 'POST /v1/customers/{id}/tax_ids',
    takes: ['type', 'value'],
    run: (ctx, params, { id }) => createTaxId(ctx, requireCustomer(ctx, id).id, params),
  }),
  operation({
    on: 'GET /v1/customers/{id}/tax_ids',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) => {
      requireCustomer(ctx, id)
      return list(ctx, 'tax_id', params, { url: `/v1/customers/${id}/tax_ids`, by: ['customer', id] })
    },
  }),
  operation({
    on: 'GET /v1/customers/{customerId}/tax_ids/{id}',
    takes: [],
    run: (ctx, _params, { customerId, id }) => requireOwn(ctx, customerId, id),
  }),
  operation({
    on: 'DELETE /v1/customers/{customerId}/tax_ids/{id}',
    takes: [],
    run: (ctx, _params, { customerId, id }) => deleteTaxId(ctx, requireOwn(ctx, customerId, id).id),
  }),
]

const ofAnyone = [
  operation({
    on: 'POST /v1/tax_ids',
    takes: ['type', 'value', 'owner'],
    refuses: ['owner.account', 'owner.customer_account'],
    run: (ctx, params) => createTaxId(ctx, ownerOf(ctx, params.owner), params),
  }),
  operation({
    on: 'GET /v1/tax_ids',
    takes: ['limit', 'starting_after', 'ending_before', 'owner'],
    refuses: ['owner.account', 'owner.customer_account'],
    run: (ctx, params) => {
      const customer = ownerOf(ctx, params.owner)
      return list(ctx, 'tax_id', params, { url: '/v1/tax_ids', where: (taxId) => taxId.customer === customer })
    },
  }),
  operation({ on: 'GET /v1/tax_ids/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('tax_id', id) }),
  operation({ on: 'DELETE /v1/tax_ids/{id}', takes: [], run: (ctx, _params, { id }) => deleteTaxId(ctx, id) }),
]

export const taxIdsModule: Module = { operations: [...ofCustomers, ...ofAnyone] }

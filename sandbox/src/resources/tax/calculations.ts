/** What tax a sale bears, asked before anybody pays. Source: docs.stripe.com/api/tax/calculations. */
import { computeTotals, type LineTotals, type TaxShare } from '../../billing/invoice-totals.ts'
import { taxCalculationLastsSeconds } from '../../billing/inferred.ts'
import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing, noSuch } from '../../engine/errors.ts'
import { pageOf, wholeList } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { type Module, operation, presenter } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import { requireCurrency } from '../../payments/amounts.ts'
import type { Params, TaxCalculationLineItem } from '../../wire.gen.ts'
import { addressOf } from '../customers/address.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { automaticRates, taxPlaceOfSale, type TaxedSale, unknownTaxLocation } from './automatic-tax.ts'
import { taxSettings } from './settings.ts'

export type TaxCalculation = Stored<'tax.calculation'>
type Buyer = TaxCalculation['customer_details']
type CreateParams = Pick<Params['POST /v1/tax/calculations'], 'currency' | 'customer' | 'customer_details' | 'line_items'>
type LineParam = CreateParams['line_items'][number]

/** What stands for a product of which nothing is said. Source: docs.stripe.com/tax/tax-codes, general electronically supplied services. */
const GENERAL = 'txcd_10000000'

const OVERRIDES = { exempt: 'customer_exempt', none: 'none', reverse: 'reverse_charge' } as const
const EXEMPTIONS = { customer_exempt: 'exempt', none: 'none', reverse_charge: 'reverse' } as const

/** Who buys: what is given, and of what is not given, what the customer says. */
function buyerOf(ctx: Ctx, { customer: id, customer_details: given = {} }: CreateParams): Buyer {
  if (id === undefined && given.address === undefined) throw missing('customer_details[address]')
  const customer = id === undefined ? undefined : requireCustomer(ctx, id, 'customer')
  const shipping = customer?.shipping?.address
  const taxIds = customer === undefined ? [] : ctx.store.by('tax_id', 'customer', customer.id)
  return {
    address: given.address === undefined ? (shipping ?? customer?.address ?? null) : addressOf(given.address),
    address_source:
      given.address === undefined ? (shipping == null ? 'billing' : 'shipping') : (given.address_source ?? 'billing'),
    ip_address: null,
    tax_ids: (given.tax_ids ?? taxIds).map(({ type, value }) => ({ type, value })),
    taxability_override: given.taxability_override ?? OVERRIDES[customer?.tax_exempt ?? 'none'],
  }
}

function lineOf(ctx: Ctx, line: LineParam, index: number): LineParam & { readonly id: string; readonly reference: string } {
  const at = `line_items[${index}]`
  if (line.amount < 0) throw invalidRequest('This value must be greater than or equal to 0.', { param: `${at}[amount]` })
  if (line.product !== undefined && ctx.get('product', line.product) === undefined) {
    throw noSuch('product', line.product, `${at}[product]`)
  }
  const id = ctx.newId('tax_li', 14)
  return { ...line, id, reference: line.reference ?? id }
}

/** @throws the refusal of a sale whose place of tax is not known */
function create(ctx: Ctx, params: CreateParams): TaxCalculation {
  const currency = requireCurrency(params.currency)
  const buyer = buyerOf(ctx, params)
  const now = ctx.now(params.customer)
  const sale: TaxedSale = {
    address: buyer.address,
    at: now,
    currency,
    exempt: EXEMPTIONS[buyer.taxability_override],
    shipping: null,
    taxIds: buyer.tax_ids,
  }
  if (taxPlaceOfSale(sale) === null) throw unknownTaxLocation()
  if (params.line_items.length === 0) throw missing('line_items')
  const lines = params.line_items.map((line, index) => lineOf(ctx, line, index))
  const twice = lines.findIndex(({ reference }, index) => lines.findIndex((other) => other.reference === reference) < index)
  if (twice >= 0) {
    throw invalidRequest('Each line item needs a reference of its own.', { param: `line_items[${twice}][reference]` })
  }
  const rates = automaticRates(ctx, sale)
  const totals = computeTotals({
    credits: [],
    discounts: [],
    lines: lines.map(({ amount, id, product = null, tax_behavior: taxBehavior, tax_code: taxCode }) => ({
      amount,
      discountable: false,
      itemDiscounts: [],
      itemKey: id,
      metered: false,
      price: null,
      product,
      taxRates: rates({ price: null, product, taxBehavior, taxCode }),
    })),
  })
  return ctx.create('tax.calculation', {
    id: ctx.newId('taxcalc', 24),
    object: 'tax.calculation',
    amount_total: totals.total,
    currency,
    customer: params.customer ?? null,
    customer_details: buyer,
    expires_at: now + taxCalculationLastsSeconds,
    livemode: false,
    ship_from_details: null,
    shipping_cost: null,
    tax_amount_exclusive: sumOfTax(totals.taxes, false),
    tax_amount_inclusive: sumOfTax(totals.taxes, true),
    tax_breakdown: totals.taxes.map((tax) => breakdownOf(ctx, tax)),
    tax_date: now,
    _: { items: lines.map((line, index) => itemOf(ctx, line, totals.lines[index]!)) },
  })
}

function sumOfTax(taxes: readonly TaxShare[], inclusive: boolean): number {
  return taxes.reduce((sum, tax) => sum + (tax.inclusive === inclusive ? tax.amount : 0), 0)
}

function itemOf(ctx: Ctx, line: ReturnType<typeof lineOf>, { taxes }: LineTotals): TaxCalculationLineItem {
  const product = line.product === undefined ? undefined : ctx.require('product', line.product)
  const ofProduct = typeof product?.tax_code === 'string' ? product.tax_code : null
  return {
    id: line.id,
    object: 'tax.calculation_line_item',
    amount: line.amount,
    amount_tax: taxes.reduce((sum, { amount }) => sum + amount, 0),
    livemode: false,
    metadata: mergeMetadata({}, line.metadata),
    performance_location: null,
    product: line.product ?? null,
    quantity: line.quantity ?? 1,
    reference: line.reference,
    tax_behavior: taxes.some(({ inclusive }) => inclusive) ? 'inclusive' : 'exclusive',
    tax_code: line.tax_code ?? ofProduct ?? taxSettings(ctx).defaults.tax_code ?? GENERAL,
  }
}

function breakdownOf(ctx: Ctx, tax: TaxShare): TaxCalculation['tax_breakdown'][number] {
  const rate = ctx.require('tax_rate', tax.rate)
  return {
    amount: tax.amount,
    inclusive: tax.inclusive,
    tax_rate_details: {
      country: orNull(rate.country ?? ''),
      flat_amount: null,
      percentage_decimal: String(rate.percentage),
      rate_type: 'percentage',
      state: orNull(rate.state ?? ''),
      tax_type: rate.tax_type,
    },
    taxability_reason: tax.reason ?? 'standard_rated',
    taxable_amount: tax.taxable,
  }
}

const operations = [
  operation({
    on: 'POST /v1/tax/calculations',
    takes: ['currency', 'customer', 'customer_details', 'line_items'],
    refuses: ['customer_details.ip_address', 'line_items.performance_location'],
    run: create,
  }),
  operation({
    on: 'GET /v1/tax/calculations/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('tax.calculation', id),
  }),
  operation({
    on: 'GET /v1/tax/calculations/{id}/line_items',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) =>
      pageOf(ctx.require('tax.calculation', id)._.items, params, `/v1/tax/calculations/${id}/line_items`),
  }),
]

const presenters = [
  presenter('tax.calculation', {
    onExpand: {
      line_items: ({ id, _: { items } }) => wholeList([...items], `/v1/tax/calculations/${id}/line_items`),
    },
  }),
]

export const taxCalculationsModule: Module = { operations, presenters }

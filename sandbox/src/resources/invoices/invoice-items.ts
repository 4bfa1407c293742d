import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { type Module, operation, presenter } from '../../engine/module.ts'
import type { Params } from '../../wire.gen.ts'
import { redeemDiscounts } from '../catalog/discount-rules.ts'
import { requireCurrency } from '../customers/customer-balance.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { checkedTaxRates } from '../subscriptions/items-params.ts'
import { refuseManualRates } from '../tax/automatic-tax.ts'
import type { StoredInvoice } from './compose.ts'
import { addOneOffInvoiceItem, firstCurrencyOf, type InvoiceItemParam, pricedItem } from './item-params.ts'
import type { StoredInvoiceItem } from './item-store.ts'
import { lineOfInvoiceItem, pricingOf } from './lines.ts'
import { storeDraft } from './manual.ts'

const BOTH = [
  'amount',
  'description',
  'discountable',
  'discounts',
  'metadata',
  'period',
  'price_data',
  'pricing',
  'quantity',
  'quantity_decimal',
  'tax_behavior',
  'tax_code',
  'tax_rates',
  'unit_amount_decimal',
] as const
const CREATE_TAKES = [...BOTH, 'currency', 'customer', 'invoice', 'subscription'] as const

type CreateParams = Pick<Params['POST /v1/invoiceitems'], (typeof CREATE_TAKES)[number]>
type UpdateParams = Pick<Params['POST /v1/invoiceitems/{id}'], (typeof BOTH)[number]>

/** Today's `pricing[price]` as the older `price` that previews take. */
function withPrice<T extends { pricing?: { price?: string } }>(params: T): T & { price?: string } {
  return params.pricing?.price === undefined ? params : { ...params, price: params.pricing.price }
}

function create(ctx: Ctx, params: CreateParams): StoredInvoiceItem {
  const invoice = params.invoice === undefined ? null : requireDraftOf(ctx, params.invoice)
  const customerId = params.customer ?? invoice?.customer ?? undefined
  if (customerId === undefined) throw missing('customer')
  const customer = requireCustomer(ctx, customerId, 'customer')
  if (params.subscription !== undefined) ctx.require('subscription', params.subscription, 'subscription')
  const given: InvoiceItemParam = withPrice(params)
  const currency = invoice?.currency ?? firstCurrencyOf(ctx, customer.id, given)
  requireCurrency(customer, currency)
  const item = addOneOffInvoiceItem(ctx, given, {
    customer: customer.id,
    subscription: params.subscription ?? null,
    currency,
    at: '',
    invoice: invoice?.id ?? null,
  })
  if (invoice !== null) putLine(ctx, invoice, item)
  return item
}

function requireDraftOf(ctx: Ctx, id: string): StoredInvoice {
  const invoice = ctx.require('invoice', id, 'invoice')
  if (invoice.status === 'draft') return invoice
  throw invalidRequest('You can only add items to a draft invoice.', { param: 'invoice', code: 'invoice_not_editable' })
}

/** The line of an item on its draft, added or made anew. */
function putLine(ctx: Ctx, invoice: StoredInvoice, item: StoredInvoiceItem): void {
  refuseManualRates(invoice.automatic_tax, [item.tax_rates])
  const fresh = { ...lineOfInvoiceItem(ctx, item), invoice: invoice.id }
  const isOfItem = (line: StoredInvoice['_']['lines'][number]): boolean =>
    line.parent?.invoice_item_details?.invoice_item === item.id ||
    line.parent?.subscription_item_details?.invoice_item === item.id
  const lines = invoice._.lines.some(isOfItem)
    ? invoice._.lines.map((line) => (isOfItem(line) ? { ...fresh, id: line.id } : line))
    : [...invoice._.lines, fresh]
  storeDraft(ctx, { ...invoice, _: { ...invoice._, lines } })
}

function requireEditable(ctx: Ctx, id: string): { item: StoredInvoiceItem; invoice: StoredInvoice | null } {
  const item = ctx.require('invoiceitem', id)
  const invoice = item.invoice === null ? null : (ctx.get('invoice', item.invoice) ?? null)
  if (invoice !== null && invoice.status !== 'draft') {
    throw invalidRequest('This invoice item is on an invoice that is no longer a draft.', { code: 'invoice_not_editable' })
  }
  return { item, invoice }
}

function update(ctx: Ctx, id: string, params: UpdateParams): StoredInvoiceItem {
  const { item, invoice } = requireEditable(ctx, id)
  const priced = pricePatch(ctx, item, withPrice(params))
  const updated = ctx.update('invoiceitem', id, {
    ...priced,
    description: params.description === undefined ? item.description : params.description === '' ? null : params.description,
    discountable: params.discountable ?? item.discountable,
    discounts:
      params.discounts === undefined
        ? item.discounts
        : redeemDiscounts(ctx, params.discounts === '' ? [] : params.discounts, {
            customer: item.customer,
            currency: item.currency,
            invoiceItem: id,
          }),
    metadata: mergeMetadata(item.metadata, params.metadata),
    period: params.period ?? item.period,
    tax_rates: params.tax_rates === undefined ? item.tax_rates : checkedTaxRates(ctx, params.tax_rates),
    _: {
      ...item._,
      ...priced._,
      taxBehavior: params.tax_behavior ?? item._.taxBehavior,
      taxCode: params.tax_code === undefined ? item._.taxCode : params.tax_code || null,
    },
  })
  if (invoice !== null) putLine(ctx, invoice, updated)
  return updated
}

/** A price, an amount or a quantity changes what the item costs; a quantity alone keeps its price. */
function pricePatch(ctx: Ctx, item: StoredInvoiceItem, params: InvoiceItemParam): Partial<StoredInvoiceItem> {
  const names = ['amount', 'price', 'price_data', 'quantity', 'quantity_decimal', 'unit_amount_decimal'] as const
  if (names.every((name) => params[name] === undefined)) return {}
  const kept = item.pricing?.price_details?.price
  const keepsPrice = params.amount === undefined && params.price === undefined && params.price_data === undefined
  const given = keepsPrice && kept !== undefined && params.unit_amount_decimal === undefined ? { ...params, price: kept } : params
  const { name: _name, price, ...priced } = pricedItem(ctx, given, item.currency, '')
  return {
    amount: priced.amount,
    net_amount: priced.amount,
    quantity: priced.quantity,
    quantity_decimal: priced.quantityDecimal ?? `${priced.quantity}`,
    pricing: pricingOf(price),
    _: { ...item._, product: price?.product ?? null },
  }
}

function remove(ctx: Ctx, id: string): object {
  const { item, invoice } = requireEditable(ctx, id)
  ctx.delete('invoiceitem', id)
  ctx.emit('invoiceitem.deleted', item)
  if (invoice !== null) {
    const lines = invoice._.lines.filter((line) => line.parent?.invoice_item_details?.invoice_item !== id)
    storeDraft(ctx, { ...invoice, _: { ...invoice._, lines } })
  }
  return { id, object: 'invoiceitem', deleted: true }
}

const operations = [
  operation({ on: 'POST /v1/invoiceitems', takes: CREATE_TAKES, run: create }),
  operation({ on: 'POST /v1/invoiceitems/{id}', takes: BOTH, run: (ctx, params, { id }) => update(ctx, id, params) }),
  operation({ on: 'GET /v1/invoiceitems/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('invoiceitem', id) }),
  operation({ on: 'DELETE /v1/invoiceitems/{id}', takes: [], run: (ctx, _params, { id }) => remove(ctx, id) }),
  operation({
    on: 'GET /v1/invoiceitems',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'customer', 'invoice', 'pending'],
    run: (ctx, params) => {
      const { created: _created, ...paging } = params
      return list(ctx, 'invoiceitem', paging, {
        url: '/v1/invoiceitems',
        by: params.invoice === undefined ? ['customer', params.customer] : ['invoice', params.invoice],
        where: (item) => params.pending === undefined || (item.invoice === null) === params.pending,
      })
    },
  }),
]

const presenters = [
  presenter('invoiceitem', {
    compose: (item, ctx) => ({ tax_rates: item.tax_rates.map((rate) => ctx.present(ctx.require('tax_rate', rate))) }),
  }),
]

export const invoiceItemsModule: Module = { operations, presenters }

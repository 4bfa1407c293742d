/** Lines of a draft, added, changed and taken off by hand. */
import { decimal, decimalOf } from '../../billing/decimal.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredLine } from '../../model/billing.ts'
import type { Params } from '../../wire.gen.ts'
import { redeemDiscounts } from '../catalog/discount-rules.ts'
import { createPrice } from '../catalog/price-create.ts'
import { amountOf, unitAmountOf, type StoredPrice } from '../catalog/price-terms.ts'
import { createProduct } from '../catalog/product-create.ts'
import { checkedTaxRates, resolvePrice } from '../subscriptions/items-params.ts'
import { refuseManualRates } from '../tax/automatic-tax.ts'
import type { StoredInvoice } from './compose.ts'
import { attachItems } from './item-store.ts'
import { lineOfInvoiceItem, newLine } from './lines.ts'
import { storeDraft } from './manual.ts'

type AddLine = Params['POST /v1/invoices/{id}/add_lines']['lines'][number]
type UpdateLine = Params['POST /v1/invoices/{id}/update_lines']['lines'][number]
type RemoveLine = Params['POST /v1/invoices/{id}/remove_lines']['lines'][number]
type MetadataParam = Params['POST /v1/invoices/{id}/add_lines']['invoice_metadata']

function requireDraft(ctx: Ctx, id: string): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status === 'draft') return invoice
  throw invalidRequest('The lines of an invoice can only be changed while it is a draft.', { code: 'invoice_not_editable' })
}

function store(ctx: Ctx, invoice: StoredInvoice, lines: readonly StoredLine[], metadata: MetadataParam): StoredInvoice {
  const withLines = { ...invoice, metadata: mergeMetadata(invoice.metadata, metadata), _: { ...invoice._, lines } }
  return storeDraft(ctx, withLines)
}

/** `POST /v1/invoices/{id}/add_lines`: existing pending items, or new lines. */
export function addLines(ctx: Ctx, id: string, params: readonly AddLine[], metadata: MetadataParam): StoredInvoice {
  const invoice = requireDraft(ctx, id)
  const added = params.map((param, index) => ({ ...addedLine(ctx, invoice, param, `lines[${index}]`), invoice: id }))
  return store(ctx, invoice, [...invoice._.lines, ...added], metadata)
}

function addedLine(ctx: Ctx, invoice: StoredInvoice, param: AddLine, at: string): StoredLine {
  if (param.invoice_item !== undefined) {
    const item = ctx.require('invoiceitem', param.invoice_item, `${at}[invoice_item]`)
    if (item.invoice !== null || item.customer !== invoice.customer) {
      throw invalidRequest('The invoice item must be pending and belong to the same customer.', { param: `${at}[invoice_item]` })
    }
    refuseManualRates(invoice.automatic_tax, [item.tax_rates])
    attachItems(ctx, [item], invoice.id)
    return lineOfInvoiceItem(ctx, item)
  }
  const now = ctx.nowOf(invoice)
  const blank = newLine(ctx, {
    amount: 0,
    currency: invoice.currency,
    description: null,
    parent: null,
    period: { start: now, end: now },
    price: null,
    quantity: decimalOf(1),
    subscription: null,
    itemKey: ctx.newId('il', 24),
    taxRates: [],
  })
  return editedLine(ctx, invoice, blank, param, at)
}

type LineEdit = Omit<AddLine, 'invoice_item'> | UpdateLine

/** A line with parameters applied; the amount follows price and quantity unless it is given. */
export function editedLine(ctx: Ctx, invoice: StoredInvoice, line: StoredLine, param: LineEdit, at: string): StoredLine {
  if (param.tax_amounts !== undefined && param.tax_amounts !== '' && param.tax_amounts.length > 0) {
    throw invalidRequest('`tax_amounts` is not supported by this sandbox.', { param: `${at}[tax_amounts]` })
  }
  const rates = param.tax_rates === undefined ? line._.taxRates : checkedTaxRates(ctx, param.tax_rates)
  refuseManualRates(invoice.automatic_tax, [rates])
  const price = linePrice(ctx, param, at)
  const quantity =
    param.quantity_decimal === undefined ? decimalOf(param.quantity ?? line.quantity ?? 1) : decimal(param.quantity_decimal)
  const kept = line.pricing?.price_details?.price
  const priced = price ?? (kept === undefined ? null : ctx.require('price', kept))
  const repriced = price !== null || ((param.quantity !== undefined || param.quantity_decimal !== undefined) && priced !== null)
  const amount = param.amount ?? (repriced && priced !== null ? amountOf(priced, invoice.currency, quantity) : line.amount)
  const fresh = newLine(ctx, {
    amount,
    currency: line.currency,
    description:
      param.description ?? line.description ?? (price === null ? null : (ctx.get('product', price.product)?.name ?? null)),
    discountable: param.discountable ?? line.discountable,
    discounts: lineDiscounts(ctx, invoice, line, param),
    metadata: mergeMetadata(line.metadata, param.metadata),
    parent: line.parent,
    period: param.period ?? line.period,
    price:
      priced === null || param.amount !== undefined
        ? null
        : { id: priced.id, product: priced.product, unitAmountDecimal: unitAmountOf(priced, invoice.currency) },
    quantity,
    subscription: line.subscription,
    metered: line._.metered,
    itemKey: line._.itemKey,
    taxRates: rates,
    debit: line._.debit,
    taxBehavior: line._.taxBehavior ?? null,
    taxCode: line._.taxCode ?? null,
  })
  return { ...fresh, id: line.id, invoice: line.invoice }
}

function lineDiscounts(ctx: Ctx, invoice: StoredInvoice, line: StoredLine, param: LineEdit): readonly string[] {
  if (param.discounts === undefined || invoice.customer === null) return line.discounts
  const asked = param.discounts === '' ? [] : param.discounts
  return redeemDiscounts(ctx, asked, {
    customer: invoice.customer,
    currency: invoice.currency,
    invoiceItem: line.id,
    invoice: invoice.id,
  })
}

function linePrice(ctx: Ctx, param: LineEdit, at: string): StoredPrice | null {
  if (param.pricing?.price !== undefined) return resolvePrice(ctx, { price: param.pricing.price }, at)
  const data = param.price_data
  if (data === undefined) return null
  const { product_data: productData, product, ...rest } = data
  const { tax_details: _taxDetails, ...plainProduct } = productData ?? { name: '' }
  const id = productData === undefined ? product : createProduct(ctx, plainProduct).id
  return createPrice(ctx, { ...rest, ...(id === undefined ? {} : { product: id }), active: false })
}

/** `POST /v1/invoices/{id}/update_lines`. */
export function updateLines(ctx: Ctx, id: string, params: readonly UpdateLine[], metadata: MetadataParam): StoredInvoice {
  const invoice = requireDraft(ctx, id)
  let lines = invoice._.lines
  for (const [index, param] of params.entries()) {
    if (!lines.some((line) => line.id === param.id)) throw noSuch('line_item', param.id, `lines[${index}][id]`)
    lines = lines.map((line) => (line.id === param.id ? editedLine(ctx, invoice, line, param, `lines[${index}]`) : line))
  }
  return store(ctx, invoice, lines, metadata)
}

/** `POST /v1/invoices/{id}/remove_lines`: `unassign` makes the item of a line pending again, `delete` ends it. */
export function removeLines(ctx: Ctx, id: string, params: readonly RemoveLine[], metadata: MetadataParam): StoredInvoice {
  const invoice = requireDraft(ctx, id)
  for (const [index, { id: lineId, behavior }] of params.entries()) {
    const line = invoice._.lines.find((candidate) => candidate.id === lineId)
    if (line === undefined) throw noSuch('line_item', lineId, `lines[${index}][id]`)
    const item = line.parent?.invoice_item_details?.invoice_item ?? line.parent?.subscription_item_details?.invoice_item ?? null
    if (item === null && behavior === 'unassign') {
      throw invalidRequest('Only lines of invoice items can be unassigned.', { param: `lines[${index}][behavior]` })
    }
    if (item !== null && behavior === 'unassign') ctx.update('invoiceitem', item, { invoice: null })
    if (item !== null && behavior === 'delete') deleteItem(ctx, item)
  }
  const removed = new Set(params.map((param) => param.id))
  const lines = invoice._.lines.filter((line) => !removed.has(line.id))
  return store(ctx, invoice, lines, metadata)
}

function deleteItem(ctx: Ctx, id: string): void {
  const item = ctx.get('invoiceitem', id)
  if (item === undefined) return
  ctx.delete('invoiceitem', id)
  ctx.emit('invoiceitem.deleted', item)
}

/** `POST /v1/invoices/{invoiceId}/lines/{id}`. */
export function updateLine(ctx: Ctx, invoiceId: string, id: string, param: Omit<UpdateLine, 'id'>): StoredLine {
  const updated = updateLines(ctx, invoiceId, [{ ...param, id }], undefined)
  const line = updated._.lines.find((candidate) => candidate.id === id)
  if (line === undefined) throw noSuch('line_item', id)
  return line
}

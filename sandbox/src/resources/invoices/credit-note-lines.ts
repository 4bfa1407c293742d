/** What a credit note credits: a plain amount, invoice lines, or lines of its own. Reads only. */
import { decimal, decimalOf, DECIMAL_SCALE, type Decimal } from '../../billing/decimal.ts'
import { roundLineAmount, roundProration, taxOfLine } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing, noSuch } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredLine } from '../../model/billing.ts'
import type { CreditNoteLineItem, Params } from '../../wire.gen.ts'
import type { StoredInvoice } from './compose.ts'

export type CreditLineParam = NonNullable<Params['POST /v1/credit_notes']['lines']>[number]
type Tax = NonNullable<CreditNoteLineItem['taxes']>[number]

/** A credit note's line with what it takes off the invoice's total. */
export interface CreditLine {
  readonly line: CreditNoteLineItem
  readonly total: number
}

/** The lines of a credit note. A plain `amount` is one line of its own, without tax. */
export function creditLines(
  ctx: Ctx,
  invoice: StoredInvoice,
  params: { readonly amount?: number; readonly lines?: readonly CreditLineParam[] },
): CreditLine[] {
  if (params.lines !== undefined) return params.lines.map((line, index) => lineOf(ctx, invoice, line, `lines[${index}]`))
  if (params.amount === undefined) throw missing('amount')
  if (params.amount <= 0) throw invalidRequest('The amount of a credit note must be positive.', { param: 'amount' })
  return [customLine(ctx, { amount: params.amount, description: 'Credit', quantity: 1, unit: `${params.amount}`, taxRates: [] })]
}

function lineOf(ctx: Ctx, invoice: StoredInvoice, param: CreditLineParam, at: string): CreditLine {
  if (param.type === 'custom_line_item') {
    const unit = param.unit_amount_decimal ?? (param.unit_amount === undefined ? undefined : `${param.unit_amount}`)
    if (unit === undefined) throw missing(`${at}[unit_amount]`)
    const quantity = param.quantity ?? 1
    return customLine(ctx, {
      amount: roundLineAmount(decimal(unit) * decimalOf(quantity), DECIMAL_SCALE * DECIMAL_SCALE),
      description: param.description ?? null,
      quantity,
      unit,
      taxRates: param.tax_rates === undefined || param.tax_rates === '' ? [] : param.tax_rates,
      metadata: mergeMetadata({}, param.metadata),
    })
  }
  const line = invoice._.lines.find((candidate) => candidate.id === param.invoice_line_item)
  if (line === undefined) throw noSuch('line_item', param.invoice_line_item ?? '', `${at}[invoice_line_item]`)
  return invoiceLine(ctx, line, param, at)
}

function customLine(
  ctx: Ctx,
  fields: {
    amount: number
    description: string | null
    quantity: number
    unit: string
    taxRates: readonly string[]
    metadata?: Record<string, string>
  },
): CreditLine {
  const rates = fields.taxRates.map((id) => ctx.require('tax_rate', id, 'tax_rates'))
  const included = rates
    .filter((rate) => rate.inclusive)
    .reduce((sum, rate) => sum + decimal(`${rate.percentage}`), 0n) as Decimal
  const taxes = rates.map((rate): Tax => {
    const amount = Number(
      taxOfLine(BigInt(fields.amount), decimal(`${rate.percentage}`), rate.inclusive ? included : decimal('0')),
    )
    return taxAmount(rate.id, amount, rate.inclusive ? fields.amount - amount : fields.amount, rate.inclusive)
  })
  const line: CreditNoteLineItem = {
    id: ctx.newId('cnli', 24),
    object: 'credit_note_line_item',
    amount: fields.amount,
    description: fields.description,
    discount_amount: 0,
    discount_amounts: [],
    livemode: false,
    metadata: fields.metadata ?? {},
    pretax_credit_amounts: [],
    quantity: fields.quantity,
    tax_rates: rates,
    taxes,
    type: 'custom_line_item',
    unit_amount: Number.isInteger(Number(fields.unit)) ? Number(fields.unit) : null,
    unit_amount_decimal: fields.unit,
  }
  return { line, total: fields.amount + exclusive(taxes) }
}

/** A part of an invoice's line, with its share of the line's discounts and taxes. */
function invoiceLine(ctx: Ctx, line: StoredLine, param: CreditLineParam, at: string): CreditLine {
  const quantity = param.quantity ?? line.quantity ?? 1
  const whole = line.quantity ?? 1
  const amount = param.amount ?? share(line.amount, quantity, whole)
  if (amount <= 0 || amount > line.amount) {
    throw invalidRequest('The amount to credit must be positive and not more than the line.', { param: `${at}[amount]` })
  }
  const discounts = (line.discount_amounts ?? []).map((discount) => ({
    ...discount,
    amount: share(discount.amount, amount, line.amount),
  }))
  const taxes = (line.taxes ?? []).map((tax) => ({
    ...tax,
    amount: share(tax.amount, amount, line.amount),
    taxable_amount: tax.taxable_amount === null ? null : share(tax.taxable_amount, amount, line.amount),
  }))
  const discounted = discounts.reduce((sum, discount) => sum + discount.amount, 0)
  const credited: CreditNoteLineItem = {
    id: ctx.newId('cnli', 24),
    object: 'credit_note_line_item',
    amount,
    description: line.description,
    discount_amount: discounted,
    discount_amounts: discounts,
    invoice_line_item: line.id,
    livemode: false,
    metadata: mergeMetadata({}, param.metadata),
    pretax_credit_amounts: discounts.map((discount) => ({
      amount: discount.amount,
      discount: discount.discount,
      type: 'discount',
    })),
    quantity: param.amount === undefined ? quantity : null,
    tax_rates: [],
    taxes,
    type: 'invoice_line_item',
    unit_amount: null,
    unit_amount_decimal: null,
  }
  return { line: credited, total: amount - discounted + exclusive(taxes) }
}

function share(value: number, part: number, whole: number): number {
  return whole === 0 ? 0 : Number(roundProration(BigInt(value) * BigInt(part), BigInt(whole)))
}

function exclusive(taxes: readonly Tax[]): number {
  return taxes.filter((tax) => tax.tax_behavior === 'exclusive').reduce((sum, tax) => sum + tax.amount, 0)
}

function taxAmount(rate: string, amount: number, taxable: number, inclusive: boolean): Tax {
  return {
    amount,
    tax_behavior: inclusive ? 'inclusive' : 'exclusive',
    tax_rate_details: { tax_rate: rate },
    taxability_reason: 'not_available',
    taxable_amount: taxable,
    type: 'tax_rate_details',
  }
}

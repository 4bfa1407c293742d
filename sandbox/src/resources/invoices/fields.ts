/** Fields of an invoice that a caller may set. */
import { DAY_SECONDS } from '../../billing/periods.ts'
import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { invoicePayments } from '../../payments/contract.ts'
import type { Params } from '../../wire.gen.ts'
import { checkedTaxRates } from '../subscriptions/items-params.ts'
import { automaticTaxOf } from '../tax/automatic-tax.ts'
import type { StoredInvoice } from './compose.ts'

export const FIELD_TAKES = [
  'auto_advance',
  'automatic_tax',
  'automatically_finalizes_at',
  'collection_method',
  'custom_fields',
  'days_until_due',
  'default_payment_method',
  'default_tax_rates',
  'description',
  'discounts',
  'due_date',
  'effective_at',
  'footer',
  'metadata',
  'number',
  'payment_settings',
  'rendering',
  'statement_descriptor',
] as const

export type InvoiceFields = Pick<Params['POST /v1/invoices/{id}'], (typeof FIELD_TAKES)[number]>

/** Turns parameters into a patch; what is absent stays. `discounts` is for the caller. */
export function invoiceFieldsPatch(ctx: Ctx, old: StoredInvoice, params: InvoiceFields, now: number): Partial<StoredInvoice> {
  const method = params.default_payment_method
  if (method !== undefined && method !== '' && old.customer !== null) {
    invoicePayments().requirePaymentMethodOf(ctx, {
      paymentMethod: method,
      customer: old.customer,
      param: 'default_payment_method',
    })
  }
  return {
    ...advancePatch(old, params, now),
    ...duePatch(old, params, now),
    automatic_tax: automaticTaxOf(old.automatic_tax, params.automatic_tax),
    custom_fields: params.custom_fields === undefined ? old.custom_fields : orNull(params.custom_fields),
    default_payment_method: method === undefined ? old.default_payment_method : orNull(method),
    default_tax_rates:
      params.default_tax_rates === undefined ? old.default_tax_rates : checkedTaxRates(ctx, params.default_tax_rates),
    description: params.description === undefined ? old.description : orNull(params.description),
    effective_at: params.effective_at === undefined ? old.effective_at : orNull(params.effective_at),
    footer: params.footer === undefined ? old.footer : orNull(params.footer),
    metadata: mergeMetadata(old.metadata, params.metadata),
    number: params.number === undefined ? old.number : orNull(params.number),
    payment_settings: paymentSettings(old, params.payment_settings),
    rendering: renderingOf(old, params.rendering),
    statement_descriptor:
      params.statement_descriptor === undefined ? old.statement_descriptor : orNull(params.statement_descriptor),
  }
}

function advancePatch(old: StoredInvoice, params: InvoiceFields, now: number): Partial<StoredInvoice> {
  const autoAdvance = params.auto_advance ?? old.auto_advance ?? false
  const at = params.automatically_finalizes_at ?? old.automatically_finalizes_at ?? now + 3600
  return {
    auto_advance: autoAdvance,
    automatically_finalizes_at: autoAdvance && old.status === 'draft' ? at : null,
    ...(autoAdvance ? {} : { next_payment_attempt: null }),
  }
}

function duePatch(old: StoredInvoice, params: InvoiceFields, now: number): Partial<StoredInvoice> {
  const method = params.collection_method ?? old.collection_method
  if (params.days_until_due !== undefined && params.due_date !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: days_until_due, due_date.', { param: 'days_until_due' })
  }
  const due = params.due_date ?? (params.days_until_due === undefined ? undefined : now + params.days_until_due * DAY_SECONDS)
  if (due !== undefined && method !== 'send_invoice') {
    throw invalidRequest('A due date can only be set when `collection_method` is `send_invoice`.', { param: 'due_date' })
  }
  return { collection_method: method, due_date: due ?? (method === 'send_invoice' ? old.due_date : null) }
}

function paymentSettings(old: StoredInvoice, param: InvoiceFields['payment_settings']): StoredInvoice['payment_settings'] {
  if (param === undefined) return old.payment_settings
  const types = param.payment_method_types
  return {
    ...old.payment_settings,
    default_mandate: param.default_mandate === undefined ? old.payment_settings.default_mandate : orNull(param.default_mandate),
    payment_method_types: types === undefined ? old.payment_settings.payment_method_types : orNull(types),
  }
}

function renderingOf(old: StoredInvoice, param: InvoiceFields['rendering']): StoredInvoice['rendering'] {
  if (param === undefined) return old.rendering
  return {
    amount_tax_display: orNull(param.amount_tax_display),
    pdf: param.pdf === undefined ? (old.rendering?.pdf ?? null) : { page_size: param.pdf.page_size ?? null },
    template: param.template ?? null,
    template_version: orNull(param.template_version),
  }
}

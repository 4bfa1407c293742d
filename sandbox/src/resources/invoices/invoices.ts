import type { Ctx } from '../../engine/context.ts'
import { missing } from '../../engine/errors.ts'
import { inRange, list, pageOf, type PageParams } from '../../engine/lists.ts'
import { type Module, operation } from '../../engine/module.ts'
import { field, search } from '../../engine/search.ts'
import type { Params } from '../../wire.gen.ts'
import { AUTOMATIC_TAX_REFUSES } from '../tax/automatic-tax.ts'
import type { StoredInvoice } from './compose.ts'
import { markUncollectible, voidInvoice } from './end.ts'
import { FIELD_TAKES } from './fields.ts'
import { addLines, removeLines, updateLine, updateLines } from './line-edits.ts'
import {
  attachPayment,
  createInvoice,
  deleteDraft,
  finalizeByHand,
  INVOICE_CREATE_TAKES,
  payInvoice,
  sendInvoice,
  updateInvoice,
} from './manual.ts'
import { invoicePresenters } from './present.ts'
import { linesOf, PREVIEW_TAKES, previewInvoice } from './preview.ts'
import { invoiceRules } from './time.ts'

type ListParams = PageParams &
  Pick<Params['GET /v1/invoices'], 'collection_method' | 'customer' | 'due_date' | 'status' | 'subscription'>

function isListed(invoice: StoredInvoice, params: ListParams): boolean {
  return (
    (params.customer === undefined || invoice.customer === params.customer) &&
    (params.subscription === undefined || invoice._.subscription === params.subscription) &&
    (params.status === undefined || invoice.status === params.status) &&
    (params.collection_method === undefined || invoice.collection_method === params.collection_method) &&
    inRange(invoice.due_date, params.due_date)
  )
}

function listInvoices(ctx: Ctx, params: ListParams): object {
  return list(ctx, 'invoice', params, {
    url: '/v1/invoices',
    by: params.subscription === undefined ? ['customer', params.customer] : ['subscription', params.subscription],
    where: (invoice) => isListed(invoice, params),
  })
}

/** Parts of previews that are not understood. */
const PREVIEW_REFUSES = [
  ...AUTOMATIC_TAX_REFUSES,
  'subscription_details.billing_schedules',
  'subscription_details.items.billing_thresholds',
  'subscription_details.items.current_trial',
  'subscription_details.pause',
  'schedule_details.pause_schedules',

  'subscription_details.metadata',
]

const LINE_TAKES = [
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
  'tax_rates',
] as const

const reading = [
  operation({ on: 'GET /v1/invoices/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('invoice', id) }),
  operation({
    on: 'GET /v1/invoices',
    takes: [
      'limit',
      'starting_after',
      'ending_before',
      'created',
      'collection_method',
      'customer',
      'due_date',
      'status',
      'subscription',
    ],
    run: listInvoices,
  }),
  operation({
    on: 'GET /v1/invoices/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) =>
      search(ctx, 'invoice', params, {
        url: '/v1/invoices/search',
        fields: {
          created: field.numeric((invoice) => invoice.created),
          currency: field.token((invoice) => invoice.currency),
          customer: field.token((invoice) => invoice.customer),
          last_finalization_error_code: field.token((invoice) => invoice.last_finalization_error?.code ?? null),
          number: field.string((invoice) => invoice.number),
          receipt_number: field.token((invoice) => invoice.receipt_number),
          status: field.string((invoice) => invoice.status),
          subscription: field.token((invoice) => invoice._.subscription),
          total: field.numeric((invoice) => invoice.total),
        },
      }),
  }),
  operation({
    on: 'GET /v1/invoices/{id}/lines',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) => pageOf(linesOf(ctx, id), params, `/v1/invoices/${id}/lines`),
  }),
  operation({ on: 'POST /v1/invoices/create_preview', takes: PREVIEW_TAKES, refuses: PREVIEW_REFUSES, run: previewInvoice }),
]

const writing = [
  operation({ on: 'POST /v1/invoices', takes: INVOICE_CREATE_TAKES, refuses: AUTOMATIC_TAX_REFUSES, run: createInvoice }),
  operation({
    on: 'POST /v1/invoices/{id}',
    takes: FIELD_TAKES,
    refuses: AUTOMATIC_TAX_REFUSES,
    run: (ctx, params, { id }) => updateInvoice(ctx, id, params),
  }),
  operation({ on: 'DELETE /v1/invoices/{id}', takes: [], run: (ctx, _params, { id }) => deleteDraft(ctx, id) }),
  operation({
    on: 'POST /v1/invoices/{id}/finalize',
    takes: ['auto_advance'],
    run: (ctx, params, { id }) => finalizeByHand(ctx, id, params.auto_advance),
  }),
  operation({
    on: 'POST /v1/invoices/{id}/pay',
    takes: ['forgive', 'off_session', 'paid_out_of_band', 'payment_method'],
    run: (ctx, params, { id }) => payInvoice(ctx, id, params),
  }),
  operation({ on: 'POST /v1/invoices/{id}/send', takes: [], run: (ctx, _params, { id }) => sendInvoice(ctx, id) }),
  operation({ on: 'POST /v1/invoices/{id}/void', takes: [], run: (ctx, _params, { id }) => voidInvoice(ctx, id) }),
  operation({
    on: 'POST /v1/invoices/{id}/mark_uncollectible',
    takes: [],
    run: (ctx, _params, { id }) => markUncollectible(ctx, id),
  }),
  operation({
    on: 'POST /v1/invoices/{id}/attach_payment',
    takes: ['payment_intent'],
    run: (ctx, params, { id }) => {
      if (params.payment_intent === undefined) throw missing('payment_intent')
      return attachPayment(ctx, id, params.payment_intent)
    },
  }),
  operation({
    on: 'POST /v1/invoices/{id}/add_lines',
    takes: ['lines', 'invoice_metadata'],
    refuses: ['lines.tax_amounts'],
    run: (ctx, params, { id }) => addLines(ctx, id, params.lines, params.invoice_metadata),
  }),
  operation({
    on: 'POST /v1/invoices/{id}/update_lines',
    takes: ['lines', 'invoice_metadata'],
    refuses: ['lines.tax_amounts'],
    run: (ctx, params, { id }) => updateLines(ctx, id, params.lines, params.invoice_metadata),
  }),
  operation({
    on: 'POST /v1/invoices/{id}/remove_lines',
    takes: ['lines', 'invoice_metadata'],
    run: (ctx, params, { id }) => removeLines(ctx, id, params.lines, params.invoice_metadata),
  }),
  operation({
    on: 'POST /v1/invoices/{invoiceId}/lines/{id}',
    takes: LINE_TAKES,
    run: (ctx, params, { invoiceId, id }) => updateLine(ctx, invoiceId, id, params),
  }),
]

export const invoicesModule: Module = { operations: [...reading, ...writing], presenters: invoicePresenters, rules: invoiceRules }

import { creditNoteNumber } from '../../billing/numbering.ts'
import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list, pageOf, wholeList } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { type Module, operation, presenter } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import { invoicePayments } from '../../payments/contract.ts'
import type { Params } from '../../wire.gen.ts'
import { changeBalance } from '../customers/customer-balance.ts'
import { openPaymentOf, settleIfNothingDue } from './collect.ts'
import type { StoredInvoice } from './compose.ts'
import { type CreditLine, creditLines } from './credit-note-lines.ts'

type CreditNote = Stored<'credit_note'>

const TAKES = [
  'amount',
  'credit_amount',
  'effective_at',
  'email_type',
  'invoice',
  'lines',
  'memo',
  'metadata',
  'out_of_band_amount',
  'reason',
  'refund_amount',
  'refunds',
] as const

type CreateParams = Pick<Params['POST /v1/credit_notes'], (typeof TAKES)[number]>

/** How a credit note is divided: what lowers the open amount, and what was paid and goes back. */
interface Division {
  readonly prePayment: number
  readonly postPayment: number
  readonly refund: number
  readonly balance: number
  readonly outOfBand: number
  readonly linked: ReadonlyArray<{ readonly refund: string; readonly amount: number }>
}

/** `POST /v1/credit_notes`. Source: docs.stripe.com/api/credit_notes/create. */
function create(ctx: Ctx, params: CreateParams): CreditNote {
  const invoice = ctx.require('invoice', params.invoice, 'invoice')
  if (invoice.status === 'draft' || invoice.status === 'void' || invoice.customer === null) {
    throw invalidRequest(
      `You can only create credit notes for finalized invoices that are not void. This one is ${invoice.status ?? 'a draft'}.`,
      {
        param: 'invoice',
      },
    )
  }
  const lines = creditLines(ctx, invoice, params)
  const total = lines.reduce((sum, line) => sum + line.total, 0)
  checkCreditable(ctx, invoice, total)
  const division = divide(ctx, invoice, params, total)
  const note = ctx.create('credit_note', noteOf(ctx, invoice, invoice.customer, params, lines, division))
  carryOut(ctx, invoice, note, division, params)
  const created = ctx.require('credit_note', note.id)
  ctx.emit('credit_note.created', created)
  return created
}

function issuedNotes(ctx: Ctx, invoice: string): CreditNote[] {
  return ctx.store.by('credit_note', 'invoice', invoice).filter((note) => note.status === 'issued')
}

function checkCreditable(ctx: Ctx, invoice: StoredInvoice, total: number): void {
  const credited = issuedNotes(ctx, invoice.id).reduce((sum, note) => sum + note.amount, 0)
  if (total <= 0) throw invalidRequest('The credit note must credit something.', { param: 'amount' })
  if (credited + total > invoice.total) {
    throw invalidRequest(
      `The sum of credit amount, refund amount and out of band amount (${total}) must not exceed the amount of the invoice that can still be credited (${invoice.total - credited}).`,
      { param: 'amount' },
    )
  }
}

function divide(ctx: Ctx, invoice: StoredInvoice, params: CreateParams, total: number): Division {
  const prePayment =
    invoice.status === 'open' || invoice.status === 'uncollectible' ? Math.min(total, invoice.amount_remaining) : 0
  const postPayment = total - prePayment
  const linked = (params.refunds ?? []).map((link) => {
    const refund = ctx.require('refund', link.refund ?? '', 'refunds[0][refund]')
    return { refund: refund.id, amount: link.amount_refunded ?? refund.amount }
  })
  const refund = params.refund_amount ?? 0
  const balance = params.credit_amount ?? 0
  const outOfBand = params.out_of_band_amount ?? 0
  const given = refund + balance + outOfBand + linked.reduce((sum, link) => sum + link.amount, 0)
  if (given !== postPayment) {
    throw invalidRequest(
      `The sum of credit amount, refund amount and out of band amount (${given}) must equal the post-payment amount of the credit note (${postPayment}).`,
      { param: 'credit_amount' },
    )
  }
  return { prePayment, postPayment, refund, balance, outOfBand, linked }
}

function noteOf(
  ctx: Ctx,
  invoice: StoredInvoice,
  customer: string,
  params: CreateParams,
  credit: readonly CreditLine[],
  division: Division,
): CreditNote {
  const lines = credit.map(({ line }) => line)
  const id = ctx.newId('cn', 24)
  const now = ctx.nowOf(invoice)
  const subtotal = lines.reduce((sum, line) => sum + line.amount, 0)
  const discount = lines.reduce((sum, line) => sum + line.discount_amount, 0)
  const total = credit.reduce((sum, line) => sum + line.total, 0)
  const taxes = lines.flatMap((line) => line.taxes ?? [])
  const tax = taxes.reduce((sum, { amount }) => sum + amount, 0)
  const included = taxes.filter((entry) => entry.tax_behavior === 'inclusive').reduce((sum, { amount }) => sum + amount, 0)
  return {
    id,
    object: 'credit_note',
    amount: total,
    amount_shipping: 0,
    created: now,
    currency: invoice.currency,
    customer,
    customer_account: null,
    customer_balance_transaction: null,
    discount_amount: discount,
    discount_amounts: lines.flatMap((line) => line.discount_amounts),
    effective_at: params.effective_at ?? now,
    invoice: invoice.id,
    livemode: false,
    memo: orNull(params.memo),
    metadata: mergeMetadata({}, params.metadata),
    number: creditNoteNumber(invoice.number ?? invoice.id, invoice._.creditNotes + 1),
    out_of_band_amount: params.out_of_band_amount ?? null,
    pdf: `${ctx.baseUrl}/i/${invoice.id}/pdf`,
    post_payment_amount: division.postPayment,
    pre_payment_amount: division.prePayment,
    pretax_credit_amounts: lines.flatMap((line) => line.pretax_credit_amounts),
    reason: params.reason ?? null,
    refunds: division.linked.map(({ refund, amount }) => linkedRefund(refund, amount)),
    shipping_cost: null,
    status: 'issued',
    subtotal,
    subtotal_excluding_tax: subtotal - included,
    total,
    total_excluding_tax: total - tax,
    total_taxes: taxes,
    type: division.prePayment === 0 ? 'post_payment' : division.postPayment === 0 ? 'pre_payment' : 'mixed',
    voided_at: null,
    _: { lines: lines.map((line) => ({ ...line })) },
  }
}

function linkedRefund(refund: string, amount: number): CreditNote['refunds'][number] {
  return { amount_refunded: amount, payment_record_refund: null, refund, type: 'refund' }
}

/** Lowers what is open; pays back what was paid. */
function carryOut(ctx: Ctx, invoice: StoredInvoice, note: CreditNote, division: Division, params: CreateParams): void {
  ctx.change(
    'invoice',
    invoice.id,
    {
      amount_due: invoice.amount_due - division.prePayment,
      amount_remaining: invoice.amount_remaining - division.prePayment,
      pre_payment_credit_notes_amount: invoice.pre_payment_credit_notes_amount + division.prePayment,
      post_payment_credit_notes_amount: invoice.post_payment_credit_notes_amount + division.postPayment,
      _: { ...invoice._, creditNotes: invoice._.creditNotes + 1 },
    },
    'invoice.updated',
  )
  if (division.prePayment > 0) lowerIntent(ctx, invoice.id)
  if (division.balance > 0) creditBalance(ctx, note, division.balance)
  if (division.refund > 0) refundPayment(ctx, invoice, note, division.refund, params.reason)
}

function lowerIntent(ctx: Ctx, id: string): void {
  if (settleIfNothingDue(ctx, id)) return
  const open = openPaymentOf(ctx, id)
  const intent = open?.payment.payment_intent
  const amount = ctx.require('invoice', id).amount_remaining
  if (open === undefined || intent === undefined) return
  ctx.update('invoice_payment', open.id, { amount_requested: amount })
  invoicePayments().updateInvoiceIntentAmount(ctx, { paymentIntent: intent, amount })
}

function creditBalance(ctx: Ctx, note: CreditNote, amount: number): void {
  const before = ctx.present(ctx.require('customer', note.customer))
  const transaction = changeBalance(ctx, note.customer, {
    amount: -amount,
    currency: note.currency,
    type: 'credit_note',
    invoice: note.invoice,
    creditNote: note.id,
  })
  ctx.update('credit_note', note.id, { customer_balance_transaction: transaction.id })
  ctx.emit('customer.updated', ctx.require('customer', note.customer), { before })
}

function refundPayment(ctx: Ctx, invoice: StoredInvoice, note: CreditNote, amount: number, reason: CreateParams['reason']): void {
  const paid = ctx.store.by('invoice_payment', 'invoice', invoice.id).find((payment) => payment.status === 'paid')
  const intent = paid?.payment.payment_intent
  if (intent === undefined) {
    throw invalidRequest('The invoice has no payment that could be refunded.', { param: 'refund_amount' })
  }
  const why = reason === 'duplicate' || reason === 'fraudulent' ? reason : 'requested_by_customer'
  const refund = invoicePayments().refundInvoicePayment(ctx, { paymentIntent: intent, amount, reason: why })
  ctx.update('credit_note', note.id, { refunds: [...note.refunds, linkedRefund(refund, amount)] })
}

/** Voids a note: an open invoice owes again what the note had taken off. */
function voidNote(ctx: Ctx, id: string): CreditNote {
  const note = ctx.require('credit_note', id)
  const invoice = ctx.require('invoice', note.invoice)
  if (note.status === 'void') throw invalidRequest('This credit note is already void.')
  if (note.type !== 'pre_payment' || invoice.status !== 'open') {
    throw invalidRequest('You can only void credit notes of open invoices.')
  }
  ctx.change(
    'invoice',
    invoice.id,
    {
      amount_due: invoice.amount_due + note.pre_payment_amount,
      amount_remaining: invoice.amount_remaining + note.pre_payment_amount,
      pre_payment_credit_notes_amount: invoice.pre_payment_credit_notes_amount - note.pre_payment_amount,
    },
    'invoice.updated',
  )
  lowerIntent(ctx, invoice.id)
  return ctx.change('credit_note', id, { status: 'void', voided_at: ctx.nowOf(invoice) }, 'credit_note.voided')
}

/** The note that would be, undone again. */
function preview(ctx: Ctx, params: CreateParams): Record<string, unknown> {
  return ctx.rehearse(() => ctx.present(create(ctx, params)))
}

const PREVIEW_TAKES = TAKES
const REFUSES = ['lines.tax_amounts', 'refunds.payment_record_refund']

const operations = [
  operation({ on: 'POST /v1/credit_notes', takes: TAKES, refuses: REFUSES, run: create }),
  operation({ on: 'GET /v1/credit_notes/preview', takes: PREVIEW_TAKES, refuses: REFUSES, run: preview }),
  operation({
    on: 'GET /v1/credit_notes/preview/lines',
    takes: [...PREVIEW_TAKES, 'limit', 'starting_after', 'ending_before'],
    refuses: REFUSES,
    run: (ctx, { limit, starting_after, ending_before, ...params }) => {
      const lines = ctx.rehearse(() => create(ctx, params)._.lines)
      const paging = {
        ...(limit === undefined ? {} : { limit }),
        ...(starting_after === undefined ? {} : { starting_after }),
        ...(ending_before === undefined ? {} : { ending_before }),
      }
      return pageOf(lines, paging, '/v1/credit_notes/preview/lines')
    },
  }),
  operation({
    on: 'POST /v1/credit_notes/{id}',
    takes: ['memo', 'metadata'],
    run: (ctx, params, { id }) => {
      const old = ctx.require('credit_note', id)
      const patch = {
        memo: params.memo === undefined ? old.memo : orNull(params.memo),
        metadata: mergeMetadata(old.metadata, params.metadata),
      }
      return ctx.change('credit_note', id, patch, 'credit_note.updated')
    },
  }),
  operation({ on: 'GET /v1/credit_notes/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('credit_note', id) }),
  operation({ on: 'POST /v1/credit_notes/{id}/void', takes: [], run: (ctx, _params, { id }) => voidNote(ctx, id) }),
  operation({
    on: 'GET /v1/credit_notes/{id}/lines',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) => pageOf(ctx.require('credit_note', id)._.lines, params, `/v1/credit_notes/${id}/lines`),
  }),
  operation({
    on: 'GET /v1/credit_notes',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'customer', 'invoice'],
    run: (ctx, params) =>
      list(ctx, 'credit_note', params, {
        url: '/v1/credit_notes',
        by: params.invoice === undefined ? ['customer', params.customer] : ['invoice', params.invoice],
        where: (note) => params.customer === undefined || note.customer === params.customer,
      }),
  }),
]

const presenters = [
  presenter('credit_note', {
    compose: (note) => ({ lines: wholeList([...note._.lines], `/v1/credit_notes/${note.id}/lines`) }),
  }),
]

export const creditNotesModule: Module = { operations, presenters }

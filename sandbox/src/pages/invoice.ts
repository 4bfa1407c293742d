import type { Ctx } from '../engine/context.ts'
import { page, redirect, type PageRequest, type PageResponse } from '../http/pages.ts'
import type { Stored } from '../model/stored.ts'
import { describeMethod } from '../payments/cards.ts'
import { challengeUrl } from '../payments/confirm.ts'
import type { InvoiceChargeOutcome } from '../payments/contract.ts'
import { createPaymentMethod } from '../payments/payment-methods.ts'
import { collectInvoice, methodUnderWay, paymentMethodOf } from '../resources/invoices/collect.ts'
import type { FormErrors } from './forms.ts'
import { renderInvoicePdf } from './invoice-pdf.ts'
import { sumsOf } from './invoice-sums.ts'
import { renderInvoice, type InvoicePageView, type InvoiceView } from './invoice-view.ts'
import { errorsOf, readCard, respond, respondNotFound, segment, textOf } from './respond.ts'

type Invoice = Stored<'invoice'>

function addressee(invoice: Invoice): string[] {
  const { customer_address: address, customer_email: email, customer_name: name } = invoice
  const town = [address?.postal_code, address?.city].filter((part) => part != null).join(' ')
  const lines = [name, address?.line1, address?.line2, town, address?.country, email]
  const known = lines.filter((line): line is string => line != null && line !== '')
  return known.length === 0 ? [invoice.customer ?? 'Customer'] : known
}

function viewOf(ctx: Ctx, invoice: Invoice): InvoiceView {
  const underWay = methodUnderWay(ctx, invoice.id)
  return {
    amountRemaining: invoice.amount_remaining,
    amountTotal: invoice.total,
    currency: invoice.currency,
    dueAt: invoice.due_date,
    footer: invoice.footer,
    from: invoice.account_name ?? 'Sandbox',
    issuedAt: invoice.status_transitions.finalized_at ?? invoice.created,
    lines: invoice._.lines.map((line) => ({
      amount: line.amount,
      description: line.description ?? '',
      period: line.period.start === line.period.end ? null : line.period,
      quantity: line.quantity === null ? null : String(line.quantity),
    })),
    memo: invoice.description,
    number: invoice.number ?? invoice.id,
    paidAt: invoice.status_transitions.paid_at,
    status: invoice.status ?? 'draft',
    sums: sumsOf(ctx, invoice),
    to: addressee(invoice),
    underWayWith: underWay === null ? null : describeMethod(underWay),
  }
}

function pageView(ctx: Ctx, invoice: Invoice, errors: FormErrors, exp = ''): InvoicePageView {
  const id = paymentMethodOf(ctx, invoice)
  const method = id === null ? undefined : ctx.get('payment_method', id)
  return {
    errors,
    exp,
    invoice: viewOf(ctx, invoice),
    onFile: method === undefined ? null : { isCard: method.card !== undefined, label: describeMethod(method) },
    pdfPath: `/i/${invoice.id}/pdf`,
  }
}

/** A finalized invoice; drafts have no page. */
function findInvoice(ctx: Ctx, request: PageRequest): Invoice | null {
  const invoice = ctx.get('invoice', segment(request, 'invoice'))
  return invoice === undefined || invoice.status === 'draft' ? null : invoice
}

const isPayable = (ctx: Ctx, invoice: Invoice): boolean =>
  (invoice.status === 'open' || invoice.status === 'uncollectible') && methodUnderWay(ctx, invoice.id) === null

const show = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const invoice = findInvoice(ctx, request)
    return invoice === null ? respondNotFound('invoice') : respond(renderInvoice(pageView(ctx, invoice, {})))
  })

function challenge(ctx: Ctx, invoice: Invoice, paymentIntent: string): PageResponse {
  const intent = ctx.require('payment_intent', paymentIntent)
  ctx.update('payment_intent', intent.id, { _: { ...intent._, returnUrl: invoice.hosted_invoice_url ?? null } })
  return redirect(challengeUrl(ctx, intent.client_secret))
}

function answerOutcome(
  ctx: Ctx,
  invoice: Invoice,
  outcome: InvoiceChargeOutcome,
): PageResponse | { readonly declined: FormErrors } {
  switch (outcome.kind) {
    case 'succeeded':
    case 'processing':
      return redirect(`/i/${invoice.id}`)
    case 'requires_action':
      return challenge(ctx, invoice, outcome.paymentIntent)
    case 'declined':
      return { declined: { form: `${outcome.message} Nothing was paid. Use another card.` } }
    case 'requires_payment_method':
    case 'requires_confirmation':
      return { declined: { form: 'There is no payment method on file. Enter a card.' } }
  }
}

const pay = (request: PageRequest): PageResponse => {
  const exp = textOf(request.form, 'exp')
  const again = (errors: FormErrors, status: number): PageResponse =>
    request.transact((ctx) => {
      const invoice = findInvoice(ctx, request)
      return invoice === null ? respondNotFound('invoice') : respond(renderInvoice(pageView(ctx, invoice, errors, exp)), status)
    })
  const onFile = textOf(request.form, 'pay_with') === 'on_file'
  const card = onFile ? null : readCard(request.form)
  if (card !== null && 'errors' in card) return again(card.errors, 400)
  try {
    const answer = request.transact((ctx): PageResponse | { readonly declined: FormErrors } => {
      const invoice = findInvoice(ctx, request)
      if (invoice === null) return respondNotFound('invoice')
      if (!isPayable(ctx, invoice)) return redirect(`/i/${invoice.id}`)
      const method = card === null ? undefined : createPaymentMethod(ctx, { card: card.card }).id
      const chosen = method === undefined ? {} : { paymentMethod: method }
      return answerOutcome(ctx, invoice, collectInvoice(ctx, invoice.id, { automatic: false, offSession: false, ...chosen }))
    })
    return 'declined' in answer ? again(answer.declined, 402) : answer
  } catch (error) {
    const { errors, status } = errorsOf(error)
    return again(errors, status)
  }
}

const pdf = async (request: PageRequest): Promise<PageResponse> => {
  const found = request.transact((ctx) => {
    const invoice = findInvoice(ctx, request)
    return invoice === null ? null : { now: ctx.nowOf(invoice), view: viewOf(ctx, invoice) }
  })
  if (found === null) return respondNotFound('invoice')
  return {
    body: await renderInvoicePdf(found.view, found.now),
    headers: {
      'cache-control': 'no-store',
      'content-disposition': `attachment; filename="Invoice-${found.view.number.replace(/[^\w-]/g, '')}.pdf"`,
      'content-type': 'application/pdf',
    },
  }
}

/** The hosted invoice page, and the invoice as a PDF. */
export const invoicePages = [page('GET /i/{invoice}', show), page('POST /i/{invoice}', pay), page('GET /i/{invoice}/pdf', pdf)]

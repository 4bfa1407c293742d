import type { FormErrors } from './forms.ts'
import { renderCardFields, renderErrorSummary, renderTestCards } from './forms.ts'
import type { Html } from './html.ts'
import { html } from './html.ts'
import { renderPage } from './layout.ts'
import { formatDate, formatMoney } from './money.ts'

export interface InvoiceView {
  readonly number: string
  readonly status: 'draft' | 'open' | 'paid' | 'uncollectible' | 'void'
  readonly currency: string
  readonly issuedAt: number
  readonly dueAt: number | null
  readonly paidAt: number | null
  readonly from: string
  readonly to: readonly string[]
  readonly memo: string | null
  readonly footer: string | null
  readonly lines: ReadonlyArray<{
    readonly description: string
    readonly period: { readonly start: number; readonly end: number } | null
    readonly quantity: string | null
    readonly amount: number
  }>
  /** Subtotal, discounts, tax, total, credits, payments, what is due (`strong`), what was given back: label and amount. */
  readonly sums: ReadonlyArray<{ readonly label: string; readonly amount: number; readonly strong?: boolean }>
  /** "STRIPE TEST BANK ending in 6789", while a payment with it waits for the bank. */
  readonly underWayWith: string | null
  readonly amountRemaining: number
  readonly amountTotal: number
}

const statusWords: Readonly<Record<InvoiceView['status'], string>> = {
  draft: 'Draft',
  open: 'Payment due',
  paid: 'Paid',
  uncollectible: 'Uncollectible',
  void: 'Void',
}

/** The status in words, as page and PDF have it. */
export function statusOf({ status, underWayWith }: InvoiceView): string {
  return underWayWith === null ? statusWords[status] : 'Payment under way'
}

function badgeTone({ status, underWayWith }: InvoiceView): string {
  if (status === 'paid') return 'good'
  return status === 'open' && underWayWith === null ? 'bad' : ''
}

function dueWords({ status, underWayWith }: InvoiceView): string {
  if (underWayWith !== null) return `A payment with ${underWayWith} is under way. Nothing else is to be done.`
  return status === 'paid' || status === 'void' ? `${statusWords[status]}. Nothing is due.` : 'Amount due'
}

export interface InvoicePageView {
  readonly invoice: InvoiceView
  readonly pdfPath: string
  /** "Visa ending in 4242", when the customer has a payment method on file. */
  readonly onFile: { readonly label: string; readonly isCard: boolean } | null
  readonly exp: string
  readonly errors: FormErrors
}

/** The dates that matter, in the order a reader asks for them. */
export function invoiceDates(invoice: InvoiceView): ReadonlyArray<readonly [string, string]> {
  const due = invoice.dueAt === null ? [] : [['Due', formatDate(invoice.dueAt)] as const]
  const paid = invoice.paidAt === null ? [] : [['Paid', formatDate(invoice.paidAt)] as const]
  return [['Issued', formatDate(invoice.issuedAt)], ...due, ...paid]
}

function renderPayForm(page: InvoicePageView): Html | null {
  const { invoice, onFile } = page
  if ((invoice.status !== 'open' && invoice.status !== 'uncollectible') || invoice.underWayWith !== null) return null
  const label = `Pay ${formatMoney(invoice.amountRemaining, invoice.currency)}`
  const known =
    onFile !== null &&
    html`<form class="card" method="post" aria-label="Pay with the ${onFile.isCard ? 'card' : 'bank account'} on file">
      <h2>${onFile.isCard ? 'Card' : 'Bank account'} on file</h2>
      <p>${onFile.label}</p>
      <button name="pay_with" value="on_file">${label}</button>
    </form>`
  const fresh = html`<form class="card" method="post" novalidate aria-label="Pay with a new card">
    <h2>${onFile?.isCard === true ? 'Another card' : 'Pay by card'}</h2>
    ${renderCardFields(page.errors, page.exp)}
    <div class="actions">
      <button ${onFile === null ? null : html`class="plain"`} name="pay_with" value="new">${label}</button>
    </div>
  </form>`
  return html`${known}${fresh}${renderTestCards()}`
}

/** The hosted invoice page. */
export function renderInvoice(page: InvoicePageView): Html {
  const { invoice } = page
  const money = (amount: number): string => formatMoney(amount, invoice.currency)
  const title = `Invoice ${invoice.number}`
  const paper = html`<section class="card" aria-label="Invoice">
    <div class="row between">
      <p class="total">${money(invoice.status === 'paid' ? invoice.amountTotal : invoice.amountRemaining)}</p>
      <span class="badge ${badgeTone(invoice)}">${statusOf(invoice)}</span>
    </div>
    <p class="quiet">${dueWords(invoice)}</p>
    <dl class="lines facts">
      <div>
        <dt>From</dt>
        <dd>${invoice.from}</dd>
      </div>
      <div>
        <dt>To</dt>
        <dd>${invoice.to.map((line) => html`<div>${line}</div>`)}</dd>
      </div>
      ${invoiceDates(invoice).map(
        ([label, date]) =>
          html`<div>
            <dt>${label}</dt>
            <dd>${date}</dd>
          </div>`,
      )}
    </dl>
    ${invoice.memo && html`<p>${invoice.memo}</p>`}
    <dl class="lines">
      ${invoice.lines.map(
        (line) =>
          html`<div>
            <dt>
              ${line.description}
              ${line.period && html`<div class="quiet small">${formatDate(line.period.start)} – ${formatDate(line.period.end)}</div>`}
            </dt>
            <dd>${money(line.amount)}</dd>
          </div>`,
      )}
      ${invoice.sums.map(
        (sum) =>
          html`<div ${sum.strong ? html`class="sum"` : null}>
            <dt>${sum.label}</dt>
            <dd>${money(sum.amount)}</dd>
          </div>`,
      )}
    </dl>
    ${invoice.footer && html`<p class="quiet small">${invoice.footer}</p>`}
    <p><a class="button plain inline" href="${page.pdfPath}">Download PDF</a></p>
  </section>`
  const pay = renderPayForm(page)
  const problem = Object.keys(page.errors).length > 0
  return renderPage({
    title,
    problem,
    wide: pay !== null,
    body: html`<h1>${title}</h1>
      ${renderErrorSummary(page.errors)}
      ${
        pay === null
          ? paper
          : html`<div class="columns">
              <div>${paper}</div>
              <div>${pay}</div>
            </div>`
      }`,
  })
}

import { page, type PageRequest, type PageResponse } from '../http/pages.ts'
import { describeChargeMethod, type Charge } from '../payments/charges.ts'
import { html, type Html } from './html.ts'
import { renderPage } from './layout.ts'
import { formatDate, formatMoney } from './money.ts'
import { respond, respondNotFound, segment } from './respond.ts'

function renderReceipt(charge: Charge): Html {
  const refunded = charge.captured ? charge.amount_refunded - (charge.amount - charge.amount_captured) : 0
  return renderPage({
    title: 'Receipt',
    body: html`<h1>Receipt</h1>
      <section class="card" aria-label="Receipt">
        <p class="total">${formatMoney(charge.amount_captured, charge.currency)}</p>
        <dl class="lines facts">
          <div>
            <dt>Paid</dt>
            <dd>${formatDate(charge.created)}</dd>
          </div>
          <div>
            <dt>With</dt>
            <dd>${describeChargeMethod(charge)}</dd>
          </div>
          ${
            charge.description &&
            html`<div>
              <dt>For</dt>
              <dd>${charge.description}</dd>
            </div>`
          }
          ${
            refunded > 0 &&
            html`<div>
              <dt>Refunded</dt>
              <dd>${formatMoney(refunded, charge.currency)}</dd>
            </div>`
          }
        </dl>
      </section>`,
  })
}

const show = (request: PageRequest): PageResponse =>
  request.transact((ctx) => {
    const charge = ctx.get('charge', segment(request, 'charge'))
    return charge === undefined || charge.status !== 'succeeded' ? respondNotFound('receipt') : respond(renderReceipt(charge))
  })

/** The page behind a charge's `receipt_url`. */
export const receiptPages = [page('GET /receipts/{charge}', show)]

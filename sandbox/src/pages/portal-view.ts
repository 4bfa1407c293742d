import type { Html, Interpolated } from './html.ts'
import { html, linkTarget } from './html.ts'
import { renderPage } from './layout.ts'
import { formatDate, formatMoney } from './money.ts'

export interface PortalSubscription {
  readonly id: string
  readonly name: string
  /** "$29.00 per month", one per item. */
  readonly prices: readonly string[]
  readonly status: string
  readonly periodEnd: number | null
  readonly trialEnd: number | null
  /** When it ends, if a cancellation is scheduled. */
  readonly endsAt: number | null
  readonly pausedUntil: number | 'indefinitely' | null
  readonly can: {
    readonly update: boolean
    readonly cancel: boolean
    readonly renew: boolean
    readonly pause: boolean
    readonly resume: boolean
  }
}

export interface PortalInvoice {
  readonly number: string
  readonly createdAt: number
  readonly amount: number
  readonly currency: string
  readonly status: string
  readonly url: string | null
}

export interface PortalHomeView {
  /** `/p/session/…`, the address that every link of this session begins with. */
  readonly base: string
  readonly headline: string | null
  readonly returnUrl: string | null
  readonly notice: string | null
  readonly subscriptions: readonly PortalSubscription[]
  readonly paymentMethods: ReadonlyArray<{
    readonly id: string
    readonly label: string
    /** Null for a bank account. */
    readonly expires: string | null
    readonly isDefault: boolean
  }>
  readonly customer: ReadonlyArray<readonly [label: string, value: string]>
  /** Null where the configuration hides the list. */
  readonly invoices: readonly PortalInvoice[] | null
  readonly canUpdatePaymentMethod: boolean
  readonly canUpdateCustomer: boolean
  readonly terms: string | null
  readonly privacy: string | null
}

/** The way out of a portal page: to the shop from the home page, to the home page from the others. */
export function renderBackLink(url: string | null, label: string): Html | null {
  if (url === null) return null
  const target = url.startsWith('/') ? url : linkTarget(url)
  return target === null ? null : html`<p><a href="${target}">← ${label}</a></p>`
}

const goodStatuses = new Set(['active', 'trialing', 'paid'])
const badStatuses = new Set(['past_due', 'unpaid', 'incomplete', 'open', 'uncollectible'])

/** A status word in its colour; the word itself carries the meaning. */
export function renderStatus(status: string): Html {
  const tone = goodStatuses.has(status) ? 'good' : badStatuses.has(status) ? 'bad' : ''
  return html`<span class="badge ${tone}">${status.replaceAll('_', ' ')}</span>`
}

function renderNextStep(subscription: PortalSubscription): Interpolated {
  const { endsAt, pausedUntil, periodEnd, status, trialEnd } = subscription
  if (endsAt !== null) return html`<p>Ends on ${formatDate(endsAt)}.</p>`
  if (pausedUntil === 'indefinitely') return html`<p>Paused until you resume it.</p>`
  if (pausedUntil !== null) return html`<p>Paused until ${formatDate(pausedUntil)}.</p>`
  if (status === 'trialing' && trialEnd !== null) return html`<p>Trial until ${formatDate(trialEnd)}.</p>`
  return periodEnd !== null && html`<p class="quiet">Next invoice on ${formatDate(periodEnd)}.</p>`
}

function renderSubscription(base: string, subscription: PortalSubscription): Html {
  const { can, id, name } = subscription
  const link = (action: string, label: string, plain = true): Html =>
    html`<a class="button inline${plain ? ' plain' : ''}" href="${base}/subscriptions/${id}/${action}"
      >${label}<span class="unseen"> of ${name}</span></a
    >`
  return html`<article class="card" aria-label="${name}">
    <div class="row between">
      <h3>${name}</h3>
      ${renderStatus(subscription.status)}
    </div>
    ${subscription.prices.map((price) => html`<p>${price}</p>`)} ${renderNextStep(subscription)}
    <div class="row">
      ${can.renew && link('renew', 'Do not cancel', false)} ${can.update && link('update', 'Change plan')}
      ${can.resume && link('resume', 'Resume')} ${can.pause && link('pause', 'Pause')} ${can.cancel && link('cancel', 'Cancel')}
    </div>
  </article>`
}

function renderPaymentMethods(view: PortalHomeView): Html {
  return html`<section aria-labelledby="payment-method">
    <h2 id="payment-method">Payment method</h2>
    <div class="card">
      ${
        view.paymentMethods.length === 0
          ? html`<p class="quiet">No payment method is on file.</p>`
          : html`<dl class="lines">
              ${view.paymentMethods.map(
                (method) =>
                  html`<div>
                    <dt>${method.label}${method.isDefault ? html` <span class="badge">default</span>` : null}</dt>
                    <dd class="quiet">${method.expires === null ? null : `expires ${method.expires}`}</dd>
                  </div>`,
              )}
            </dl>`
      }
      ${view.canUpdatePaymentMethod && html`<p><a class="button plain inline" href="${view.base}/payment-method">Update payment method</a></p>`}
    </div>
  </section>`
}

function renderCustomer(view: PortalHomeView): Html {
  return html`<section aria-labelledby="customer">
    <h2 id="customer">Billing information</h2>
    <div class="card">
      <dl class="lines facts">
        ${view.customer.map(
          ([label, value]) =>
            html`<div>
              <dt>${label}</dt>
              <dd>${value}</dd>
            </div>`,
        )}
      </dl>
      ${view.canUpdateCustomer && html`<p><a class="button plain inline" href="${view.base}/customer">Update information</a></p>`}
    </div>
  </section>`
}

function renderInvoices(invoices: readonly PortalInvoice[]): Html {
  const row = (invoice: PortalInvoice): Html => {
    const target = invoice.url === null ? null : linkTarget(invoice.url)
    return html`<tr>
      <td>
        ${target === null ? invoice.number : html`<a href="${target}">${invoice.number}</a>`}
        <div class="quiet small">${formatDate(invoice.createdAt)}</div>
      </td>
      <td>${renderStatus(invoice.status)}</td>
      <td class="number">${formatMoney(invoice.amount, invoice.currency)}</td>
    </tr>`
  }
  return html`<section aria-labelledby="invoices">
    <h2 id="invoices">Invoices</h2>
    <div class="card scroll" tabindex="0" role="group" aria-label="Table of invoices">
      ${
        invoices.length === 0
          ? html`<p class="quiet">There are no invoices yet.</p>`
          : html`<table>
              <thead>
                <tr>
                  <th scope="col">Invoice</th>
                  <th scope="col">Status</th>
                  <th scope="col" class="number">Amount</th>
                </tr>
              </thead>
              <tbody>
                ${invoices.map(row)}
              </tbody>
            </table>`
      }
    </div>
  </section>`
}

function renderPolicies(view: PortalHomeView): Html | null {
  const terms = view.terms === null ? null : linkTarget(view.terms)
  const privacy = view.privacy === null ? null : linkTarget(view.privacy)
  if (terms === null && privacy === null) return null
  return html`<p class="small row">
    ${terms && html`<a href="${terms}">Terms of service</a>`} ${privacy && html`<a href="${privacy}">Privacy policy</a>`}
  </p>`
}

/** The portal's home page: subscriptions, payment method, billing information, invoices. */
export function renderPortalHome(view: PortalHomeView): Html {
  return renderPage({
    title: 'Billing',
    wide: true,
    body: html`${renderBackLink(view.returnUrl, 'Back to the shop')}
      <h1>${view.headline ?? 'Billing'}</h1>
      ${view.notice && html`<div class="notice" role="status"><p>${view.notice}</p></div>`}
      <div class="columns">
        <section aria-labelledby="subscriptions">
          <h2 id="subscriptions">Subscriptions</h2>
          ${
            view.subscriptions.length === 0
              ? html`<p class="card quiet">There is no subscription.</p>`
              : view.subscriptions.map((subscription) => renderSubscription(view.base, subscription))
          }
        </section>
        <div>
          ${renderPaymentMethods(view)} ${renderCustomer(view)} ${view.invoices && renderInvoices(view.invoices)}
          ${renderPolicies(view)}
        </div>
      </div>`,
  })
}

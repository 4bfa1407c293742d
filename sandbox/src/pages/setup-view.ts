import type { FormErrors } from './forms.ts'
import { renderCardFields, renderErrorSummary, renderTestCards } from './forms.ts'
import type { Html } from './html.ts'
import { html } from './html.ts'
import { renderMessage, renderPage } from './layout.ts'
import { formatMoney } from './money.ts'

/**
 * The form that stands where Stripe.js would: it confirms a setup intent or payment intent by its `client_secret`.
 * `returnUrl` is carried along as a hidden field.
 */
export function renderIntentForm(view: {
  readonly payment: { readonly amount: number; readonly currency: string } | null
  readonly description: string | null
  readonly exp: string
  readonly errors: FormErrors
}): Html {
  const title = view.payment === null ? 'Save a card' : `Pay ${formatMoney(view.payment.amount, view.payment.currency)}`
  return renderPage({
    title,
    problem: Object.keys(view.errors).length > 0,
    body: html`<h1>${title}</h1>
      ${renderErrorSummary(view.errors)} ${view.description && html`<p>${view.description}</p>`}
      <form class="card" method="post" novalidate aria-label="${title}">
        ${renderCardFields(view.errors, view.exp)}
        <div class="actions"><button>${title}</button></div>
      </form>
      ${renderTestCards()}`,
  })
}

/** What the form shows once its intent needs nothing more. */
export function renderIntentDone(state: 'paid' | 'saved' | 'canceled' | 'processing'): Html {
  const texts = {
    paid: { title: 'Done', text: 'The payment went through. You can close this page.' },
    saved: { title: 'Done', text: 'The payment method was saved. You can close this page.' },
    canceled: { title: 'Canceled', text: 'This request was canceled. Nothing was charged.' },
    processing: { title: 'In progress', text: 'This is being processed. Look again in a moment.' },
  }
  return renderMessage(texts[state])
}

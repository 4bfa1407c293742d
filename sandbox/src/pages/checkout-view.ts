import type { FormErrors } from './forms.ts'
import { renderCardFields, renderErrorSummary, renderField, renderSelect, renderTestCards } from './forms.ts'
import type { Html } from './html.ts'
import { html, linkTarget } from './html.ts'
import { renderMessage, renderPage } from './layout.ts'
import { formatDate, formatMoney } from './money.ts'

export interface CheckoutLine {
  readonly name: string
  readonly description: string | null
  readonly quantity: number | null
  /** "$29.00 per month" */
  readonly unitPrice: string
  /** Minor units, before discounts. */
  readonly amount: number
}

/** A question of the session's own. */
export interface CustomField {
  readonly key: string
  readonly label: string
  readonly optional: boolean
  readonly value: string
  readonly numeric: boolean
  readonly maximum: number
  /** Of a dropdown; null for a text field. */
  readonly options: ReadonlyArray<{ readonly label: string; readonly value: string }> | null
}

export interface BillingInput {
  readonly name: string
  readonly line1: string
  readonly city: string
  readonly postalCode: string
  readonly state: string
  readonly country: string
  /** Of a company that buys, with its tax id; empty where nothing was said. */
  readonly businessName: string
  readonly taxId: string
}

/** Everything the hosted checkout page shows; made from a session by `checkout.ts`. */
export interface CheckoutView {
  /** Where the form goes. */
  readonly action: string
  readonly mode: 'payment' | 'setup' | 'subscription'
  readonly currency: string
  readonly lines: readonly CheckoutLine[]
  readonly subtotal: number
  readonly discounts: ReadonlyArray<{ readonly label: string; readonly amount: number }>
  readonly tax: number
  /** What is paid now. */
  readonly total: number
  /** Days of trial and the day it ends; null without a trial. */
  readonly trial: { readonly days: number; readonly endsAt: number; readonly thenEach: string } | null
  /** "per month" when the subscription recurs from the start. */
  readonly recurring: string | null
  /** A known address is shown, not asked for. */
  readonly email: { readonly value: string; readonly fixed: boolean }
  readonly asksForCard: boolean
  readonly asksForPromotionCode: boolean
  readonly promotionCode: string
  readonly appliedPromotionCode: string | null
  /** How many of a line, where the visitor may say so. */
  readonly quantities: ReadonlyArray<{
    readonly item: string
    readonly name: string
    readonly quantity: number
    readonly min: number
  }>
  /** Shown below the button. */
  readonly afterSubmit: string | null
  readonly customFields: readonly CustomField[]
  /** Name and address, where the session asks for them. */
  readonly billing: BillingInput | null
  /** All of it is required, rather than as much as tax follows from. */
  readonly billingRequired: boolean
  readonly asksForTaxId: boolean
  /** Tax is still unknown: the page asks for the address first. */
  readonly awaitsAddress: boolean
  /** Tax follows from the address. */
  readonly isTaxed: boolean
  /** What of the prices is tax. */
  readonly includedTax: number
  readonly submitNote: string | null
  readonly submitType: string | null
  readonly cancelUrl: string | null
  readonly exp: string
  readonly errors: FormErrors
  /** Said above the form when nothing is wrong. */
  readonly notice: string | null
}

function buttonLabel(view: CheckoutView): string {
  if (view.mode === 'setup') return 'Save card'
  if (view.trial !== null) return 'Start trial'
  if (view.mode === 'subscription') return view.submitType === 'pay' ? 'Pay' : 'Subscribe'
  const verb = { book: 'Book', donate: 'Donate', subscribe: 'Subscribe' }[view.submitType ?? ''] ?? 'Pay'
  return view.total === 0 ? 'Complete order' : `${verb} ${formatMoney(view.total, view.currency)}`
}

function heading(view: CheckoutView): string {
  if (view.mode === 'setup') return 'Save a card'
  if (view.trial !== null) return 'Start your trial'
  return view.mode === 'subscription' ? 'Subscribe' : 'Pay'
}

function renderTrial(view: CheckoutView): Html | null {
  if (view.trial === null) return null
  const { days, endsAt, thenEach } = view.trial
  return html`<p class="quiet">${days} ${days === 1 ? 'day' : 'days'} free. Then ${thenEach}, from ${formatDate(endsAt)} on.</p>`
}

function renderTax(view: CheckoutView): Html | null {
  const { awaitsAddress, includedTax, isTaxed, tax } = view
  if (awaitsAddress) return renderSum('Tax', 'Follows from your address')
  const included = includedTax === 0 ? null : renderSum('Tax included', formatMoney(includedTax, view.currency))
  // With prices that include their tax, a row of nothing on top would say that there is none.
  const onTop = tax === 0 && (!isTaxed || included !== null) ? null : renderSum('Tax', formatMoney(tax, view.currency))
  return html`${onTop}${included}`
}

const renderSum = (label: string, value: string): Html =>
  html`<div>
    <dt>${label}</dt>
    <dd>${value}</dd>
  </div>`

function renderSummary(view: CheckoutView): Html {
  const money = (amount: number): string => formatMoney(amount, view.currency)
  return html`<section class="card" aria-labelledby="summary">
    <h2 id="summary">Order</h2>
    <p class="total">
      ${money(view.total)}${view.recurring && !view.trial ? html` <span class="quiet small">${view.recurring}</span>` : null}
    </p>
    ${renderTrial(view)}
    <dl class="lines">
      ${view.lines.map(
        (line) =>
          html`<div>
            <dt>
              ${line.name}${line.quantity !== null && line.quantity !== 1 ? html` × ${line.quantity}` : null}
              <div class="quiet small">${line.description ? html`${line.description}. ` : null}${line.unitPrice}</div>
            </dt>
            <dd>${money(line.amount)}</dd>
          </div>`,
      )}
      <div>
        <dt>Subtotal</dt>
        <dd>${money(view.subtotal)}</dd>
      </div>
      ${view.discounts.map(
        (discount) =>
          html`<div>
            <dt>${discount.label}</dt>
            <dd>${money(-discount.amount)}</dd>
          </div>`,
      )}
      ${renderTax(view)}
      <div class="sum">
        <dt>${view.awaitsAddress ? 'Due today, before tax' : 'Due today'}</dt>
        <dd>${money(view.total)}</dd>
      </div>
    </dl>
  </section>`
}

function renderPromotion(view: CheckoutView): Html | null {
  if (!view.asksForPromotionCode) return null
  if (view.appliedPromotionCode !== null) {
    return html`<div class="field row between">
      <span>Promotion code <strong>${view.appliedPromotionCode}</strong> applied</span>
      <button class="plain inline" name="action" value="remove_promotion_code" formnovalidate>Remove</button>
    </div>`
  }
  return html`${renderField(
      { name: 'promotion_code', label: 'Promotion code', value: view.promotionCode, required: false, autocomplete: 'off' },
      view.errors,
    )}
    <p><button class="plain inline" name="action" value="apply_promotion_code" formnovalidate>Apply code</button></p>`
}

function renderQuantities(view: CheckoutView): Html | null {
  if (view.quantities.length === 0) return null
  return html`${view.quantities.map(({ item, min, name, quantity }) =>
      renderField(
        { label: `Quantity of ${name}`, min, name: `quantity_${item}`, type: 'number', value: String(quantity) },
        view.errors,
      ),
    )}
    <p><button class="plain inline" name="action" value="update_quantities" formnovalidate>Update total</button></p>`
}

function renderContact(view: CheckoutView): Html {
  if (view.email.fixed) {
    return html`<div class="field">
      <label for="email">E-mail</label>
      <input type="email" id="email" name="email" value="${view.email.value}" readonly autocomplete="email" />
    </div>`
  }
  return renderField(
    { name: 'email', label: 'E-mail', type: 'email', value: view.email.value, autocomplete: 'email', inputmode: 'email' },
    view.errors,
  )
}

function renderCustomField(field: CustomField, errors: FormErrors): Html {
  const name = `custom_${field.key}`
  const shared = { label: field.label, name, required: !field.optional, value: field.value }
  if (field.options !== null) return renderSelect({ ...shared, options: field.options }, errors)
  const inputmode = field.numeric ? 'numeric' : 'text'
  return renderField({ ...shared, autocomplete: 'off', inputmode, maxlength: field.maximum }, errors)
}

function renderBilling(view: CheckoutView): Html | null {
  if (view.billing === null) return null
  const { businessName, city, country, line1, name, postalCode, state, taxId } = view.billing
  const field = (key: string, label: string, value: string, autocomplete: string, required = view.billingRequired): Html =>
    renderField({ autocomplete, label, name: key, required, value }, view.errors)
  return html`<fieldset>
      <legend>Billing address</legend>
      ${field('name', 'Name', name, 'name')} ${field('line1', 'Street and number', line1, 'address-line1')}
      ${field('postal_code', 'Postal code', postalCode, 'postal-code')} ${field('city', 'City', city, 'address-level2')}
      ${field('state', 'State or province', state, 'address-level1', false)}
      ${field('country', 'Country (two letters)', country, 'country', true)}
    </fieldset>
    ${
      view.asksForTaxId
        ? html`<fieldset>
            <legend>Company</legend>
            ${field('business_name', 'Name of the company', businessName, 'organization', false)}
            ${field('tax_id', 'Tax id', taxId, 'off', false)}
          </fieldset>`
        : null
    }
    ${
      view.isTaxed && !view.awaitsAddress
        ? html`<p><button class="plain inline" name="action" value="set_address" formnovalidate>Update tax</button></p>`
        : null
    }`
}

/** Everything that is asked for once it is known what there is to pay. */
function renderPayment(view: CheckoutView): Html {
  return html`${view.customFields.map((field) => renderCustomField(field, view.errors))}
  ${view.asksForCard ? renderCardFields(view.errors, view.exp) : html`<p>No card is needed now.</p>`} ${renderPromotion(view)}
  ${view.submitNote && html`<p class="quiet small">${view.submitNote}</p>`}`
}

/** The hosted checkout page: order on one side, contact and card on the other. */
export function renderCheckout(view: CheckoutView): Html {
  const cancel = view.cancelUrl === null ? null : linkTarget(view.cancelUrl)
  const [action, label] = view.awaitsAddress ? ['set_address', 'Continue'] : ['pay', buttonLabel(view)]
  const form = html`<form class="card" method="post" action="${view.action}" novalidate aria-label="${heading(view)}">
    ${
      // The first submit button is the one that Enter presses, so paying comes before "apply code" in the form.
      html`<button class="skip" tabindex="-1" aria-hidden="true" name="action" value="${action}">${label}</button>`
    }
    ${renderQuantities(view)} ${renderContact(view)} ${renderBilling(view)} ${view.awaitsAddress ? null : renderPayment(view)}
    <div class="actions">
      <button name="action" value="${action}">${label}</button>
      ${cancel && html`<a class="button plain" href="${cancel}">Cancel and go back</a>`}
    </div>
    ${view.afterSubmit && html`<p class="quiet small">${view.afterSubmit}</p>`}
  </form>`
  const aside = view.asksForCard && !view.awaitsAddress ? renderTestCards() : null
  const problem = Object.keys(view.errors).length > 0
  const top = html`<h1>${heading(view)}</h1>
    ${renderErrorSummary(view.errors)} ${view.notice && html`<div class="notice" role="status"><p>${view.notice}</p></div>`}`
  const body =
    view.mode === 'setup'
      ? html`${top}${form}${aside}`
      : html`${top}
          <div class="columns">
            <div>${renderSummary(view)}</div>
            <div>${form}${aside}</div>
          </div>`
  return renderPage({ title: heading(view), body, wide: view.mode !== 'setup', problem })
}

/** What a session that is over shows instead of the form. */
export function renderClosedCheckout(session: {
  readonly status: 'complete' | 'expired'
  readonly continueUrl: string | null
}): Html {
  const target = session.continueUrl === null ? null : linkTarget(session.continueUrl)
  return session.status === 'complete'
    ? renderMessage({
        title: 'This checkout is complete',
        text: 'It was paid, and nothing more is due. You can close this page.',
        link: target === null ? null : { href: target, label: 'Continue' },
      })
    : renderMessage({
        title: 'This checkout has expired',
        text: 'Nothing was paid. Go back to the shop and start again.',
        link: target === null ? null : { href: target, label: 'Go back' },
      })
}

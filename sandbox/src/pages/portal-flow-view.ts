import type { FormErrors } from './forms.ts'
import { renderCardFields, renderErrorSummary, renderField, renderOption, renderTestCards } from './forms.ts'
import type { Html, Interpolated } from './html.ts'
import { html } from './html.ts'
import { renderPage } from './layout.ts'
import { formatDate, formatMoney } from './money.ts'
import { renderBackLink } from './portal-view.ts'

export interface Back {
  readonly url: string | null
  readonly label: string
}

interface StepFrame {
  readonly title: string
  readonly back: Back
  readonly errors: FormErrors
  readonly body: Interpolated
}

const renderStep = ({ title, back, errors, body }: StepFrame): Html =>
  renderPage({
    title,
    problem: Object.keys(errors).length > 0,
    body: html`${renderBackLink(back.url, back.label)}
      <h1>${title}</h1>
      ${renderErrorSummary(errors)} ${body}`,
  })

export interface PlanOption {
  readonly price: string
  readonly name: string
  readonly amount: string
  readonly current: boolean
}

/** Choosing another plan, and how many of it where the configuration lets the customer say so. */
export function renderPlanChoice(view: {
  readonly back: Back
  readonly action: string
  readonly options: readonly PlanOption[]
  readonly chosen: string | null
  readonly quantity: { readonly value: number; readonly min: number } | null
  readonly promotionCode: boolean
  readonly errors: FormErrors
}): Html {
  return renderStep({
    title: 'Change plan',
    back: view.back,
    errors: view.errors,
    body: html`<form class="card" method="get" action="${view.action}">
      <fieldset>
        <legend>Plan</legend>
        ${view.options.map((option) =>
          renderOption({
            name: 'price',
            value: option.price,
            label: html`${option.name}${option.current ? html` <span class="badge">current</span>` : null}`,
            detail: option.amount,
            checked: option.price === view.chosen,
          }),
        )}
      </fieldset>
      ${
        view.quantity &&
        renderField(
          { name: 'quantity', label: 'Quantity', type: 'number', value: String(view.quantity.value), min: view.quantity.min },
          view.errors,
        )
      }
      ${view.promotionCode && renderField({ name: 'promotion_code', label: 'Promotion code', required: false, autocomplete: 'off' }, view.errors)}
      <button>Continue</button>
    </form>`,
  })
}

export interface ChangePreview {
  readonly currency: string
  readonly lines: ReadonlyArray<{ readonly description: string; readonly amount: number }>
  /** The lines are not due now, but wait for the next invoice. */
  readonly linesWait: boolean
  /** Charged when confirmed; 0 when the change is billed later. */
  readonly dueNow: number
  readonly nextInvoice: { readonly amount: number; readonly at: number } | null
  /** When the change happens, if not at once. */
  readonly effectiveAt: number | null
}

/** The change with its amounts, before it is made. */
export function renderPlanConfirmation(view: {
  readonly back: Back
  readonly action: string
  readonly hidden: ReadonlyArray<readonly [name: string, value: string]>
  readonly from: string
  readonly to: string
  readonly preview: ChangePreview
  readonly methodOnFile: string | null
  readonly errors: FormErrors
}): Html {
  const { preview } = view
  const money = (amount: number): string => formatMoney(amount, preview.currency)
  return renderStep({
    title: 'Confirm the change',
    back: view.back,
    errors: view.errors,
    body: html`<form class="card" method="post" action="${view.action}">
      ${view.hidden.map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}" />`)}
      <dl class="lines">
        <div>
          <dt>From</dt>
          <dd class="wrap">${view.from}</dd>
        </div>
        <div>
          <dt>To</dt>
          <dd class="wrap">${view.to}</dd>
        </div>
        ${preview.lines.map(
          (line) =>
            html`<div>
              <dt>${line.description}</dt>
              <dd>${money(line.amount)}</dd>
            </div>`,
        )}
        <div class="sum">
          <dt>Due now</dt>
          <dd>${money(preview.dueNow)}</dd>
        </div>
        ${
          preview.nextInvoice &&
          html`<div>
            <dt>Next invoice on ${formatDate(preview.nextInvoice.at)}</dt>
            <dd>${money(preview.nextInvoice.amount)}</dd>
          </div>`
        }
      </dl>
      ${preview.linesWait && html`<p>The amounts for the rest of the period go onto the next invoice.</p>`}
      ${preview.effectiveAt !== null && html`<p>The change is made on ${formatDate(preview.effectiveAt)}.</p>`}
      ${preview.dueNow > 0 && html`<p class="quiet">${view.methodOnFile === null ? 'No payment method is on file.' : `Charged to ${view.methodOnFile}.`}</p>`}
      <div class="actions"><button>Confirm</button></div>
    </form>`,
  })
}

/** A yes-or-no step: cancel, undo a cancellation, pause, resume. */
export function renderDecision(view: {
  readonly back: Back
  readonly title: string
  readonly text: Interpolated
  readonly confirm: string
  readonly danger?: boolean
  /** Radio groups and other questions to answer first. */
  readonly questions?: Interpolated
  readonly errors: FormErrors
}): Html {
  return renderStep({
    title: view.title,
    back: view.back,
    errors: view.errors,
    body: html`<form class="card" method="post">
      <p>${view.text}</p>
      ${view.questions}
      <div class="actions"><button ${view.danger ? html`class="danger"` : null}>${view.confirm}</button></div>
    </form>`,
  })
}

/** Replacing the payment method on file by a card. */
export function renderCardUpdate(view: { readonly back: Back; readonly exp: string; readonly errors: FormErrors }): Html {
  return renderStep({
    title: 'Update payment method',
    back: view.back,
    errors: view.errors,
    body: html`<form class="card" method="post" novalidate aria-label="Update payment method">
        ${renderCardFields(view.errors, view.exp)}
        <p class="quiet small">This card is used for the next payments.</p>
        <div class="actions"><button>Save card</button></div>
      </form>
      ${renderTestCards()}`,
  })
}

/** Changing what the configuration lets the customer change. */
export function renderCustomerUpdate(view: {
  readonly back: Back
  readonly fields: ReadonlyArray<{
    readonly name: string
    readonly label: string
    readonly value: string
    readonly autocomplete: string
  }>
  readonly errors: FormErrors
}): Html {
  return renderStep({
    title: 'Update information',
    back: view.back,
    errors: view.errors,
    body: html`<form class="card" method="post" novalidate aria-label="Update information">
      ${view.fields.map((field) =>
        renderField({ ...field, type: field.name === 'email' ? 'email' : 'text', required: field.name === 'email' }, view.errors),
      )}
      <div class="actions"><button>Save</button></div>
    </form>`,
  })
}

import type { Html, Interpolated } from './html.ts'
import { html } from './html.ts'

/** What is wrong with a form: by field name, and as a whole (`form`). */
export type FormErrors = Readonly<Record<string, string>>

export interface TextField {
  readonly name: string
  readonly label: string
  readonly value?: string
  readonly hint?: string
  readonly type?: 'text' | 'email' | 'number' | 'tel' | 'datetime-local'
  readonly autocomplete?: string
  readonly inputmode?: 'numeric' | 'email' | 'text'
  readonly required?: boolean
  readonly maxlength?: number
  readonly min?: number
}

const attribute = (name: string, value: string | number | undefined): Html | null =>
  value === undefined ? null : html` ${name}="${value}"`

/** A labelled input with its hint and its error, tied together for screen readers. */
export function renderField(field: TextField, errors: FormErrors): Html {
  const { name, label, value = '', hint, type = 'text', required = true } = field
  const error = errors[name]
  const described = [hint && `${name}-hint`, error && `${name}-error`].filter(Boolean).join(' ')
  return html`<div class="field">
    <label for="${name}">${label}${required ? null : html` <span class="quiet">(optional)</span>`}</label>
    ${hint && html`<p class="hint" id="${name}-hint">${hint}</p>`}
    ${error && html`<p class="error" id="${name}-error">${error}</p>`}
    <input
      type="${type}"
      id="${name}"
      name="${name}"
      value="${value}"
      ${required ? html`required` : null}
      ${attribute('autocomplete', field.autocomplete)}${attribute('inputmode', field.inputmode)}
      ${attribute('maxlength', field.maxlength)}${attribute('min', field.min)}
      ${described === '' ? null : html`aria-describedby="${described}"`}
      ${error ? html`aria-invalid="true"` : null}
    />
  </div>`
}

/** A labelled choice out of a list. */
export function renderSelect(
  field: Pick<TextField, 'label' | 'name' | 'required' | 'value'> & {
    readonly options: ReadonlyArray<{ readonly label: string; readonly value: string }>
  },
  errors: FormErrors,
): Html {
  const { label, name, options, required = true, value = '' } = field
  const error = errors[name]
  return html`<div class="field">
    <label for="${name}">${label}${required ? null : html` <span class="quiet">(optional)</span>`}</label>
    ${error && html`<p class="error" id="${name}-error">${error}</p>`}
    <select
      id="${name}"
      name="${name}"
      ${required ? html`required` : null}
      ${error ? html`aria-invalid="true" aria-describedby="${name}-error"` : null}
    >
      <option value="">Choose</option>
      ${options.map((option) => html`<option value="${option.value}" ${option.value === value ? html`selected` : null}>${option.label}</option>`)}
    </select>
  </div>`
}

/** The list of errors above a form; it takes the focus, and each entry leads to its field. */
export function renderErrorSummary(errors: FormErrors): Html | null {
  const entries = Object.entries(errors)
  if (entries.length === 0) return null
  return html`<div class="problem" role="alert" tabindex="-1" autofocus>
    <h2>There is a problem</h2>
    <ul>
      ${entries.map(([name, text]) => html`<li>${name === 'form' ? text : html`<a href="#${name}">${text}</a>`}</li>`)}
    </ul>
  </div>`
}

/** What the visitor typed of a card. It is passed on once and never kept. */
export interface CardInput {
  readonly number: string
  readonly exp: string
  readonly cvc: string
}

/** Card number, expiry and security code. Number and code are never written back into a page; the expiry is. */
export function renderCardFields(errors: FormErrors, exp = ''): Html {
  return html`<fieldset>
    <legend class="unseen">Card</legend>
    ${renderField(
      {
        name: 'card_number',
        label: 'Card number',
        autocomplete: 'cc-number',
        inputmode: 'numeric',
        maxlength: 24,
      },
      errors,
    )}
    <div class="pair">
      ${renderField(
        {
          name: 'exp',
          label: 'Expiry (MM/YY)',
          value: exp,
          autocomplete: 'cc-exp',
          inputmode: 'numeric',
          maxlength: 7,
        },
        errors,
      )}
      ${renderField({ name: 'cvc', label: 'Security code', autocomplete: 'cc-csc', inputmode: 'numeric', maxlength: 4 }, errors)}
    </div>
  </fieldset>`
}

/** The cards a tester types most, folded away. */
export function renderTestCards(): Html {
  const rows: readonly (readonly [string, string])[] = [
    ['4242 4242 4242 4242', 'succeeds'],
    ['4000 0000 0000 0002', 'is declined'],
    ['4000 0000 0000 9995', 'has insufficient funds'],
    ['4000 0000 0000 0341', 'is saved, and declined when charged'],
    ['4000 0025 0000 3155', 'asks for authentication'],
  ]
  return html`<details class="card small">
    <summary>Test cards</summary>
    <p class="quiet">Any expiry in the future, any security code.</p>
    <dl class="lines">
      ${rows.map(
        ([number, outcome]) =>
          html`<div>
            <dt><code>${number}</code></dt>
            <dd>${outcome}</dd>
          </div>`,
      )}
    </dl>
  </details>`
}

/** One radio of a group, with a line of explanation. */
export function renderOption(option: {
  readonly name: string
  readonly value: string
  readonly label: Interpolated
  readonly detail?: Interpolated
  readonly checked: boolean
  readonly required?: boolean
}): Html {
  const id = `${option.name}-${option.value}`
  return html`<div class="option">
    <input
      type="radio"
      id="${id}"
      name="${option.name}"
      value="${option.value}"
      ${option.checked ? html`checked` : null}
      ${option.required === false ? null : html`required`}
    />
    <label for="${id}">${option.label}${option.detail ? html`<span class="detail">${option.detail}</span>` : null}</label>
  </div>`
}

/** Reads "12/34", "12 / 2034" or "1234". Null when it is no month and year. */
export function parseExpiry(text: string): { readonly month: number; readonly year: number } | null {
  const match = /^\s*(\d{1,2})\s*[/-]?\s*(\d{4}|\d{2})\s*$/.exec(text)
  if (match === null) return null
  const month = Number(match[1])
  const digits = match[2] ?? ''
  const year = digits.length === 2 ? 2000 + Number(digits) : Number(digits)
  return month >= 1 && month <= 12 ? { month, year } : null
}

import { StripeError } from '../engine/errors.ts'
import type { FormObject } from '../http/form.ts'
import { page, type PageRequest, type PageResponse } from '../http/pages.ts'
import type { CardInput } from '../payments/cards.ts'
import { parseExpiry, type FormErrors } from './forms.ts'
import { toDocument, type Html } from './html.ts'
import { renderMessage, stylesheetPath } from './layout.ts'
import { stylesheet } from './stylesheet.ts'

/** No script runs on these pages, and nobody frames them. Forms may lead anywhere: that is what a success URL is for. */
const contentSecurityPolicy =
  "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"

/** Sends a page. */
export function respond(content: Html, status = 200): PageResponse {
  return {
    body: toDocument(content),
    headers: {
      'cache-control': 'no-store',
      'content-security-policy': contentSecurityPolicy,
      'content-type': 'text/html; charset=utf-8',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    },
    status,
  }
}

/** 404 in words. */
export function respondNotFound(what: string): PageResponse {
  return respond(renderMessage({ text: `There is no such ${what}, or it is over.`, title: 'Not found' }), 404)
}

/** The stylesheet of all pages. */
export const stylesheetPage = page(`GET ${stylesheetPath}`, () => ({
  body: stylesheet,
  headers: { 'cache-control': 'max-age=3600', 'content-type': 'text/css; charset=utf-8' },
}))

/** A text field of a form, trimmed; empty when it is not there. */
export function textOf(form: FormObject, name: string): string {
  const value = form[name]
  return typeof value === 'string' ? value.trim() : ''
}

/** A path parameter. */
export function segment(request: PageRequest, name: string): string {
  return request.path[name] ?? ''
}

/** The card fields as the API takes them, or what is missing in words. The number goes no further than the check. */
export function readCard(form: FormObject): { readonly card: CardInput } | { readonly errors: FormErrors } {
  const [number, exp, cvc] = [textOf(form, 'card_number'), textOf(form, 'exp'), textOf(form, 'cvc')]
  const expiry = parseExpiry(exp)
  const errors: Record<string, string> = {}
  if (number === '') errors['card_number'] = 'Enter a card number.'
  if (expiry === null) errors['exp'] = exp === '' ? 'Enter the expiry.' : 'Enter the expiry as month and year, such as 12/34.'
  if (cvc === '') errors['cvc'] = 'Enter the security code.'
  if (expiry === null || Object.keys(errors).length > 0) return { errors }
  return { card: { cvc, exp_month: expiry.month, exp_year: expiry.year, number } }
}

const fieldOfParam: Readonly<Record<string, string>> = {
  cvc: 'cvc',
  exp_month: 'exp',
  exp_year: 'exp',
  number: 'card_number',
  promotion_code: 'promotion_code',
}

/** A refusal of the API as an error of the form: at the field that it is about, else above the form. */
export function errorsOf(error: unknown): { readonly errors: FormErrors; readonly status: number } {
  if (!(error instanceof StripeError)) throw error
  const param = error.body.param ?? ''
  const field = fieldOfParam[param] ?? (param.startsWith('quantity') ? param : 'form')
  return { errors: { [field]: error.body.message }, status: error.status }
}

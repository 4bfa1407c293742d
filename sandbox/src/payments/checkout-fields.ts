import { invalidRequest } from '../engine/errors.ts'
import type { Params } from '../wire.gen.ts'
import type { Session } from './checkout-totals.ts'

type Given = NonNullable<Params['POST /v1/checkout/sessions']['custom_fields']>[number]
type Field = Session['custom_fields'][number]

function fieldOf(given: Given): Field {
  const { key, label, type } = given
  const base = { key, label: { custom: label.custom, type: label.type }, optional: given.optional ?? false, type }
  if (type === 'dropdown') {
    const dropdown = given.dropdown
    if (dropdown === undefined) throw invalidRequest('A dropdown field needs its options.', { param: 'custom_fields' })
    const options = dropdown.options.map((option) => ({ label: option.label, value: option.value }))
    return { ...base, dropdown: { default_value: dropdown.default_value ?? null, options, value: null } }
  }
  const limits = type === 'numeric' ? given.numeric : given.text
  const content = {
    default_value: limits?.default_value ?? null,
    maximum_length: limits?.maximum_length ?? null,
    minimum_length: limits?.minimum_length ?? null,
    value: null,
  }
  return type === 'numeric' ? { ...base, numeric: content } : { ...base, text: content }
}

/** The session's own questions, as asked for: at most three, each key once. */
export function customFieldsOf(given: readonly Given[] | '' | undefined): Field[] {
  const fields = (given === '' ? [] : (given ?? [])).map(fieldOf)
  if (fields.length > 3) throw invalidRequest('You may not pass more than 3 custom fields.', { param: 'custom_fields' })
  if (new Set(fields.map((field) => field.key)).size < fields.length) {
    throw invalidRequest('The keys of custom fields must differ.', { param: 'custom_fields' })
  }
  return fields
}

/** A field's limits and value, whatever its type. */
export function contentOf(field: Field): {
  readonly minimum: number
  readonly maximum: number
  readonly value: string | null
  readonly initial: string | null
} {
  const text = field.text ?? field.numeric
  return {
    initial: text?.default_value ?? field.dropdown?.default_value ?? null,
    maximum: text?.maximum_length ?? 255,
    minimum: text?.minimum_length ?? 0,
    value: text?.value ?? field.dropdown?.value ?? null,
  }
}

/** What is wrong with an answer, in words; null when nothing is. */
export function problemWithAnswer(field: Field, answer: string): string | null {
  const label = field.label.custom ?? field.key
  if (answer === '') return field.optional ? null : `Enter ${label}.`
  const { maximum, minimum } = contentOf(field)
  if (field.dropdown !== undefined) {
    return field.dropdown.options.some((option) => option.value === answer) ? null : `Choose one of the options for ${label}.`
  }
  if (field.numeric !== undefined && !/^\d+$/.test(answer)) return `${label} must have digits only.`
  if (answer.length < minimum) return `${label} must have at least ${minimum} characters.`
  return answer.length > maximum ? `${label} must have at most ${maximum} characters.` : null
}

/** The fields with the visitor's answers. */
export function answeredFields(fields: readonly Field[], answers: Readonly<Record<string, string>>): Field[] {
  return fields.map((field) => {
    const value = answers[field.key] || null
    if (field.dropdown !== undefined) return { ...field, dropdown: { ...field.dropdown, value } }
    if (field.numeric !== undefined) return { ...field, numeric: { ...field.numeric, value } }
    return field.text === undefined ? field : { ...field, text: { ...field.text, value } }
  })
}

import type { z } from '@hono/zod-openapi'

/** What is wrong with one field, in words for whoever sent it. */
export type FieldError = { readonly field: string; readonly message: string }

/** What a schema found, by field; a field that is not known is named like the others. */
export function describeIssues(issues: readonly z.core.$ZodIssue[]): FieldError[] {
  return issues.flatMap((issue) => {
    const path = issue.path.map(String)
    const fields = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path]
    return fields.map((field) => ({ field: field.join('.'), message: messageOf(issue) }))
  })
}

// How the sentences begin that zod has for whom no schema says better.
const OF_ZOD = /^(Invalid (input|ISO|option|number|email)|Too (big|small)|Unrecognized key)/

function messageOf(issue: z.core.$ZodIssue): string {
  if (!OF_ZOD.test(issue.message)) return issue.message
  const isMissing = issue.message.endsWith('received undefined')
  switch (issue.code) {
    case 'unrecognized_keys':
      return 'there is no such field'
    case 'invalid_type':
      return isMissing ? `is missing: ${nounOf(issue.expected)} is expected` : `${nounOf(issue.expected)} is expected`
    case 'too_big':
      return `at most ${String(issue.maximum)}${unitOf(issue.origin, issue.maximum)}`
    case 'too_small':
      if (issue.origin === 'string' && issue.minimum === 1) return 'must not be empty'
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${String(issue.minimum)}${unitOf(issue.origin, issue.minimum)}`
    case 'invalid_format':
      return FORMATS[issue.format] ?? issue.message
    case 'invalid_value':
      return `one of ${issue.values.map(String).join(', ')} is expected`
    case 'invalid_union':
      return alternativesOf(issue.errors) ?? issue.message
    case 'not_multiple_of':
      return `a multiple of ${String(issue.divisor)} is expected`
    case 'custom':
    case 'invalid_element':
    case 'invalid_key':
      return issue.message
  }
}

const FORMATS: Readonly<Record<string, string>> = {
  date: 'a date such as 2026-11-21 is expected',
  datetime: 'a time such as 2026-11-21T09:30:00Z is expected',
  email: 'an e-mail address is expected',
}

const EXPECTED = ' is expected'

/** Which forms a field may have, as one sentence; null where what is wrong with one lies within it. */
function alternativesOf(forms: readonly (readonly z.core.$ZodIssue[])[]): string | null {
  const issues = forms.flat()
  const messages = [...new Set(issues.map(messageOf))]
  const isWithin = issues.some(({ path }) => path.length > 0) || messages.some((message) => !message.endsWith(EXPECTED))
  if (isWithin) return null
  return `${messages.map((message) => message.slice(0, -EXPECTED.length)).join(' or ')}${EXPECTED}`
}

function unitOf(origin: string, count: number | bigint): string {
  const unit = origin === 'string' ? ' character' : origin === 'array' ? ' item' : ''
  return unit === '' || Number(count) === 1 ? unit : `${unit}s`
}

function nounOf(expected: string): string {
  if (expected === 'string') return 'a text'
  if (expected === 'int' || expected === 'bigint') return 'a whole number'
  return /^[aeiou]/.test(expected) ? `an ${expected}` : `a ${expected}`
}

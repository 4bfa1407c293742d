import { expect, it } from 'vitest'
import { describeIssues } from '../http/issues.ts'
import { moment, momentOrDate } from './moments.ts'

const messageOf = (schema: typeof moment | typeof momentOrDate, text: string): string | undefined => {
  const { error } = schema.safeParse(text)
  const [issue, ...others] = describeIssues(error?.issues ?? [])
  expect(others).toEqual([])
  return issue?.message
}

it.each(['1970-01-01T00:00:00Z', '2028-02-29T23:59:59+14:00', '9999-12-31T23:59:59.999Z'])('%s is a time', (text) => {
  expect(moment.parse(text)).toBe(text)
  expect(momentOrDate.parse(text)).toBe(text)
})

it('a date is held to the same years', () => {
  expect(messageOf(momentOrDate, '1969-12-31')).toBe('a time of the years 1970 to 9999 (UTC) is expected')
})

it('a date is one where dates are taken', () => {
  expect(momentOrDate.parse('2028-02-29')).toBe('2028-02-29')
  expect(messageOf(moment, '2028-02-29')).toBe('a time such as 2026-11-21T09:30:00Z is expected')
})

it.each(['1970-01-01T00:00:00+00:01', '9999-12-31T23:59:59-00:01', '0000-01-01T00:00:00Z'])(
  '%s lies in no year that is taken',
  (text) => {
    expect(messageOf(moment, text)).toBe('a time of the years 1970 to 9999 (UTC) is expected')
    expect(messageOf(momentOrDate, text)).toBe('a time of the years 1970 to 9999 (UTC) is expected')
  },
)

it.each(['2027-02-29T00:00:00Z', '2026-12-31T23:59:60Z', '2026-12-31T10:00:00', 'now'])('%s is no time', (text) => {
  expect(messageOf(moment, text)).toBe('a time such as 2026-11-21T09:30:00Z is expected')
  expect(messageOf(momentOrDate, text)).toBe('a time such as 2026-11-21T09:30:00Z, or a date, is expected')
})

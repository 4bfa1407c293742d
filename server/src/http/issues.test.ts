import { z } from '@hono/zod-openapi'
import { describe, expect, it } from 'vitest'
import { describeIssues } from './issues.ts'

const schema = z.strictObject({
  key: z.string().min(1).max(255).optional(),
  meter: z.string().optional(),
  count: z.int().max(10).optional(),
  below: z.number().positive().optional(),
  percent: z.number().multipleOf(0.01).optional(),
  after: z.coerce.bigint().optional(),
  email: z.email().optional(),
  items: z.array(z.number()).max(2).optional(),
  at: z.iso.datetime().optional(),
  from: z.union([z.iso.datetime(), z.iso.date()]).optional(),
  amount: z.union([z.number(), z.string().max(3)]).optional(),
  grain: z.enum(['hour', 'day']).optional(),
  inner: z.strictObject({ name: z.string() }).optional(),
  own: z.string().regex(/^x$/, 'an x is expected').optional(),
})

const told = (body: unknown): Record<string, string> => {
  const { error } = schema.safeParse(body)
  return Object.fromEntries(describeIssues(error?.issues ?? []).map(({ field, message }) => [field, message]))
}

describe('what is wrong with a body', () => {
  it('is told by field, in words of whoever sends it', () => {
    expect(told({ inner: {} })).toEqual({ 'inner.name': 'is missing: a text is expected' })
    expect(told({ meter: 7, count: 1.5 })).toEqual({ meter: 'a text is expected', count: 'a whole number is expected' })
    expect(told([])).toEqual({ '': 'an object is expected' })
    expect(told({ percent: 0.001, after: 'x', email: 'x' })).toEqual({
      percent: 'a multiple of 0.01 is expected',
      after: 'a whole number is expected',
      email: 'an e-mail address is expected',
    })
    expect(told({ key: '', count: 11, below: 0, items: [1, 2, 3] })).toEqual({
      key: 'must not be empty',
      count: 'at most 10',
      below: 'more than 0',
      items: 'at most 2 items',
    })
    expect(told({ key: 'x'.repeat(256) })).toEqual({ key: 'at most 255 characters' })
    expect(told({ at: '2026-11-21', grain: 'week' })).toEqual({
      at: 'a time such as 2026-11-21T09:30:00Z is expected',
      grain: 'one of hour, day is expected',
    })
  })

  it('is told of a field of several forms by all of them', () => {
    expect(told({ from: '2026-13-01', amount: true })).toEqual({
      from: 'a time such as 2026-11-21T09:30:00Z or a date such as 2026-11-21 is expected',
      amount: 'a number or a text is expected',
    })
    expect(told({ amount: '1000' })).toEqual({ amount: 'at most 3 characters' })
  })

  it('names the fields that there are not, and keeps what a schema says itself', () => {
    expect(told({ quantitty: 1, inner: { name: 'a', nmae: 'b' } })).toEqual({
      quantitty: 'there is no such field',
      'inner.nmae': 'there is no such field',
    })
    expect(told({ own: 'y' })).toEqual({ own: 'an x is expected' })
  })
})

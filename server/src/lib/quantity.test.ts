import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DomainError } from './errors.ts'
import { formatQuantity, MAX_QUANTITY, multiplyQuantities, parseQuantity, quantityToJson } from './quantity.ts'

const quantity = fc.bigInt({ min: -MAX_QUANTITY, max: MAX_QUANTITY })

describe('quantities', () => {
  it('add up exactly where floats do not: ten times 0.1 is 1 (EM-2)', () => {
    let sum = 0n
    for (let i = 0; i < 10; i++) sum += parseQuantity(0.1)
    expect(sum).toBe(parseQuantity(1))
  })

  it('survive being written and read', () => {
    fc.assert(fc.property(quantity, (q) => parseQuantity(formatQuantity(q)) === q))
  })

  it('are written without a sign where there is nothing', () => {
    expect([0n, 1n, -1n].map(formatQuantity)).toEqual(['0', '0.000001', '-0.000001'])
  })

  it('are a number in JSON as long as fifteen digits say all of them', () => {
    const json = ['1234567890.12345', '-1234567890.12345', '1234567890.123451', '9223372036854']
    expect(json.map((text) => typeof quantityToJson(parseQuantity(text)))).toEqual(['number', 'number', 'string', 'number'])
  })

  it('survive JSON, as a number only where a double shows the same decimal', () => {
    fc.assert(
      fc.property(quantity, (q) => {
        const json = JSON.parse(JSON.stringify(quantityToJson(q))) as number | string
        return parseQuantity(json) === q
      }),
    )
  })

  it('are never rounded: a seventh place is refused and the field named', () => {
    expect(() => parseQuantity('0.0000001', 'amount')).toThrow(
      expect.objectContaining({ code: 'invalid_quantity', details: { field: 'amount' } }),
    )
    expect(() => multiplyQuantities(parseQuantity('0.000001'), parseQuantity('0.1'))).toThrow(DomainError)
    expect(multiplyQuantities(parseQuantity('2.5'), parseQuantity('0.1'))).toBe(parseQuantity('0.25'))
  })

  it('are never rounded: a JSON number that has lost digits is refused, and told to be a string', () => {
    const sent = (text: string) => parseQuantity(JSON.parse(text) as number)
    expect(() => sent('9223372036.854775')).toThrow('quantity has more digits than a JSON number keeps: send it as a string.')
    expect(() => sent('-1234567890.123456')).toThrow(DomainError)
    expect(parseQuantity('9223372036.854775')).toBe(9_223_372_036_854_775n)
    expect(sent('922337203.854775')).toBe(922_337_203_854_775n)
    expect(sent('9223372036854')).toBe(9_223_372_036_854_000_000n)
  })

  it('that are too large are told the most that can be counted', () => {
    expect(() => parseQuantity('12345678901234')).toThrow('quantity is larger than can be counted: at most 9223372036854.775807.')
    expect(() => parseQuantity('1e3')).toThrow('quantity must be a decimal such as 12.5, with at most six places.')
  })

  it.each(['', ' 1', '1 ', '1e3', '.5', '5.', '+1', '0x10', 'NaN', '12345678901234', '9999999999999', '1,5'])(
    'refuse %j',
    (text) => {
      expect(() => parseQuantity(text)).toThrow(DomainError)
    },
  )

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e21, 1e-7])('refuse the number %d', (number) => {
    expect(() => parseQuantity(number)).toThrow(DomainError)
  })
})

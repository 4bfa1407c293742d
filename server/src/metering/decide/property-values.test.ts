import { expect, test } from 'vitest'
import { propertyOf, textOfValue, valuesOfText } from './property-values.ts'

test('a property that a use lacks is none, also by a name that every object has something of', () => {
  expect(propertyOf({ user: 'ann', count: 0 }, 'user')).toBe('ann')
  expect(propertyOf({ user: 'ann', count: 0 }, 'count')).toBe(0)
  for (const name of ['constructor', 'toString', '__proto__']) expect(propertyOf({ user: 'ann' }, name)).toBeUndefined()
  expect(propertyOf(null, 'user')).toBeUndefined()
})

test.each<[string, readonly (string | number | boolean)[]]>([
  ['ann', ['ann']],
  ['5', ['5', 5]],
  ['1e+21', ['1e+21', 1e21]],
  ['true', ['true', true]],
  ['false', ['false', false]],
  // No value but a text is written so.
  ...['05', '5.0', '1e21', ' 5', '', 'Infinity', 'NaN', 'null', 'True'].map((text): [string, string[]] => [text, [text]]),
])('the text %j is that of %j', (text, values) => {
  expect(valuesOfText(text)).toEqual(values)
  for (const value of values) expect(textOfValue(value)).toBe(text)
})

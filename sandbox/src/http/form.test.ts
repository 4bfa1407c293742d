import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeForm, encodeForm } from './form.ts'

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

test.each([
  ['a=1&b=x+y%20z', { a: '1', b: 'x y z' }],
  ['a[b][c]=1', { a: { b: { c: '1' } } }],
  ['a[0][b]=1&a[0][c]=2&a[1][b]=3', { a: { 0: { b: '1', c: '2' }, 1: { b: '3' } } }],
  ['a[]=1&a[]=2', { a: { 0: '1', 1: '2' } }],
  ['a[][b]=1&a[][c]=2&a[][b]=3', { a: { 0: { b: '1', c: '2' }, 1: { b: '3' } } }],
  ['a%5Bb%5D=1', { a: { b: '1' } }],
  ['a=&b', { a: '', b: '' }],
  ['%E0%A4%A=1', { '%E0%A4%A': '1' }],
  ['__proto__[x]=1', { ['__proto__']: { x: '1' } }],
])('decodes %s', (text, expected) => {
  expect(plain(decodeForm(text))).toEqual(expected)
  expect(({} as { x?: string }).x).toBeUndefined()
})

test('what a client encodes is decoded again', () => {
  const key = fc.stringMatching(/^[a-z_]{1,8}$/)
  const leaf = fc.string({ minLength: 0, maxLength: 12 })
  const tree = fc.letrec((tie) => ({
    node: fc.oneof({ maxDepth: 3 }, leaf, fc.dictionary(key, tie('node'), { minKeys: 1, maxKeys: 3 })),
  })).node
  fc.assert(
    fc.property(fc.dictionary(key, tree, { maxKeys: 4 }), (params) => {
      expect(plain(decodeForm(encodeForm(params)))).toEqual(plain(params))
    }),
  )
})

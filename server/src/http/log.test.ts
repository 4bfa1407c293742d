import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createLog } from './log.ts'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const word = (length: number) =>
  fc.array(fc.constantFrom(...BASE62.split('')), { minLength: length, maxLength: length }).map((letters) => letters.join(''))

const secret = fc.oneof(
  word(43).map((key) => ({ secret: key, text: `tg_${key}` })),
  word(24).map((key) => ({ secret: key, text: `sk_test_${key}` })),
  word(24).map((key) => ({ secret: key, text: `rk_live_${key}` })),
  word(24).map((key) => ({ secret: key, text: `whsec_${key}` })),
  word(24).map((key) => ({ secret: key, text: `seti_1${key}_secret_${key}` })),
  word(24).map((key) => ({ secret: key, text: `authorization: Bearer ${key}` })),
  word(24).map((key) => ({ secret: key, text: `postgres://tollgate:${key}@127.0.0.1:5432/tollgate` })),
)

it('writes no secret, wherever it stands in what is logged', () => {
  fc.assert(
    fc.property(secret, fc.constantFrom('message', 'field', 'nested', 'error'), ({ secret, text }, where) => {
      const lines: string[] = []
      const log = createLog({ level: 'info', secrets: [], destination: { write: (line: string) => void lines.push(line) } })
      if (where === 'message') log.info(`seen ${text}`)
      if (where === 'field') log.info({ field: text }, 'seen')
      if (where === 'nested') log.info({ list: [{ deep: `a "${text}" quoted` }] }, 'seen')
      if (where === 'error') log.error({ err: new Error(text, { cause: new Error(text) }) }, 'failed')
      expect(lines.join('')).toContain('[redacted]')
      expect(lines.join('')).not.toContain(secret)
      expect(() => JSON.parse(lines[0]!) as unknown).not.toThrow()
    }),
  )
})

it('takes known secrets out of every line', () => {
  const lines: string[] = []
  const log = createLog({
    level: 'info',
    secrets: ['a phrase that is the key'],
    destination: { write: (line: string) => void lines.push(line) },
  })
  log.info({ key: 'a phrase that is the key' }, 'seen')
  expect(lines.join('')).not.toContain('phrase')
})

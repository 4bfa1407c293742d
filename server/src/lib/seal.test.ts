import { expect, it } from 'vitest'
import { createSeal } from './seal.ts'

const seal = createSeal('the secret of this server', 'tests')

it('opens what it closed, and shows nothing of it meanwhile', () => {
  const sealed = seal.close('whsec_abc')
  expect(seal.open(sealed)).toBe('whsec_abc')
  expect(sealed.toString('latin1')).not.toContain('whsec')
  expect(seal.close('whsec_abc')).not.toEqual(sealed)
})

it('refuses what was changed, and what was sealed under another secret or for another purpose', () => {
  const sealed = seal.close('whsec_abc')
  const changed = Buffer.from(sealed)
  changed[changed.length - 1]! ^= 1
  expect(() => seal.open(changed)).toThrow('Unsupported state or unable to authenticate data')
  expect(() => createSeal('another secret', 'tests').open(sealed)).toThrow('Unsupported state or unable to authenticate data')
  expect(() => createSeal('the secret of this server', 'another purpose').open(sealed)).toThrow(
    'Unsupported state or unable to authenticate data',
  )
})

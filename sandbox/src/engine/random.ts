import { randomInt } from 'node:crypto'

const BASE62 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

/** A stream of numbers that the seed alone decides. */
export interface Random {
  /** The next unsigned 32-bit integer. */
  next(): number
  /** The next number in [0, 1). */
  fraction(): number
  /** `length` characters out of A–Z, a–z, 0–9. */
  base62(length: number): string
}

/** sfc32 (public domain, Chris Doty-Humphrey): fast, passes PractRand, 128 bits of state. */
export function createRandom(seed: number | string): Random {
  let [a, b, c] = [hash32(seed, 1), hash32(seed, 2), hash32(seed, 3)]
  let counter = 1
  const next = () => {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return sum >>> 0
  }
  for (let warmUp = 0; warmUp < 12; warmUp++) next()
  const fraction = () => next() / 2 ** 32
  const base62 = (length: number) => {
    let text = ''
    while (text.length < length) text += BASE62.charAt(Math.floor(fraction() * 62))
    return text
  }
  return { next, fraction, base62 }
}

/** A seed for a run that nobody wants to repeat. */
export function freshSeed(): number {
  return randomInt(2 ** 32)
}

/** FNV-1a over the parts; the same parts always give the same 32 bits. */
export function hash32(...parts: Array<number | string>): number {
  let hash = 0x811c9dc5
  for (const character of parts.join('\u0000')) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** A number in [0, 1) that the parts alone decide: chaos asks it, so that the order of arrival does not matter. */
export function chance(...parts: Array<number | string>): number {
  return hash32(...parts) / 2 ** 32
}

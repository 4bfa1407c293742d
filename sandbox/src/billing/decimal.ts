/**
 * Exact decimals with at most 12 places, as Stripe's `*_decimal` strings are: a bigint in units of 10⁻¹².
 * No float ever holds an amount or a quantity on its way to one.
 */

declare const decimalBrand: unique symbol
/** A decimal number scaled by 10¹². */
export type Decimal = bigint & { readonly [decimalBrand]: true }

/** How many units of a `Decimal` make one. */
export const DECIMAL_SCALE = 10n ** 12n

const FORM = /^([+-]?)(\d+)(?:\.(\d{1,12}))?$/

/** Reads `12`, `-0.5`, `0.000000000001`; null when the text is not a decimal with at most 12 places. */
export function parseDecimal(text: string): Decimal | null {
  const match = FORM.exec(text.trim())
  if (match === null) return null
  const magnitude = BigInt(match[2] ?? '0') * DECIMAL_SCALE + BigInt((match[3] ?? '').padEnd(12, '0'))
  return (match[1] === '-' ? -magnitude : magnitude) as Decimal
}

/** Reads a decimal that the caller knows to be well-formed; throws a RangeError that shows the text otherwise. */
export function decimal(text: string): Decimal {
  const value = parseDecimal(text)
  if (value === null) throw new RangeError(`Not a decimal with at most 12 places: ${JSON.stringify(text)}`)
  return value
}

/** The decimal of a whole number. */
export function decimalOf(whole: number | bigint): Decimal {
  return (BigInt(whole) * DECIMAL_SCALE) as Decimal
}

/** Writes a decimal without trailing zeros: `12`, `0.05`, `-3.5`. */
export function formatDecimal(value: Decimal): string {
  const magnitude = value < 0n ? 0n - value : value
  const fraction = (magnitude % DECIMAL_SCALE).toString().padStart(12, '0').replace(/0+$/, '')
  const text = (magnitude / DECIMAL_SCALE).toString() + (fraction === '' ? '' : `.${fraction}`)
  return value < 0n ? `-${text}` : text
}

/** n / d rounded towards minus infinity; d > 0. */
export function floorDivide(n: bigint, d: bigint): bigint {
  const quotient = n / d
  return n % d < 0n ? quotient - 1n : quotient
}

/** n / d rounded towards plus infinity; d > 0. */
export function ceilDivide(n: bigint, d: bigint): bigint {
  return -floorDivide(-n, d)
}

/** n / d to the nearest integer, ties away from zero; d > 0. */
export function roundHalfAwayFromZero(n: bigint, d: bigint): bigint {
  const rounded = (2n * (n < 0n ? -n : n) + d) / (2n * d)
  return n < 0n ? -rounded : rounded
}

/** n / d to the nearest integer, ties towards minus infinity: ⌈n/d − ½⌉; d > 0. */
export function roundHalfDown(n: bigint, d: bigint): bigint {
  return ceilDivide(2n * n - d, 2n * d)
}

/** The bigint as a JavaScript integer; throws when it is past 2⁵³, where Stripe's own amounts end long before. */
export function toSafeInteger(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw new RangeError(`Amount ${value} is too large`)
  return number
}

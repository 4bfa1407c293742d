import type { QuantityInput } from './usage.ts'

const PLACES = 6

/** The exact sum of quantities, as the shortest decimal text: no float takes part. */
export function sumQuantities(quantities: readonly QuantityInput[]): string {
  const micro = quantities.reduce((sum, quantity) => sum + microOf(String(quantity)), 0n)
  const absolute = (micro < 0n ? -micro : micro).toString().padStart(PLACES + 1, '0')
  const fraction = absolute.slice(-PLACES).replace(/0+$/, '')
  return `${micro < 0n ? '-' : ''}${absolute.slice(0, -PLACES)}${fraction === '' ? '' : `.${fraction}`}`
}

/** Millionths of a decimal with at most six places, which is all that the server sends. */
function microOf(text: string): bigint {
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.')
  const micro = BigInt(whole) * 10n ** BigInt(PLACES) + BigInt(fraction.padEnd(PLACES, '0').slice(0, PLACES))
  return text.startsWith('-') ? -micro : micro
}

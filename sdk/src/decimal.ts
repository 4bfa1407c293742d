import type { QuantityInput } from './usage.ts'

const PLACES = 6

/** The exact sum of quantities, as the shortest decimal text: no float takes part. */
export function sumQuantities(quantities: readonly QuantityInput[]): string {
  const micro = quantities.reduce((sum, quantity) => sum + microOf(String(quantity)), 0n)
  const absolute = (micro < 0n ? -micro : micro).toString().padStart(PLACES + 1, '0')
  const fraction = absolute.slice(-PLACES).replace(/0+$/, '')
  return `${micro < 0n ? '-' : ''}${absolute.slice(0, -PLACES)}${fraction === '' ? '' : `.${fraction}`}`
}

/** Percent of an amount, with two decimals, as the server tells it; 0 of an unlimited one, 100 of an amount of nothing. */
export function percentageOf(quantity: QuantityInput, amount: QuantityInput | null): number {
  if (amount === null) return 0
  const whole = microOf(String(amount))
  return whole === 0n ? 100 : Number((microOf(String(quantity)) * 10_000n) / whole) / 100
}

/** Millionths of a decimal with at most six places, which is all that the server sends. */
function microOf(text: string): bigint {
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.')
  const micro = BigInt(whole) * 10n ** BigInt(PLACES) + BigInt(fraction.padEnd(PLACES, '0').slice(0, PLACES))
  return text.startsWith('-') ? -micro : micro
}

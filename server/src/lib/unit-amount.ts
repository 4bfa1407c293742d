import { DomainError } from './errors.ts'

/**
 * Minor units of money per unit of use, an exact decimal of twelve places held as a count of trillionths: 0.2 cents is
 * 200_000_000_000n. Twelve places are what Stripe keeps of `unit_amount_decimal`.
 */
export type UnitAmount = bigint

const PLACES = 12
const DECIMAL = /^(\d{1,12})(?:\.(\d{1,12}))?$/

/**
 * Reads a price of one unit: a number or a decimal string, zero or more, at most twelve places.
 * @throws DomainError `invalid_quantity` for anything else, never rounding
 */
export function parseUnitAmount(input: number | string, field: string): UnitAmount {
  const match = DECIMAL.exec(String(input))
  if (!match) {
    throw new DomainError(
      'invalid_quantity',
      `${field} must be a decimal of minor units, 0 or more, with at most twelve places.`,
      {
        field,
      },
    )
  }
  const [, whole, fraction = ''] = match
  return BigInt(whole!) * 10n ** BigInt(PLACES) + BigInt(fraction.padEnd(PLACES, '0'))
}

/** The shortest decimal text, as Stripe's `unit_amount_decimal` takes it: 200_000_000_000n is `0.2`. */
export function formatUnitAmount(amount: UnitAmount): string {
  const one = 10n ** BigInt(PLACES)
  const fraction = (amount % one).toString().padStart(PLACES, '0').replace(/0+$/, '')
  return `${amount / one}${fraction === '' ? '' : `.${fraction}`}`
}

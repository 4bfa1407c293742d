import { DomainError } from './errors.ts'

/**
 * An exact decimal of six places, held as a count of millionths: 0.1 is 100_000n.
 * Range: what fits PostgreSQL's bigint, ±9,223,372,036,854.775807.
 */
export type Quantity = bigint

export const MICRO = 1_000_000n
export const MAX_QUANTITY: Quantity = 2n ** 63n - 1n

const FIFTEEN_DIGITS = 10n ** 15n
/** What a double keeps of any decimal. */
const DOUBLE_DIGITS = 15
/** A million times less is a safe integer too. */
const SAFE_WHOLE = 1_000_000_000
const DECIMAL = /^(-?)(\d{1,32})(?:\.(\d{1,6}))?$/

/**
 * Reads a quantity as it travels: a JSON number of at most fifteen digits, or a decimal string, with at most six decimal places.
 * @param field the name of the field, for the error
 * @throws DomainError `invalid_quantity` for anything else, never rounding
 */
export function parseQuantity(input: number | string, field = 'quantity'): Quantity {
  const quantity = parseDecimal(input, field)
  if (quantity > MAX_QUANTITY || quantity < -MAX_QUANTITY)
    throw new DomainError(
      'invalid_quantity',
      `${field} is larger than can be counted: at most ${formatQuantity(MAX_QUANTITY)}.`,
      { field },
    )
  return quantity
}

/** The same of any size, for whoever has a limit of their own. */
export function parseDecimal(input: number | string, field: string): Quantity {
  // Small whole numbers are most of what travels.
  if (typeof input === 'number' && Number.isInteger(input) && Math.abs(input) < SAFE_WHOLE) return BigInt(input * 1_000_000)
  const text = typeof input === 'number' ? String(input) : input
  const match = DECIMAL.exec(text)
  if (!match) {
    throw new DomainError('invalid_quantity', `${field} must be a decimal such as 12.5, with at most six places.`, { field })
  }
  const [, sign, whole, fraction = ''] = match
  if (typeof input === 'number' && fraction !== '' && whole!.length + fraction.length > DOUBLE_DIGITS) {
    throw new DomainError('invalid_quantity', `${field} has more digits than a JSON number keeps: send it as a string.`, {
      field,
    })
  }
  const micro = BigInt(whole!) * MICRO + BigInt(fraction.padEnd(6, '0'))
  return sign === '-' ? -micro : micro
}

/** The shortest decimal text of a quantity: 1_500_000n is `1.5`, 100_000_000n is `100`. */
export function formatQuantity(quantity: Quantity): string {
  const sign = quantity < 0n ? '-' : ''
  const absolute = quantity < 0n ? -quantity : quantity
  const fraction = (absolute % MICRO).toString().padStart(6, '0').replace(/0+$/, '')
  return `${sign}${absolute / MICRO}${fraction === '' ? '' : `.${fraction}`}`
}

/**
 * A quantity as JSON: a number while a double holds its decimal text exactly (fifteen significant digits), else the text,
 * so no reader ever sees a rounded value.
 */
export function quantityToJson(quantity: Quantity): number | string {
  // Fifteen digits at most: a double holds the count of millionths, and dividing rounds to the double nearest to the decimal,
  // which is what reading its text gives.
  if (quantity < FIFTEEN_DIGITS && quantity > -FIFTEEN_DIGITS) return Number(quantity) / 1_000_000
  // Thirteen digits at most.
  const whole = quantity / MICRO
  if (whole * MICRO === quantity) return Number(whole)
  const text = formatQuantity(quantity)
  return text.replace(/[-.]/g, '').length <= DOUBLE_DIGITS ? Number(text) : text
}

/** `quantity × factor`, both exact decimals; throws when the product needs more than six places. */
export function multiplyQuantities(quantity: Quantity, factor: Quantity): Quantity {
  // Most meters cost one of their balance for each unit.
  if (factor === MICRO) return quantity
  const product = quantity * factor
  if (product % MICRO !== 0n) {
    throw new DomainError(
      'invalid_quantity',
      `${formatQuantity(quantity)} × ${formatQuantity(factor)} needs more than six decimal places.`,
    )
  }
  return product / MICRO
}

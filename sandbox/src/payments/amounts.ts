import { formatAmount, isChargeableAmount, minimumChargeAmount } from '../billing/currencies.ts'
import { invalidRequest } from '../engine/errors.ts'

/** The largest amount that Stripe takes in one payment: eight digits. */
const maximumAmount = 99_999_999

/**
 * Checks an amount that is to be charged: minor units, at least the currency's minimum, at most eight digits.
 * Throws `parameter_invalid_integer`, `amount_too_small` or `amount_too_large`.
 */
export function requireChargeable(amount: number, currency: string, param = 'amount'): void {
  if (amount < 1) {
    throw invalidRequest('This value must be greater than or equal to 1.', { param, code: 'parameter_invalid_integer' })
  }
  const least = minimumChargeAmount(currency)
  if (amount < least) {
    const words = `Amount must be at least ${formatAmount(String(least), currency)} ${currency}`
    throw invalidRequest(words, { param, code: 'amount_too_small' })
  }
  if (amount > maximumAmount) {
    const words = `Amount must be no more than ${formatAmount(String(maximumAmount), currency)} ${currency}`
    throw invalidRequest(words, { param, code: 'amount_too_large' })
  }
  if (!isChargeableAmount(amount, currency)) {
    throw invalidRequest(`Amounts in ${currency} must end in 0.`, { param, code: 'parameter_invalid_integer' })
  }
}

/** A currency as it is stored: three lower-case letters. Throws Stripe's `Invalid currency`. */
export function requireCurrency(currency: string, param = 'currency'): string {
  const code = currency.toLowerCase()
  if (/^[a-z]{3}$/.test(code)) return code
  throw invalidRequest(`Invalid currency: ${currency}`, { param })
}

/**
 * What Stripe Tax asks of one line: where the customer is, whether the seller is registered there, who the customer is and what is sold.
 * Sources: docs.stripe.com/tax/zero-tax, docs.stripe.com/tax/registering, docs.stripe.com/tax/customer-locations.
 */
import { isInEuropeanUnion, type StandardRate, standardRateOf, type TaxPlace } from './tax-table.ts'

/** The tax code of what is never taxed. Source: docs.stripe.com/tax/tax-codes. */
const NONTAXABLE = 'txcd_00000000'

/** A registration of the seller. Instants in Unix seconds. */
export interface TaxRegistration {
  readonly country: string
  /** Of the United States alone. */
  readonly state: string | null
  /** One registration for sales to all of the European Union. */
  readonly isUnionWide: boolean
  readonly activeFrom: number
  readonly expiresAt: number | null
}

/** Who buys. */
export interface TaxedCustomer {
  readonly exempt: 'exempt' | 'none' | 'reverse'
  /** Has a VAT id of the European Union. */
  readonly hasEuVatId: boolean
}

export type TaxReason = 'customer_exempt' | 'not_collecting' | 'product_exempt' | 'reverse_charge' | 'standard_rated'

/** The tax of a line: its rate, which is nothing for every reason but the last. */
export interface TaxDecision {
  readonly reason: TaxReason
  /** Decimal text. */
  readonly percent: string
  readonly rate: StandardRate | null
}

/** Whether a registration is in force at an instant. */
export function isRegistrationActive({ activeFrom, expiresAt }: TaxRegistration, at: number): boolean {
  return activeFrom <= at && (expiresAt === null || at < expiresAt)
}

function covers(registration: TaxRegistration, place: TaxPlace): boolean {
  if (registration.isUnionWide) return isInEuropeanUnion(place.country)
  return registration.country === place.country && registration.state === place.state
}

/** Decides on the tax of a line at an instant. */
export function decideTax(input: {
  readonly place: TaxPlace
  readonly at: number
  readonly registrations: readonly TaxRegistration[]
  readonly customer: TaxedCustomer
  /** The country of the seller's head office; null when it is not known. */
  readonly headOffice: string | null
  /** The product's tax code, or the default one. */
  readonly taxCode: string | null
}): TaxDecision {
  const { customer, place } = input
  const rate = standardRateOf(place)
  const untaxed = (reason: TaxReason): TaxDecision => ({ reason, percent: '0', rate })
  const isRegistered = input.registrations.some((each) => isRegistrationActive(each, input.at) && covers(each, place))
  if (!isRegistered || rate === null) return untaxed('not_collecting')
  if (input.taxCode === NONTAXABLE) return untaxed('product_exempt')
  if (customer.exempt === 'exempt') return untaxed('customer_exempt')
  if (customer.exempt === 'reverse' || isSoldAcrossUnion(input)) return untaxed('reverse_charge')
  return { reason: 'standard_rated', percent: rate.percent, rate }
}

/** A business of another country of the European Union accounts for the tax itself. */
function isSoldAcrossUnion(input: {
  readonly place: TaxPlace
  readonly customer: TaxedCustomer
  readonly headOffice: string | null
}): boolean {
  const { customer, headOffice, place } = input
  if (!customer.hasEuVatId || headOffice === null || headOffice === place.country) return false
  return isInEuropeanUnion(headOffice) && isInEuropeanUnion(place.country)
}

/**
 * Whether a price includes its tax. A price that does not say so follows the account's default, and without one adds the tax.
 * Source: docs.stripe.com/tax/products-prices-tax-categories-tax-behavior.
 */
export function includesTax(
  behavior: string | null,
  defaultBehavior: 'exclusive' | 'inclusive' | 'inferred_by_currency' | null,
  currency: string,
): boolean {
  if (behavior === 'inclusive' || behavior === 'exclusive') return behavior === 'inclusive'
  if (defaultBehavior === 'inferred_by_currency') return currency !== 'usd' && currency !== 'cad'
  return defaultBehavior === 'inclusive'
}

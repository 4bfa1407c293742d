/** Where the visitor of a checkout is, and what business they are: asked for, checked, and kept with the session. */
import { taxPlaceOf } from '../billing/tax-table.ts'
import type { Ctx } from '../engine/context.ts'
import type { FormObject } from '../http/form.ts'
import { isTaxedByStatement, isTaxIdOf, taxIdTypeOf } from '../payments/checkout-tax.ts'
import type { Session } from '../payments/checkout-totals.ts'
import type { BillingInput } from './checkout-view.ts'
import type { FormErrors } from './forms.ts'
import { textOf } from './respond.ts'

type Collected = NonNullable<Session['_']['collected']>

/** Whether the page asks where the visitor is. */
export function asksForBilling(session: Session): boolean {
  const required = session.billing_address_collection === 'required'
  return required || asksForTaxId(session) || isTaxedByStatement(session)
}

function asksForTaxId(session: Session): boolean {
  return session.tax_id_collection?.enabled === true
}

/** The fields of the form as they were sent. */
export function billingOf(form: FormObject): BillingInput {
  return {
    businessName: textOf(form, 'business_name'),
    city: textOf(form, 'city'),
    country: textOf(form, 'country').toUpperCase(),
    line1: textOf(form, 'line1'),
    name: textOf(form, 'name'),
    postalCode: textOf(form, 'postal_code'),
    state: textOf(form, 'state'),
    taxId: textOf(form, 'tax_id').toUpperCase().replaceAll(' ', ''),
  }
}

/** What is known before the visitor says anything: what they said before, else what their customer has. */
export function knownBilling(ctx: Ctx, session: Session): BillingInput {
  const customer = session.customer === null ? undefined : ctx.get('customer', session.customer)
  const { collected } = session._
  const address = collected?.address ?? customer?.address ?? null
  return {
    businessName: collected?.businessName ?? '',
    city: address?.city ?? '',
    country: address?.country ?? '',
    line1: address?.line1 ?? '',
    name: customer?.name ?? '',
    postalCode: address?.postal_code ?? '',
    state: address?.state ?? '',
    taxId: collected?.taxId?.value ?? '',
  }
}

/** An address as objects have it: null where nothing was said. */
export function addressOfBilling(billing: BillingInput): Collected['address'] {
  return {
    city: billing.city || null,
    country: billing.country || null,
    line1: billing.line1 || null,
    line2: null,
    postal_code: billing.postalCode || null,
    state: billing.state || null,
  }
}

/** What is wrong with the fields. Whoever asks for tax alone needs no more than the place. */
export function billingErrors(session: Session, billing: BillingInput): FormErrors {
  const errors: Record<string, string> = {}
  if (session.billing_address_collection === 'required') {
    if (billing.name === '') errors['name'] = 'Enter a name.'
    if (billing.line1 === '') errors['line1'] = 'Enter street and number.'
    if (billing.postalCode === '') errors['postal_code'] = 'Enter a postal code.'
    if (billing.city === '') errors['city'] = 'Enter a city.'
  }
  if (!/^[A-Z]{2}$/.test(billing.country)) errors['country'] = 'Enter the country as two letters, such as DE.'
  else if (isTaxedByStatement(session) && taxPlaceOf(addressOfBilling(billing)) === null)
    errors['postal_code'] = 'Enter a postal code of five digits, or the state as two letters.'
  return { ...errors, ...(asksForTaxId(session) ? taxIdErrors(session, billing) : {}) }
}

function taxIdErrors(session: Session, { businessName, country, taxId }: BillingInput): FormErrors {
  const type = taxIdTypeOf(country)
  if (taxId === '') {
    const isNeeded = session.tax_id_collection?.required === 'if_supported' && type !== null
    return isNeeded ? { tax_id: 'Enter a tax id.' } : {}
  }
  if (type === null) return { tax_id: 'This page takes no tax ids of this country.' }
  if (!isTaxIdOf(country, taxId)) return { tax_id: 'Enter the tax id as it is written for the country, such as DE123456789.' }
  return businessName === '' ? { business_name: 'Enter the name of the company that the tax id is of.' } : {}
}

/** What the session keeps of fields that are as they should be. */
export function collectedOf(session: Session, billing: BillingInput): Collected {
  const type = asksForTaxId(session) ? taxIdTypeOf(billing.country) : null
  return {
    address: addressOfBilling(billing),
    businessName: asksForTaxId(session) ? billing.businessName || null : null,
    taxId: type === null || billing.taxId === '' ? null : { type, value: billing.taxId },
  }
}

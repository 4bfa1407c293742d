/** Automatic tax: who pays how much of it on a line, and the rates that say so. */
import { decideTax, includesTax, type TaxDecision } from '../../billing/automatic-tax.ts'
import type { AppliedTaxRate } from '../../billing/invoice-totals.ts'
import { type TaxAddress, type TaxPlace, taxPlaceOf } from '../../billing/tax-table.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, notSupported } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'
import { registrationTerms } from './registrations.ts'
import { taxSettings } from './settings.ts'

/** What the tax of a sale follows from. */
export interface TaxedSale {
  readonly currency: string
  /** Unix seconds. */
  readonly at: number
  readonly address: TaxAddress | null
  readonly shipping: TaxAddress | null
  readonly exempt: 'exempt' | 'none' | 'reverse'
  readonly taxIds: ReadonlyArray<{ readonly type: string }>
}

/** What the tax of a line follows from. */
export interface TaxedLine {
  readonly price: string | null
  readonly product: string | null
  /** Of a line without a price. */
  readonly taxBehavior?: string | null | undefined
  readonly taxCode?: string | null | undefined
}

/** Where the buyer is: by the address that goods are shipped to, else the billing address. Source: docs.stripe.com/tax/customer-locations. */
export function taxPlaceOfSale({ address, shipping }: Pick<TaxedSale, 'address' | 'shipping'>): TaxPlace | null {
  const named = [shipping, address].find((each) => each !== null && Object.values(each).some((part) => part !== null))
  return named == null ? null : taxPlaceOf(named)
}

/** The tax of each line of a sale; nothing while it is not known where the buyer is. */
export function automaticRates(ctx: Ctx, sale: TaxedSale): (line: TaxedLine) => AppliedTaxRate[] {
  const place = taxPlaceOfSale(sale)
  if (place === null) return () => []
  const { defaults, head_office: office } = taxSettings(ctx)
  const terms = {
    at: sale.at,
    customer: { exempt: sale.exempt, hasEuVatId: sale.taxIds.some(({ type }) => type === 'eu_vat') },
    headOffice: office?.address.country ?? null,
    place,
    registrations: [...ctx.store.all('tax.registration')].map(registrationTerms),
  }
  return (line) => {
    const price = line.price === null ? undefined : ctx.get('price', line.price)
    const product = line.product === null ? undefined : ctx.get('product', line.product)
    const taxCode = line.taxCode ?? product?.tax_code ?? defaults.tax_code
    const decision = decideTax({ ...terms, taxCode })
    const behavior = price === undefined ? (line.taxBehavior ?? null) : (price.tax_behavior ?? null)
    const inclusive = includesTax(behavior, defaults.tax_behavior, sale.currency)
    return [{ id: rateFor(ctx, place, decision, inclusive), inclusive, percent: decision.percent, reason: decision.reason }]
  }
}

/** The stored rate of a decision, made when it is first needed. */
function rateFor(ctx: Ctx, place: TaxPlace, { percent, rate }: TaxDecision, inclusive: boolean): string {
  const key = [place.country, place.state ?? '', percent, inclusive ? 'inclusive' : 'exclusive'].join(' ')
  const [known] = ctx.store.by('tax_rate', 'automatic', key)
  if (known !== undefined) return known.id
  return ctx.create('tax_rate', {
    id: ctx.newId('txr', 24),
    object: 'tax_rate',
    active: true,
    country: place.country,
    created: ctx.now(),
    description: null,
    display_name: rate?.name ?? 'Tax',
    effective_percentage: Number(percent),
    flat_amount: null,
    inclusive,
    jurisdiction: rate?.jurisdiction ?? place.country,
    jurisdiction_level: place.state === null ? 'country' : 'state',
    livemode: false,
    metadata: {},
    percentage: Number(percent),
    rate_type: 'percentage',
    state: place.state,
    tax_type: rate?.type ?? null,
    _: { automatic: key },
  }).id
}

/** The rates that a rehearsed sale names stay, so that they can be retrieved. */
export function keepRates(ctx: Ctx, rates: ReadonlyArray<Stored<'tax_rate'>>): void {
  for (const rate of rates) if (ctx.get('tax_rate', rate.id) === undefined) ctx.create('tax_rate', rate)
}

/** The parameter, as subscriptions, schedules, invoices and sessions take it. */
export interface AutomaticTaxParam {
  readonly enabled: boolean
  readonly liability?: { readonly account?: string; readonly type: string }
}

/** Parts of the parameter that are not understood: there is one account, and it is liable. */
export const AUTOMATIC_TAX_REFUSES = ['automatic_tax.liability.account']

type AutomaticTax = Stored<'subscription'>['automatic_tax']
/** What subscriptions, schedules and invoices have in common. */
type Changeable = Pick<AutomaticTax, 'enabled' | 'liability'> & { disabled_reason: string | null }

/** Whether tax is automatic, from now on; what is absent stays. */
export function automaticTaxOf<T extends Changeable>(old: T, param: AutomaticTaxParam | undefined): T {
  if (param === undefined) return old
  if (param.liability !== undefined && param.liability.type !== 'self') {
    throw notSupported('The tax liability of another account', 'automatic_tax[liability][type]')
  }
  return { ...old, disabled_reason: null, enabled: param.enabled, liability: param.enabled ? { type: 'self' } : null }
}

export function noAutomaticTax(): AutomaticTax {
  return { disabled_reason: null, enabled: false, liability: null }
}

/** Where a customer is taxed; null while that is not known. */
export function taxPlaceOfCustomer(customer: Stored<'customer'>): TaxPlace | null {
  return taxPlaceOfSale({ address: customer.address ?? null, shipping: customer.shipping?.address ?? null })
}

/** Stripe's answer where tax is wanted of a customer of whom it is not known where they are. */
export function unknownTaxLocation() {
  return invalidRequest(
    "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate tax.",
    { code: 'customer_tax_location_invalid' },
  )
}

/** Automatic tax needs a customer of whom it is known where they are. */
export function requireTaxPlace(ctx: Ctx, customer: string): void {
  if (taxPlaceOfCustomer(ctx.require('customer', customer)) === null) throw unknownTaxLocation()
}

/** Rates that were set by hand and automatic tax exclude each other. */
export function refuseManualRates(automaticTax: { readonly enabled: boolean }, rates: ReadonlyArray<readonly string[]>): void {
  if (!automaticTax.enabled || rates.every((list) => list.length === 0)) return
  throw invalidRequest('You cannot use `tax_rates` or `default_tax_rates` when `automatic_tax[enabled]=true`.', {
    param: 'automatic_tax[enabled]',
  })
}

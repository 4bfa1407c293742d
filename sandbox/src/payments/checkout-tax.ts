/** Automatic tax and tax ids on a checkout session: what it may ask for, and what the visitor said of themselves. */
import { isInEuropeanUnion } from '../billing/tax-table.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import type { Stored } from '../model/stored.ts'
import { refuseManualRates, type TaxedSale, taxPlaceOfCustomer, taxPlaceOfSale } from '../resources/tax/automatic-tax.ts'
import type { Params } from '../wire.gen.ts'

type Session = Stored<'checkout.session'>
type SessionParams = Params['POST /v1/checkout/sessions']
type TaxId = NonNullable<NonNullable<Session['_']['collected']>['taxId']>

/** What the tax of a session follows from. */
export type TaxedSession = Pick<Session, 'automatic_tax' | 'currency' | 'customer' | '_'>

/** Checks what a session asks for against the customer that it is for. Sources: the words of Stripe's own refusals. */
export function requireTaxable(ctx: Ctx, params: Partial<SessionParams>, mode: Session['mode']): void {
  const collectsTaxIds = params.tax_id_collection?.enabled === true
  const isAutomatic = params.automatic_tax?.enabled === true
  if (mode === 'setup' && (isAutomatic || collectsTaxIds)) {
    const name = isAutomatic ? 'automatic_tax' : 'tax_id_collection'
    throw invalidRequest(`You can not pass \`${name}\` in \`setup\` mode.`, { param: name })
  }
  if (isAutomatic) {
    const rates = (params.line_items ?? []).map((item) => item.tax_rates ?? [])
    refuseManualRates({ enabled: true }, [params.subscription_data?.default_tax_rates ?? [], ...rates])
  }
  if (params.customer === undefined) return
  if (collectsTaxIds && params.customer_update?.name !== 'auto') {
    throw invalidRequest(
      'Tax ID collection requires updating business name on the customer. To enable tax ID collection for an existing customer, please set `customer_update[name]` to `auto`.',
      { param: 'customer_update[name]' },
    )
  }
  const isLocated = taxPlaceOfCustomer(ctx.require('customer', params.customer)) !== null
  if (!isAutomatic || isLocated || params.customer_update?.address === 'auto') return
  throw invalidRequest(
    "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` to 'auto' to save the address entered in Checkout to the Customer.",
    { code: 'customer_tax_location_invalid', param: 'customer_update[address]' },
  )
}

/** Whether the address that the visitor states decides on the tax: a known customer's own does, unless the session replaces it. */
export function isTaxedByStatement(session: TaxedSession): boolean {
  return session.automatic_tax.enabled && (session.customer === null || session._.customerUpdate.address === 'auto')
}

/** A session as a sale: who buys, and where they are as far as that is known yet. */
export function saleOfSession(ctx: Ctx, session: TaxedSession): TaxedSale {
  const customer = session.customer === null ? undefined : ctx.get('customer', session.customer)
  const collected = session._.collected
  const stated = isTaxedByStatement(session) ? (collected?.address ?? null) : null
  const known = customer === undefined ? [] : ctx.store.by('tax_id', 'customer', customer.id)
  return {
    address: stated ?? customer?.address ?? null,
    at: ctx.now(session.customer),
    currency: session.currency ?? 'usd',
    exempt: customer?.tax_exempt ?? 'none',
    shipping: customer?.shipping?.address ?? null,
    taxIds: collected?.taxId == null ? known : [...known, collected.taxId],
  }
}

/** Automatic tax as a session shows it. */
export function sessionTax(ctx: Ctx, session: TaxedSession): Session['automatic_tax'] {
  if (!session.automatic_tax.enabled) return { enabled: false, liability: null, provider: null, status: null }
  const status = taxPlaceOfSale(saleOfSession(ctx, session)) === null ? 'requires_location_inputs' : 'complete'
  return { enabled: true, liability: { type: 'self' }, provider: 'stripe', status }
}

/** The kinds of tax id that the page takes outside of the European Union. */
const TAX_ID_TYPES: Readonly<Record<string, TaxId['type']>> = {
  AU: 'au_abn',
  CA: 'ca_gst_hst',
  CH: 'ch_vat',
  GB: 'gb_vat',
  IN: 'in_gst',
  JP: 'jp_trn',
  NO: 'no_vat',
  NZ: 'nz_gst',
  SG: 'sg_gst',
  US: 'us_ein',
}

/** The kind of tax id that a country's businesses have; null where the page takes none. */
export function taxIdTypeOf(country: string): TaxId['type'] | null {
  return isInEuropeanUnion(country) ? 'eu_vat' : (TAX_ID_TYPES[country] ?? null)
}

/** Whether a number has the form of a country's tax ids; that it was given out is not looked up. */
export function isTaxIdOf(country: string, value: string): boolean {
  // Greece writes its own code on VAT ids.
  const prefix = country === 'GR' ? 'EL' : country
  return isInEuropeanUnion(country) ? new RegExp(`^${prefix}[A-Z0-9+*]{2,13}$`).test(value) : /^[A-Z0-9.-]{5,20}$/.test(value)
}

import { toItemTax, toTaxParams, type ItemTax, type WireTaxedPrice } from './invoice-items.ts'
import { orNull, readPages } from './pages.ts'

/** How far Stripe Tax is set up. */
export type TaxSetup = {
  /** Settings without which it refuses to work, by Stripe's names. */
  readonly missing: readonly string[]
  /** Where tax is collected now, by ISO 3166-1. */
  readonly countries: readonly string[]
}

/** Something that a customer is to pay for at once. */
export type TaxedSale = {
  readonly customerId: string
  readonly currency: string
  readonly amountMinor: number
  /** What Stripe's reports call the line. */
  readonly reference: string
  /** As the price at Stripe has it; null where there is none. */
  readonly tax: ItemTax | null
}

/** What a sale comes to with its tax, and by which id its payment says so. */
export type SaleTax = { readonly calculationId: string; readonly totalMinor: number }

export type TaxReads = {
  readTaxSetup(): Promise<TaxSetup>
  /** By what Stripe Tax works out the tax of what a price sells; null for a price that there is not. */
  retrieveItemTax(priceId: string): Promise<ItemTax | null>
  /**
   * Works out the tax of a sale where the customer is; nothing follows from it until a payment names it, within 90 days.
   * @throws StripeCallError `tax_location_missing`
   */
  calculateTax(sale: TaxedSale): Promise<SaleTax>
}

type Settings = {
  readonly status: string
  readonly status_details: { readonly pending?: { readonly missing_fields: readonly string[] | null } }
}
type Registration = { readonly id: string; readonly country: string }
type Calculation = { readonly id: string | null; readonly amount_total: number }

type CalculationParams = {
  readonly customer: string
  readonly currency: string
  readonly line_items: {
    readonly amount: number
    readonly reference: string
    readonly tax_behavior?: string
    readonly tax_code?: string
  }[]
}

/** The calls that answer what there is to know of tax. */
export type TaxCalls = {
  /** With its product. */
  readonly retrievePrice: (id: string) => Promise<WireTaxedPrice>
  readonly readSettings: () => Promise<Settings>
  readonly listRegistrations: (page: { starting_after?: string }) => Promise<{ data: Registration[]; has_more: boolean }>
  readonly calculate: (params: CalculationParams) => Promise<Calculation>
}

export function createTaxReads({ retrievePrice, readSettings, listRegistrations, calculate }: TaxCalls): TaxReads {
  return {
    retrieveItemTax: (id) => orNull(retrievePrice(id).then(toItemTax)),
    async readTaxSetup() {
      const settings = await readSettings()
      const registered = await readPages(listRegistrations, ({ country }) => country)
      const missing = settings.status === 'active' ? [] : (settings.status_details.pending?.missing_fields ?? [settings.status])
      return { missing, countries: [...new Set(registered)].sort() }
    },
    async calculateTax({ customerId, currency, amountMinor, reference, tax }) {
      const { id, amount_total: totalMinor } = await calculate({
        customer: customerId,
        currency,
        line_items: [{ amount: amountMinor, reference, ...toTaxParams(tax) }],
      })
      if (id === null) throw new TypeError('Stripe answered a calculation of tax without its id.')
      return { calculationId: id, totalMinor }
    },
  }
}

import { idOf, type Metadata, type Reference } from './wire.ts'

/** An amount on an invoice that no price of a subscription decides; below zero it is a credit. As JSON holds it, for an intent. */
export type InvoiceItemTerms = {
  /** Minor units of `currency`. */
  readonly amountMinor: number
  readonly currency: string
  readonly description: string | null
  readonly discountable: boolean
  readonly taxRateIds: readonly string[]
  /** By what Stripe Tax works out its tax; an item shows neither. Of one that was kept by an earlier version, none. */
  readonly tax?: ItemTax
  /** What it sells, as far as a discount may be limited to that. Of one that was kept by an earlier version, none. */
  readonly productId?: string
  /** The time that it is for, in Stripe's seconds. */
  readonly startUnix: number
  readonly endUnix: number
  readonly metadata: Metadata
}

/** As a price and its product have them; null where Stripe Tax's own settings decide. */
export type ItemTax = { readonly behavior: string | null; readonly code: string | null }

export type InvoiceItemParams = InvoiceItemTerms & {
  readonly customerId: string
  /** On whose next invoice it goes; null is the customer's next of any kind. */
  readonly billWithSubscriptionId: string | null
}

export type InvoiceItemSnapshot = Omit<InvoiceItemTerms, 'tax' | 'productId'> & {
  readonly id: string
  readonly priceId: string | null
  readonly productId: string | null
  readonly proration: boolean
}

/** An item, and by what Stripe Tax works out its tax where no tax rates do. */
export type TaxedItem = { readonly item: InvoiceItemSnapshot; readonly tax: ItemTax | null }

/** The metadata of an item that stands for one whose invoice was voided: which invoice that was, which item, and what its line said of itself. */
export const VOIDED_INVOICE_METADATA = 'tollgate_voided_invoice'
export const RESTORED_ITEM_METADATA = 'tollgate_restored_item'
export const PRICE_METADATA = 'tollgate_price'
/** The metadata of an item for use that was told late: the line of our statement that it is. */
export const LINE_METADATA = 'tollgate_line'
const PRORATION_METADATA = 'tollgate_proration'

/** Of a `line` of an invoice as the mirror holds it: the price that it bills. Stripe lets no new item have a recurring one, so its metadata says it. */
export const PRICE_OF_LINE = `coalesce(line #>> '{metadata,${PRICE_METADATA}}', line #>> '{pricing,price_details,price}')`

/** Of a `line` of an invoice as the mirror holds it: whether a change of plan within a period made it. */
export const IS_PRORATION = `(coalesce(
    line -> 'parent' -> 'subscription_item_details' -> 'proration', line -> 'parent' -> 'invoice_item_details' -> 'proration'
  ) = 'true'::jsonb or line #>> '{metadata,${PRORATION_METADATA}}' = 'true')`

/** The price by which an item is taxed; null where its tax rates say how. Of one that was made again it is that of the first. */
export function taxedPriceOf({ priceId, taxRateIds, metadata }: InvoiceItemSnapshot): string | null {
  return taxRateIds.length > 0 ? null : (metadata[PRICE_METADATA] ?? priceId)
}

/** What makes an item again whose invoice was voided. */
export function restoring({ item, tax }: TaxedItem, voidedInvoiceId: string): InvoiceItemTerms {
  const { id, priceId, productId, proration, ...terms } = item
  return {
    ...terms,
    // Only what is charged can be said to be of a product, and only that is discounted.
    ...(productId === null || !item.discountable || item.amountMinor <= 0 ? {} : { productId }),
    ...(tax === null ? {} : { tax }),
    metadata: {
      ...(priceId === null ? {} : { [PRICE_METADATA]: priceId }),
      ...(proration ? { [PRORATION_METADATA]: 'true' } : {}),
      // Of one that was made again before, it says this already, whatever price Stripe gave it.
      ...terms.metadata,
      [RESTORED_ITEM_METADATA]: id,
      [VOIDED_INVOICE_METADATA]: voidedInvoiceId,
    },
  }
}

/** The line of our statement that a line of an invoice is, by its metadata. One that stands for a voided one's is billed with that. */
export function usageLineOf(metadata: Metadata | null): string | null {
  return metadata?.[VOIDED_INVOICE_METADATA] === undefined ? (metadata?.[LINE_METADATA] ?? null) : null
}

export type WireTaxedPrice = {
  readonly tax_behavior: string | null
  readonly product: string | { readonly deleted?: boolean | void; readonly tax_code?: Reference | null }
}

export function toItemTax({ tax_behavior: behavior, product }: WireTaxedPrice): ItemTax {
  return {
    behavior: behavior === 'unspecified' ? null : behavior,
    code: typeof product === 'string' ? null : idOf(product.tax_code),
  }
}

type WireInvoiceItem = {
  readonly id: string
  readonly amount: number
  readonly currency: string
  readonly description: string | null
  readonly discountable: boolean
  readonly tax_rates: readonly { readonly id: string }[] | null
  readonly period: { readonly start: number; readonly end: number }
  readonly metadata: Metadata | null
  readonly pricing: { readonly price_details?: { readonly price: Reference; readonly product: string } } | null
  readonly proration: boolean
}

export function toInvoiceItemSnapshot(wire: WireInvoiceItem): InvoiceItemSnapshot {
  return {
    id: wire.id,
    amountMinor: wire.amount,
    currency: wire.currency,
    description: wire.description,
    discountable: wire.discountable,
    taxRateIds: (wire.tax_rates ?? []).map(({ id }) => id),
    startUnix: wire.period.start,
    endUnix: wire.period.end,
    metadata: wire.metadata ?? {},
    priceId: idOf(wire.pricing?.price_details?.price),
    productId: wire.pricing?.price_details?.product ?? null,
    proration: wire.proration,
  }
}

/** Terms as the body of a request. */
export function toInvoiceItem(terms: InvoiceItemTerms) {
  return {
    ...toAmount(terms),
    currency: terms.currency,
    discountable: terms.discountable,
    period: { start: terms.startUnix, end: terms.endUnix },
    metadata: { ...terms.metadata },
    ...(terms.description === null ? {} : { description: terms.description }),
    ...(terms.taxRateIds.length === 0 ? {} : { tax_rates: [...terms.taxRateIds] }),
  }
}

function toAmount({ amountMinor, currency, tax, productId: product }: InvoiceItemTerms) {
  if (product === undefined) return { amount: amountMinor, ...toTaxParams(tax ?? null) }
  // Its tax code is the product's.
  const behavior = toTaxParams(tax === undefined ? null : { ...tax, code: null })
  return { price_data: { currency, product, unit_amount: amountMinor, ...behavior } }
}

/** By what Stripe Tax works out the tax of an amount; what is not said is as its settings say. */
export function toTaxParams(tax: ItemTax | null): { readonly tax_behavior?: string; readonly tax_code?: string } {
  const behavior = tax?.behavior == null ? {} : { tax_behavior: tax.behavior }
  return { ...behavior, ...(tax?.code == null ? {} : { tax_code: tax.code }) }
}

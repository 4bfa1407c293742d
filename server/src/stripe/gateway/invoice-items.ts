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

export type InvoiceItemSnapshot = Omit<InvoiceItemTerms, 'tax'> & {
  readonly id: string
  readonly priceId: string | null
  readonly proration: boolean
}

/** An item, and by what Stripe Tax works out its tax where no tax rates do. */
export type TaxedItem = { readonly item: InvoiceItemSnapshot; readonly tax: ItemTax | null }

/** The metadata of an item that stands for one whose invoice was voided: which invoice that was, which item, and what its line said of itself. */
export const VOIDED_INVOICE_METADATA = 'tollgate_voided_invoice'
export const RESTORED_ITEM_METADATA = 'tollgate_restored_item'
export const PRICE_METADATA = 'tollgate_price'
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
  const { id, priceId, proration, ...terms } = item
  return {
    ...terms,
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

type WireTaxedPrice = {
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
  readonly pricing: { readonly price_details?: { readonly price: Reference } } | null
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
    proration: wire.proration,
  }
}

/** Terms as the body of a request. */
export function toInvoiceItem(terms: InvoiceItemTerms) {
  return {
    amount: terms.amountMinor,
    currency: terms.currency,
    discountable: terms.discountable,
    period: { start: terms.startUnix, end: terms.endUnix },
    metadata: { ...terms.metadata },
    ...(terms.description === null ? {} : { description: terms.description }),
    ...(terms.taxRateIds.length === 0 ? {} : { tax_rates: [...terms.taxRateIds] }),
    ...(terms.tax?.behavior == null ? {} : { tax_behavior: terms.tax.behavior }),
    ...(terms.tax?.code == null ? {} : { tax_code: terms.tax.code }),
  }
}

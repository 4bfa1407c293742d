/**
 * An invoice from its lines: made as a draft, its sums computed again whenever a line changes. Stores
 * nothing but rates of automatic tax; the rest is the caller's.
 */
import { minimumChargeAmount } from '../../billing/currencies.ts'
import {
  type AppliedTaxRate,
  type AvailableCredit,
  computeTotals,
  type InvoiceTotals,
  type LineTotals,
  type PipelineLine,
  settleBalance,
} from '../../billing/invoice-totals.ts'
import type { Ctx } from '../../engine/context.ts'
import type { StoredLine } from '../../model/billing.ts'
import type { Stored } from '../../model/stored.ts'
import { appliedDiscounts } from '../catalog/discount-rules.ts'
import { automaticRates, noAutomaticTax, type TaxedSale, taxPlaceOfSale } from '../tax/automatic-tax.ts'

export type StoredInvoice = Stored<'invoice'>

/** What makes a draft; everything else of an invoice follows from it. */
export interface InvoiceDraft {
  readonly customer: string
  readonly subscription: Stored<'subscription'> | null
  readonly lines: readonly StoredLine[]
  readonly currency: string
  readonly billingReason: StoredInvoice['billing_reason']
  readonly period: { readonly start: number; readonly end: number }
  readonly collectionMethod: StoredInvoice['collection_method']
  readonly autoAdvance: boolean
  readonly automaticallyFinalizesAt: number | null
  readonly discounts: readonly string[]
  readonly defaultTaxRates: readonly string[]
  readonly offSession: boolean
  readonly now: number
  /** Fields that an API caller may set on the invoice itself. */
  readonly fields?: Partial<StoredInvoice>
}

/** A draft invoice with its sums. */
export function composeInvoice(ctx: Ctx, draft: InvoiceDraft): StoredInvoice {
  const customer = ctx.require('customer', draft.customer)
  const { subscription } = draft
  const id = ctx.newId('in', 24)
  const invoice: StoredInvoice = {
    ...emptyInvoice(id),
    auto_advance: draft.autoAdvance,
    automatic_tax: invoiceTaxOf(subscription?.automatic_tax ?? noAutomaticTax()),
    automatically_finalizes_at: draft.automaticallyFinalizesAt,
    billing_reason: draft.billingReason,
    collection_method: draft.collectionMethod,
    created: draft.now,
    currency: draft.currency,
    customer: customer.id,
    ...customerFields(ctx, customer),
    custom_fields: subscription?.invoice_settings.custom_fields ?? customer.invoice_settings.custom_fields,
    description: subscription?.invoice_settings.description ?? null,
    footer: subscription?.invoice_settings.footer ?? customer.invoice_settings.footer,
    default_tax_rates: draft.defaultTaxRates,
    discounts: [...draft.discounts],
    parent: parentOf(subscription),
    period_start: draft.period.start,
    period_end: draft.period.end,
    starting_balance: customer.balance,
    test_clock: customer.test_clock ?? null,
    ...draft.fields,
    _: {
      lines: draft.lines.map((line) => ({ ...line, invoice: id })),
      subscription: subscription?.id ?? null,
      firstAttemptAt: null,
      automaticAttempts: 0,
      retryAt: null,
      hardDeclined: null,
      offSession: draft.offSession,
      overdueAnnounced: false,
      creditNotes: 0,
      paidOutOfBand: false,
      credits: [],
    },
  }
  return { ...invoice, ...totalsPatch(ctx, invoice, []) }
}

/** What an invoice says of its customer, who may change until it is finalized. */
export function customerFields(ctx: Ctx, customer: Stored<'customer'>): Partial<StoredInvoice> {
  return {
    customer_address: customer.address ?? null,
    customer_email: customer.email,
    customer_name: customer.name ?? null,
    customer_phone: customer.phone ?? null,
    customer_shipping: customer.shipping,
    customer_tax_exempt: customer.tax_exempt ?? 'none',
    customer_tax_ids: ctx.store.by('tax_id', 'customer', customer.id).map(({ type, value }) => ({ type, value })),
  }
}

/** Automatic tax as an invoice shows it; its status follows with the sums. */
function invoiceTaxOf({ enabled, liability }: Stored<'subscription'>['automatic_tax']): StoredInvoice['automatic_tax'] {
  return { disabled_reason: null, enabled, liability, provider: null, status: null }
}

function parentOf(subscription: Stored<'subscription'> | null): StoredInvoice['parent'] {
  if (subscription === null) return null
  return {
    quote_details: null,
    type: 'subscription_details',
    subscription_details: {
      metadata: subscription.metadata,
      subscription: subscription.id,
    },
  }
}

/** The sums of an invoice as its lines, discounts and tax rates are now; `credits` are the grants that may pay. */
export function totalsPatch(ctx: Ctx, invoice: StoredInvoice, credits: readonly AvailableCredit[]): Partial<StoredInvoice> {
  const totals = totalsOf(ctx, invoice, credits)
  const lines = invoice._.lines.map((line, index) => withSums(line, totals.lines[index]))
  const settled = settleBalance({
    total: totals.total,
    startingBalance: invoice.starting_balance,
    minimum: minimumChargeAmount(invoice.currency),
  })
  return {
    automatic_tax: taxStatus(invoice),
    subtotal: totals.subtotal,
    subtotal_excluding_tax: totals.subtotalExcludingTax,
    total: totals.total,
    total_excluding_tax: totals.totalExcludingTax,
    total_discount_amounts: totals.discounts.map(({ discount, amount }) => ({ amount, discount })),
    total_pretax_credit_amounts: pretaxAmounts(totals.discounts, totals.credits),
    total_taxes: totals.taxes.map(taxAmount),
    amount_due: settled.amountDue,
    amount_remaining: settled.amountDue - invoice.amount_paid,
    _: {
      ...invoice._,
      lines,
      credits: totals.lines.flatMap((line, index) =>
        line.credits.map(({ grant, amount }) => ({ grant, amount, line: lines[index]?.id ?? '', transaction: null })),
      ),
    },
  }
}

/** Whether it is known where the customer is. */
export function taxStatus(invoice: StoredInvoice): StoredInvoice['automatic_tax'] {
  const { automatic_tax: tax } = invoice
  if (!tax.enabled) return { ...tax, provider: null, status: tax.disabled_reason === null ? null : 'requires_location_inputs' }
  const status = taxPlaceOfSale(saleOf(invoice)) === null ? 'requires_location_inputs' : 'complete'
  return { ...tax, provider: 'stripe', status }
}

function saleOf(invoice: StoredInvoice): TaxedSale {
  return {
    address: invoice.customer_address,
    at: invoice.effective_at ?? invoice.created,
    currency: invoice.currency,
    exempt: invoice.customer_tax_exempt ?? 'none',
    shipping: invoice.customer_shipping?.address ?? null,
    taxIds: invoice.customer_tax_ids ?? [],
  }
}

/** The rates of each line: those set by hand on it, else the automatic ones, else the invoice's. */
function ratesOf(ctx: Ctx, invoice: StoredInvoice): (line: StoredLine) => AppliedTaxRate[] {
  const automatic = invoice.automatic_tax.enabled ? automaticRates(ctx, saleOf(invoice)) : null
  return (line) => {
    const { product, taxBehavior, taxCode, taxRates } = line._
    if (taxRates.length > 0) return taxRates.map((rate) => taxRateOf(ctx, rate))
    if (automatic === null) return invoice.default_tax_rates.map((rate) => taxRateOf(ctx, rate))
    return automatic({ price: line.pricing?.price_details?.price ?? null, product, taxBehavior, taxCode })
  }
}

function totalsOf(ctx: Ctx, invoice: StoredInvoice, credits: readonly AvailableCredit[]): InvoiceTotals {
  const input = { currency: invoice.currency, now: invoice.created }
  const rates = ratesOf(ctx, invoice)
  return computeTotals({
    lines: invoice._.lines.map((line): PipelineLine => {
      return {
        amount: line.amount,
        discountable: line.discountable,
        product: line._.product,
        itemDiscounts: appliedDiscounts(ctx, line.discounts, input),
        itemKey: line._.itemKey,
        taxRates: rates(line),
        price: line.pricing?.price_details?.price ?? null,
        metered: line._.metered,
      }
    }),
    discounts: appliedDiscounts(ctx, invoice.discounts, input),
    credits,
  })
}

function taxRateOf(ctx: Ctx, id: string): AppliedTaxRate {
  const rate = ctx.require('tax_rate', id, 'tax_rates')
  return { id, percent: `${rate.percentage}`, inclusive: rate.inclusive }
}

function withSums(line: StoredLine, totals: LineTotals | undefined): StoredLine {
  if (totals === undefined) return line
  return {
    ...line,
    discount_amounts: totals.discounts.map(({ discount, amount }) => ({ amount, discount })),
    pretax_credit_amounts: pretaxAmounts(totals.discounts, totals.credits),
    subtotal: line.amount,
    taxes: line._.taxAmounts ?? totals.taxes.map(taxAmount),
  }
}

function pretaxAmounts(
  discounts: ReadonlyArray<{ discount: string; amount: number }>,
  credits: ReadonlyArray<{ amount: number }>,
): NonNullable<StoredLine['pretax_credit_amounts']> {
  return [
    ...credits.map(({ amount }) => ({ amount, credit_balance_transaction: null, type: 'credit_balance_transaction' as const })),
    ...discounts.map(({ discount, amount }) => ({ amount, discount, type: 'discount' as const })),
  ]
}

function taxAmount(tax: InvoiceTotals['taxes'][number]): NonNullable<StoredLine['taxes']>[number] {
  return {
    amount: tax.amount,
    tax_behavior: tax.inclusive ? 'inclusive' : 'exclusive',
    tax_rate_details: { tax_rate: tax.rate },
    taxability_reason: tax.reason ?? 'not_available',
    taxable_amount: tax.taxable,
    type: 'tax_rate_details',
  }
}

function emptyInvoice(id: string): Omit<StoredInvoice, '_'> {
  return {
    id,
    object: 'invoice',
    account_country: 'US',
    account_name: 'Sandbox',
    account_tax_ids: null,
    amount_due: 0,
    amount_overpaid: 0,
    amount_paid: 0,
    amount_remaining: 0,
    amount_shipping: 0,
    application: null,
    attempt_count: 0,
    attempted: false,
    auto_advance: false,
    automatic_tax: { disabled_reason: null, enabled: false, liability: null, provider: null, status: null },
    automatically_finalizes_at: null,
    billing_reason: 'manual',
    collection_method: 'charge_automatically',
    created: 0,
    currency: 'usd',
    custom_fields: null,
    customer: null,
    customer_account: null,
    customer_address: null,
    customer_email: null,
    customer_name: null,
    customer_phone: null,
    customer_shipping: null,
    customer_tax_exempt: 'none',
    customer_tax_ids: [],
    default_payment_method: null,
    default_source: null,
    default_tax_rates: [],
    description: null,
    discounts: [],
    due_date: null,
    effective_at: null,
    ending_balance: null,
    footer: null,
    from_invoice: null,
    hosted_invoice_url: null,
    invoice_pdf: null,
    issuer: { type: 'self' },
    last_finalization_error: null,
    latest_revision: null,
    livemode: false,
    metadata: {},
    next_payment_attempt: null,
    number: null,
    on_behalf_of: null,
    parent: null,
    payment_settings: { default_mandate: null, payment_method_options: null, payment_method_types: null },
    period_end: 0,
    period_start: 0,
    post_payment_credit_notes_amount: 0,
    pre_payment_credit_notes_amount: 0,
    receipt_number: null,
    rendering: null,
    shipping_cost: null,
    shipping_details: null,
    starting_balance: 0,
    statement_descriptor: null,
    status: 'draft',
    status_transitions: { finalized_at: null, marked_uncollectible_at: null, paid_at: null, voided_at: null },
    subtotal: 0,
    subtotal_excluding_tax: 0,
    test_clock: null,
    total: 0,
    total_discount_amounts: [],
    total_excluding_tax: 0,
    total_pretax_credit_amounts: [],
    total_taxes: [],
    webhooks_delivered_at: null,
  }
}

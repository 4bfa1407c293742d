import { toInvoiceItem } from './invoice-items.ts'
import type { InvoicePreviewQuery } from './invoice-previews.ts'
import type { DiscountParams, PhaseItem, RunningPhase, StripeMutations, SubscriptionItemParams, UsageTerms } from './mutations.ts'

/**
 * Our parameters as Stripe's request bodies. Plain functions, so that the client stays a list of calls; the compiler checks
 * there that each body fits the SDK's parameters.
 */

export function toItems(items: readonly SubscriptionItemParams[]) {
  return items.map(({ itemId, priceId, quantity, removed, taxRateIds = [] }) => {
    const id = itemId === null ? {} : { id: itemId }
    if (removed) return { ...id, deleted: true }
    return { ...id, price: priceId, ...(quantity === null ? {} : { quantity }), ...toTaxRates(taxRateIds) }
  })
}

function toTaxRates(taxRateIds: readonly string[]) {
  return taxRateIds.length === 0 ? {} : { tax_rates: [...taxRateIds] }
}

function toNewItems(items: readonly SubscriptionItemParams[]) {
  return items.map(({ priceId, quantity }) => ({ price: priceId, ...(quantity === null ? {} : { quantity }) }))
}

export function toDiscounts(discounts: readonly DiscountParams[]) {
  return discounts.map((discount) =>
    'couponId' in discount ? { coupon: discount.couponId } : { promotion_code: discount.promotionCodeId },
  )
}

function toPhaseItems(items: readonly PhaseItem[]) {
  return items.map(({ priceId, quantity, taxRateIds = [], discountIds = [] }) => ({
    price: priceId,
    ...(quantity === null ? {} : { quantity }),
    ...toTaxRates(taxRateIds),
    ...toPhaseDiscounts(discountIds),
  }))
}

const AUTOMATIC_TAX = { automatic_tax: { enabled: true } } as const

/** A customer may be taxed wherever they say on the page, which then is kept of them. */
const TAXED_PAGE = {
  ...AUTOMATIC_TAX,
  billing_address_collection: 'required',
  tax_id_collection: { enabled: true },
  customer_update: { address: 'auto', name: 'auto' },
} as const

export function toCustomerUpdate({ email, name, address, defaultPaymentMethodId }: StripeMutations['update_customer']) {
  return {
    ...(email === undefined ? {} : { email }),
    ...(name === undefined ? {} : { name }),
    ...(address === undefined ? {} : { address: { ...address } }),
    ...(defaultPaymentMethodId === undefined ? {} : { invoice_settings: { default_payment_method: defaultPaymentMethodId } }),
  }
}

export function toCheckoutSession(params: StripeMutations['create_checkout_session']) {
  return {
    mode: 'subscription' as const,
    customer: params.customerId,
    client_reference_id: params.reference,
    line_items: [{ price: params.priceId, quantity: params.quantity }, ...params.usagePriceIds.map((price) => ({ price }))],
    success_url: params.successUrl,
    cancel_url: params.cancelUrl,
    ...(params.allowPromotionCodes ? { allow_promotion_codes: true } : {}),
    ...(params.automaticTax === true ? TAXED_PAGE : {}),
    metadata: { ...params.metadata },
    subscription_data: {
      metadata: { ...params.metadata },
      ...(params.trialDays === null ? {} : { trial_period_days: params.trialDays }),
    },
  }
}

export function toCredit({ amountMinor, currency, description, metadata }: StripeMutations['credit_customer']) {
  // At Stripe, what is below zero is a credit.
  return { amount: -amountMinor, currency, description, metadata: { ...metadata } }
}

export function toPayment(params: StripeMutations['create_payment']) {
  return {
    customer: params.customerId,
    payment_method: params.paymentMethodId,
    amount: params.amountMinor,
    currency: params.currency,
    description: params.description,
    metadata: { ...params.metadata },
    confirm: true,
    off_session: true,
    ...(params.taxCalculationId === undefined ? {} : { hooks: { inputs: { tax: { calculation: params.taxCalculationId } } } }),
  }
}

export function toPaymentPage(params: StripeMutations['create_payment_page']) {
  const { price, quantity, metadata } = params
  const sold =
    typeof price === 'string'
      ? { price }
      : { price_data: { currency: price.currency, unit_amount: price.unitAmountMinor, product_data: { name: price.name } } }
  return {
    mode: 'payment' as const,
    customer: params.customerId,
    client_reference_id: params.reference,
    line_items: [{ ...sold, quantity }],
    success_url: params.successUrl,
    cancel_url: params.cancelUrl,
    ...(params.automaticTax === true ? TAXED_PAGE : {}),
    metadata: { ...metadata },
    payment_intent_data: { metadata: { ...metadata }, setup_future_usage: 'off_session' as const },
  }
}

export function toSubscription(params: StripeMutations['create_subscription']) {
  return {
    customer: params.customerId,
    items: toNewItems(params.items),
    payment_behavior: params.paymentBehavior,
    // What is paid with is used for the renewals too.
    payment_settings: { save_default_payment_method: 'on_subscription' as const },
    trial_settings: { end_behavior: { missing_payment_method: params.trialEndBehavior } },
    metadata: { ...params.metadata },
    ...(params.automaticTax === true ? AUTOMATIC_TAX : {}),
    ...(params.paymentMethodId === null ? {} : { default_payment_method: params.paymentMethodId }),
    ...(params.trialDays === null ? {} : { trial_period_days: params.trialDays }),
    ...(params.discounts.length === 0 ? {} : { discounts: toDiscounts(params.discounts) }),
  }
}

export function toSubscriptionUpdate(params: StripeMutations['update_subscription']) {
  const { pauseCollection } = params
  return {
    ...(params.items === undefined ? {} : { items: toItems(params.items) }),
    ...(params.prorationBehavior === undefined ? {} : { proration_behavior: params.prorationBehavior }),
    ...(params.prorationAtUnix === undefined ? {} : { proration_date: params.prorationAtUnix }),
    ...(params.paymentBehavior === undefined ? {} : { payment_behavior: params.paymentBehavior }),
    ...(params.cancelAtPeriodEnd === undefined ? {} : { cancel_at_period_end: params.cancelAtPeriodEnd }),
    ...(params.clearCancelAt === true ? { cancel_at: '' as const } : {}),
    ...(params.trialEndUnix === undefined ? {} : { trial_end: params.trialEndUnix }),
    ...(params.defaultPaymentMethodId === undefined ? {} : { default_payment_method: params.defaultPaymentMethodId }),
    ...(pauseCollection === undefined
      ? {}
      : { pause_collection: pauseCollection === 'none' ? ('' as const) : { behavior: pauseCollection } }),
    ...(params.discounts === undefined ? {} : { discounts: toDiscounts(params.discounts) }),
    ...(params.metadata === undefined ? {} : { metadata: { ...params.metadata } }),
  }
}

/** A phase, and an item of one, has the discounts that it names, and no others. */
function toPhaseDiscounts(discountIds: readonly string[]) {
  return discountIds.length === 0 ? {} : { discounts: discountIds.map((discount) => ({ discount })) }
}

/** Nor has it other tax rates, or Stripe's own unless it says so. */
function toPhaseTerms({ discountIds, taxRateIds = [], automaticTax }: PhaseTerms) {
  return {
    ...toPhaseDiscounts(discountIds),
    ...(taxRateIds.length === 0 ? {} : { default_tax_rates: [...taxRateIds] }),
    ...(automaticTax === true ? AUTOMATIC_TAX : {}),
  }
}

type PhaseTerms = Pick<StripeMutations['schedule_switch'], 'discountIds' | 'taxRateIds' | 'automaticTax'>

function toRunningPhase({ items, startUnix, isTrial }: RunningPhase, endUnix: number) {
  return {
    items: toPhaseItems(items),
    start_date: startUnix,
    end_date: endUnix,
    // A phase that does not say so ends a trial.
    ...(isTrial === true ? { trial: true } : {}),
  }
}

export function toScheduleEnd(params: StripeMutations['schedule_end']) {
  const { current, endAtUnix } = params
  return { end_behavior: 'cancel' as const, phases: [{ ...toRunningPhase(current, endAtUnix), ...toPhaseTerms(params) }] }
}

export function toScheduleSwitch(params: StripeMutations['schedule_switch']) {
  return {
    end_behavior: 'release' as const,
    metadata: { ...params.metadata },
    phases: [
      { ...toRunningPhase(params.current, params.switchAtUnix), ...toPhaseTerms(params) },
      {
        items: toPhaseItems(params.next),
        ...toPhaseTerms(params),
        start_date: params.switchAtUnix,
        // At the end of a period there is nothing to prorate, but use of a metered price that ends here, and what was paid a moment ago for
        // longer: `none` would bill and credit neither.
        proration_behavior: 'create_prorations' as const,
      },
    ],
  }
}

export function toPrice(params: StripeMutations['create_price']) {
  return {
    product: params.productId,
    currency: params.currency,
    unit_amount: params.unitAmountMinor,
    recurring: { interval: params.interval },
    lookup_key: params.lookupKey,
    // A changed amount is a new price: prices are immutable at Stripe. The name moves on to it.
    transfer_lookup_key: true,
    metadata: { ...params.metadata },
  }
}

/** `decimal` makes the SDK's decimals, which only the client knows. */
export function toUsagePrice<Decimal>(params: StripeMutations['create_usage_price'], decimal: (text: string) => Decimal) {
  return {
    product: params.productId,
    currency: params.currency,
    recurring: { interval: 'month' as const, usage_type: 'metered' as const, meter: params.meterId },
    lookup_key: params.lookupKey,
    transfer_lookup_key: true,
    metadata: { ...params.metadata },
    ...toUsageTerms(params.terms, decimal),
  }
}

function toUsageTerms<Decimal>(terms: UsageTerms, decimal: (text: string) => Decimal) {
  if (terms.scheme === 'per_unit') {
    const { packageSize } = terms
    return {
      unit_amount_decimal: decimal(terms.unitAmount),
      ...(packageSize === null ? {} : { transform_quantity: { divide_by: packageSize, round: 'up' as const } }),
    }
  }
  return {
    billing_scheme: 'tiered' as const,
    tiers_mode: terms.scheme,
    tiers: terms.tiers.map(({ upTo, unitAmount, flatAmountMinor }) => ({
      up_to: upTo ?? ('inf' as const),
      unit_amount_decimal: decimal(unitAmount),
      ...(flatAmountMinor === 0 ? {} : { flat_amount: flatAmountMinor }),
    })),
  }
}

export function toMeter({ name, eventName, formula }: StripeMutations['create_meter']) {
  return {
    display_name: name,
    event_name: eventName,
    default_aggregation: { formula },
    customer_mapping: { type: 'by_id' as const, event_payload_key: 'stripe_customer_id' },
    value_settings: { event_payload_key: 'value' },
  }
}

export function toCoupon(params: StripeMutations['create_coupon']) {
  return {
    id: params.couponId,
    name: params.name,
    duration: params.duration,
    ...(params.percentOff === null ? {} : { percent_off: Number(params.percentOff) }),
    ...(params.amountOffMinor === null ? {} : { amount_off: params.amountOffMinor }),
    ...(params.currency === null ? {} : { currency: params.currency }),
    ...(params.durationInMonths === null ? {} : { duration_in_months: params.durationInMonths }),
    ...(params.maxRedemptions === null ? {} : { max_redemptions: params.maxRedemptions }),
  }
}

export function toInvoicePreview(query: InvoicePreviewQuery) {
  return {
    customer: query.customerId,
    preview_mode: query.mode,
    ...(query.automaticTax ? AUTOMATIC_TAX : {}),
    ...(query.subscriptionId === null ? {} : { subscription: query.subscriptionId }),
    ...(query.discounts.length === 0 ? {} : { discounts: toDiscounts(query.discounts) }),
    ...(query.invoiceItems.length === 0 || query.mode === 'recurring'
      ? {}
      : { invoice_items: query.invoiceItems.map(toInvoiceItem) }),
    subscription_details: {
      ...(query.items.length === 0 ? {} : { items: toItems(query.items) }),
      ...(query.prorationBehavior === null ? {} : { proration_behavior: query.prorationBehavior }),
      ...(query.prorationAtUnix === null ? {} : { proration_date: query.prorationAtUnix }),
      ...(query.trialEndUnix === null ? {} : { trial_end: query.trialEndUnix }),
      ...(query.resetAnchor ? { billing_cycle_anchor: { type: 'now' as const } } : {}),
      ...(query.cancelNow ? { cancel_now: true } : {}),
      ...(query.resumesNow ? { resume_at: 'now' as const, billing_cycle_anchor: { type: 'now' as const } } : {}),
      ...(query.ending?.cancelAtPeriodEnd === undefined ? {} : { cancel_at_period_end: query.ending.cancelAtPeriodEnd }),
      ...(query.ending?.clearCancelAt === true ? { cancel_at: '' as const } : {}),
    },
  }
}

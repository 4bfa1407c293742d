import { createHash } from 'node:crypto'
import type { Allowance, Catalog, UsagePrice } from '../../catalog/catalog.ts'
import { formatQuantity, MICRO, type Quantity } from '../../lib/quantity.ts'
import { formatUnitAmount } from '../../lib/unit-amount.ts'
import type { MeterSnapshot, PriceSnapshot, ProductSnapshot } from '../gateway/gateway.ts'
import type { UsageTerms } from '../gateway/mutations.ts'
import { findByName, findFormer, keptOf, PLAN_METADATA } from './former-prices.ts'

/** The variable that names a metered price of one's own: all use of the first credit pool is reported to its meter (EM-3). */
export const METERED_PRICE_VARIABLE = 'STRIPE_METERED_PRICE_ID'

/** How Stripe makes a period's quantity of what is reported: adds it up, or takes the newest. */
export type MeterFormula = 'sum' | 'last'

/** A price of use, as `usage_prices` holds it. */
export type UsageOffer = {
  /** null is every plan. */
  readonly planKey: string | null
  readonly balanceKey: string
  readonly reports: 'overage' | 'use'
  readonly eventName: string
  readonly formula: MeterFormula
  readonly currency: string
  readonly price: UsagePrice
}

export type UsageStep =
  | { readonly kind: 'create_meter'; readonly name: string; readonly eventName: string; readonly formula: MeterFormula }
  | { readonly kind: 'create_usage_product'; readonly balanceKey: string; readonly name: string }
  | { readonly kind: 'update_usage_product'; readonly balanceKey: string; readonly name: string; readonly productId: string }
  | ({
      readonly kind: 'create_usage_price'
      /** null when an earlier step makes it. */
      readonly productId: string | null
      readonly meterId: string | null
      readonly terms: UsageTerms
      readonly fingerprint: string
      readonly replaces: PriceSnapshot | null
    } & UsageOffer)
  | ({
      readonly kind: 'reuse_usage_price'
      readonly priceId: string
      readonly terms: UsageTerms
      readonly replaces: PriceSnapshot | null
    } & UsageOffer)
  | ({ readonly kind: 'use_usage_price'; readonly priceId: string; readonly variable: string | null } & UsageOffer)

/** The metadata by which a metered price is known again: a digest of all that cannot be changed about it. */
export const TERMS_METADATA = 'tollgate_terms'

/** The metadata by which a product at Stripe names the balance whose use it is. */
export const USAGE_METADATA = 'tollgate_usage'

export type UsagePlanning = {
  readonly catalog: Catalog
  readonly products: readonly ProductSnapshot[]
  readonly prices: readonly PriceSnapshot[]
  readonly meters: readonly MeterSnapshot[]
  readonly problems: string[]
}

/**
 * The meters and products at Stripe that a catalog needs: one of each for a balance whose overage somebody pays for. Stripe calls an
 * invoice's line by its product, so each balance has its own: under the plan's, agents and users would both be called "Standard".
 */
export function meterSteps({ catalog, products, meters }: UsagePlanning): UsageStep[] {
  return billedBalances(catalog).flatMap((balanceKey): UsageStep[] => {
    const { eventName, formula } = meterOf(catalog, balanceKey)
    const name = catalog.balances.get(balanceKey)?.name ?? balanceKey
    const meter = { kind: 'create_meter', name: `${name} (overage)`, eventName, formula } as const
    const product = findUsageProduct(products, balanceKey)
    return [
      ...(meters.some((each) => each.eventName === eventName) ? [] : [meter]),
      ...(product === null ? [{ kind: 'create_usage_product', balanceKey, name } as const] : []),
      ...(product !== null && product.name !== name
        ? [{ kind: 'update_usage_product', balanceKey, name, productId: product.id } as const]
        : []),
    ]
  })
}

/** The balances whose overage a plan that can be subscribed to has a price for. */
function billedBalances({ plans }: Catalog): string[] {
  const sold = [...plans.values()].filter(({ prices }) => prices.size > 0)
  const billed = sold.flatMap(({ allowances }) => [...allowances.values()].filter(({ overage }) => overage !== null))
  return [...new Set(billed.map(({ balanceKey }) => balanceKey))]
}

function findUsageProduct(products: readonly ProductSnapshot[], balanceKey: string): ProductSnapshot | null {
  return products.find(({ active, metadata }) => active && metadata[USAGE_METADATA] === balanceKey) ?? null
}

/**
 * The meter that counts a balance's overage at Stripe. Of a level (a meter's largest or latest value) the newest report is the
 * period's quantity, of everything else their sum. The formula is in the name, since a meter of Stripe's never changes.
 */
function meterOf(catalog: Catalog, balanceKey: string): { readonly eventName: string; readonly formula: MeterFormula } {
  const aggregation = catalog.meters.get(balanceKey)?.aggregation
  const isLevel = aggregation === 'max' || aggregation === 'latest'
  return isLevel
    ? { eventName: `tollgate_level_${balanceKey}`, formula: 'last' }
    : { eventName: `tollgate_overage_${balanceKey}`, formula: 'sum' }
}

/** The metered prices of a plan: one for each allowance whose overage has a price. All are monthly, whatever the plan's interval. */
export function usagePriceSteps(
  planning: UsagePlanning,
  plan: { readonly key: string; readonly allowances: ReadonlyMap<string, Allowance> },
): UsageStep[] {
  return [...plan.allowances.values()].flatMap(({ balanceKey, overage }) =>
    overage === null ? [] : usagePriceStep(planning, plan, { balanceKey, price: overage }),
  )
}

function usagePriceStep(
  { catalog, products, prices, meters, problems }: UsagePlanning,
  plan: { readonly key: string },
  { balanceKey, price }: { readonly balanceKey: string; readonly price: UsagePrice },
): UsageStep[] {
  const terms = stripeTermsOf(price)
  if (terms === null) {
    problems.push(
      `The overage of "${balanceKey}" in the plan "${plan.key}" has packages or tiers that are not whole numbers; Stripe takes no others.`,
    )
    return []
  }
  const { eventName, formula } = meterOf(catalog, balanceKey)
  const { currency } = catalog
  const offer = { planKey: plan.key, balanceKey, reports: 'overage' as const, eventName, formula, currency, price }
  const fingerprint = fingerprintOf({ terms, currency, eventName })
  const replaces = findByName(prices, usageLookupKeyOf(offer))
  const meterId = meters.find((meter) => meter.eventName === eventName)?.id ?? null
  const productId = findUsageProduct(products, balanceKey)?.id ?? null
  const isSame = (price: PriceSnapshot): boolean =>
    price.metadata[TERMS_METADATA] === fingerprint && price.meterId === meterId && price.productId === productId
  if (replaces !== null && isSame(replaces)) return [{ kind: 'use_usage_price', priceId: replaces.id, variable: null, ...offer }]
  const former = findFormer(prices, (price) => price.metadata[PLAN_METADATA] === plan.key && isSame(price))
  return former === null
    ? [{ kind: 'create_usage_price', productId, meterId, terms, fingerprint, replaces, ...offer }]
    : [{ kind: 'reuse_usage_price', priceId: former.id, terms, replaces, ...offer }]
}

/** A metered price that somebody made at Stripe, for all use of the first credit pool (EM-3). */
export function adoptMeteredPrice(
  { catalog, prices, meters, problems }: UsagePlanning,
  priceId: string | undefined,
): UsageStep[] {
  if (priceId === undefined || priceId === '') return []
  const balanceKey = [...catalog.balances.keys()].find((key) => !catalog.meters.has(key)) ?? [...catalog.balances.keys()][0]
  const found = prices.find(({ id }) => id === priceId)
  const meter = meters.find(({ id }) => id === found?.meterId)
  if (found?.meterId == null || meter === undefined || balanceKey === undefined) {
    problems.push(`${METERED_PRICE_VARIABLE} names the price ${priceId}, which is not at Stripe, or is not metered.`)
    return []
  }
  if (found.unitAmountDecimal === null) {
    problems.push(`${METERED_PRICE_VARIABLE} names the price ${priceId}, which has tiers; one price per unit is expected.`)
    return []
  }
  return [
    {
      kind: 'use_usage_price',
      priceId,
      variable: METERED_PRICE_VARIABLE,
      planKey: null,
      balanceKey,
      reports: 'use',
      eventName: meter.eventName,
      formula: 'sum',
      currency: found.currency,
      price: { model: 'per_unit', unitAmount: unitAmountOf(found.unitAmountDecimal) },
    },
  ]
}

function unitAmountOf(decimal: string): bigint {
  const [whole = '0', fraction = ''] = decimal.split('.')
  return BigInt(whole) * 10n ** 12n + BigInt(fraction.padEnd(12, '0'))
}

/** A price of use as Stripe has it; null where it takes whole numbers only. */
export function stripeTermsOf(price: UsagePrice): UsageTerms | null {
  switch (price.model) {
    case 'per_unit':
      return { scheme: 'per_unit', unitAmount: formatUnitAmount(price.unitAmount), packageSize: null }
    case 'package': {
      const packageSize = wholeOf(price.size)
      return packageSize === null ? null : { scheme: 'per_unit', unitAmount: String(price.amountMinor), packageSize }
    }
    case 'graduated':
    case 'volume': {
      const tiers = price.tiers.map(({ upTo, unitAmount, flatAmountMinor }) => ({
        upTo: upTo === null ? null : wholeOf(upTo),
        unitAmount: formatUnitAmount(unitAmount),
        flatAmountMinor,
      }))
      const isWhole = tiers.every(({ upTo }, index) => upTo !== null || price.tiers[index]!.upTo === null)
      return isWhole ? { scheme: price.model, tiers } : null
    }
  }
}

function wholeOf(quantity: Quantity): number | null {
  return quantity % MICRO === 0n ? Number(formatQuantity(quantity)) : null
}

function fingerprintOf(content: { terms: UsageTerms; currency: string; eventName: string }): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 32)
}

/** The name under which the metered price of a plan's balance is found at Stripe, whatever its id. */
export function usageLookupKeyOf({ planKey, balanceKey }: Pick<UsageOffer, 'planKey' | 'balanceKey'>): string {
  return `tollgate:${planKey}:overage:${balanceKey}`
}

/** One step in words. */
export function describeUsageStep(step: UsageStep): string {
  switch (step.kind) {
    case 'create_meter':
      return `+ meter ${step.eventName}`
    case 'create_usage_product':
      return `+ product of use of ${step.balanceKey} (${step.name})`
    case 'update_usage_product':
      return `~ product ${step.productId} of use of ${step.balanceKey}: name`
    case 'create_usage_price':
      return `+ price of ${overageOf(step)}${keptOf(step)}`
    case 'reuse_usage_price':
      return `~ price ${step.priceId} of ${overageOf(step)} sells again${keptOf(step)}`
    case 'use_usage_price':
      return step.variable === null
        ? `= price ${step.priceId} of overage of ${step.balanceKey} in plan ${step.planKey}`
        : `= price ${step.priceId} of all use of ${step.balanceKey} (from ${step.variable})`
  }
}

function overageOf({ balanceKey, planKey, terms, currency }: UsageOffer & { readonly terms: UsageTerms }): string {
  return `overage of ${balanceKey} in plan ${planKey}: ${wordsOf(terms)} ${currency}`
}

function wordsOf(terms: UsageTerms): string {
  if (terms.scheme === 'per_unit') {
    return `${terms.unitAmount} minor units per ${terms.packageSize === null ? 'unit' : `begun ${terms.packageSize}`},`
  }
  return `${terms.tiers.length} ${terms.scheme} tiers,`
}

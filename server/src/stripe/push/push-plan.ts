import { soldThings } from '../../catalog/add-ons.ts'
import type { Catalog, Plan, PlanPrice } from '../../catalog/catalog.ts'
import type { PriceInterval } from '../../catalog/define.ts'
import type { MeterSnapshot, PriceSnapshot, ProductSnapshot } from '../gateway/gateway.ts'
import { findByName, findFormer, PLAN_METADATA } from './former-prices.ts'
import { adoptMeteredPrice, METERED_PRICE_VARIABLE, meterSteps, usagePriceSteps, type UsageStep } from './push-usage.ts'

/** What is at Stripe of what a catalog needs. */
export type StripeCatalog = {
  readonly products: readonly ProductSnapshot[]
  /** Recurring ones, archived ones too, newest first; and those that variables name. */
  readonly prices: readonly PriceSnapshot[]
  /** Those that are active. */
  readonly meters: readonly MeterSnapshot[]
}

export type PushPrice = {
  readonly planKey: string
  readonly interval: PriceInterval
  readonly amountMinor: number
  readonly currency: string
}

/** One thing to do at Stripe, or one that is as it should be. */
export type PushStep =
  | { readonly kind: 'create_product'; readonly planKey: string; readonly name: string; readonly description: string }
  | {
      readonly kind: 'update_product'
      readonly planKey: string
      readonly productId: string
      readonly name: string
      readonly description: string
    }
  | ({
      readonly kind: 'create_price'
      /** null when the product is made by an earlier step. */
      readonly productId: string | null
      /** The price that sold this until now; who has it keeps it. */
      readonly replaces: PriceSnapshot | null
    } & PushPrice)
  | ({
      /** A price of before that sells again. */
      readonly kind: 'reuse_price'
      readonly priceId: string
      readonly productId: string
      readonly replaces: PriceSnapshot | null
    } & PushPrice)
  | ({
      readonly kind: 'use_price'
      readonly priceId: string
      readonly productId: string
      readonly variable: string | null
    } & PushPrice)
  | UsageStep

export type PushPlan = {
  readonly steps: readonly PushStep[]
  /** Why the catalog cannot be pushed as it is, in sentences; empty when it can. */
  readonly problems: readonly string[]
}

/**
 * Compares a catalog with what is at Stripe and says what to do. Pure; with nothing to do, only `use_price` steps are left.
 * A price whose amount or currency changed is another one under the same lookup key: one of before that is of these terms, else a new one.
 */
export function planPush(
  catalog: Catalog,
  stripe: StripeCatalog,
  variables: Readonly<Record<string, string | undefined>>,
): PushPlan {
  const problems: string[] = []
  const planning = { catalog, stripe, variables, problems }
  const usage = { catalog, ...stripe, problems }
  const isMetered = variables['STRIPE_ENABLE_METERED_BILLING'] === 'true'
  const steps = [
    // Meters and their products first: prices name them.
    ...meterSteps(usage),
    ...soldThings(catalog).flatMap((plan) => planSteps(planning, plan)),
    ...adoptMeteredPrice(usage, isMetered ? variables[METERED_PRICE_VARIABLE] : undefined),
  ]
  problems.push(...findSharedPrices(steps))
  return { steps, problems }
}

type Planning = {
  readonly catalog: Catalog
  readonly stripe: StripeCatalog
  readonly variables: Readonly<Record<string, string | undefined>>
  readonly problems: string[]
}

function planSteps(planning: Planning, plan: Plan): PushStep[] {
  const { catalog, stripe, variables } = planning
  const named = [...plan.prices.values()].map((price) => ({ price, given: givenPriceId(price, variables) }))
  const adopted = named.flatMap(({ price, given }) => (given === null ? [] : adoptPrice(planning, plan, { price, ...given })))
  const own = named.filter(({ given }) => given === null)
  if (own.length === 0) return [...adopted, ...usageSteps(planning, plan)]
  const product = stripe.products.find(({ active, metadata }) => active && metadata[PLAN_METADATA] === plan.key) ?? null
  const priceSteps = own.map(({ price }): PushStep => {
    const wanted = { planKey: plan.key, interval: price.interval, amountMinor: price.amountMinor, currency: catalog.currency }
    return priceStep(stripe.prices, product, wanted)
  })
  return [...productSteps(plan, product), ...priceSteps, ...adopted, ...usageSteps(planning, plan)]
}

function priceStep(prices: readonly PriceSnapshot[], product: ProductSnapshot | null, wanted: PushPrice): PushStep {
  const replaces = findByName(prices, lookupKeyOf(wanted))
  if (product === null) return { kind: 'create_price', productId: null, replaces, ...wanted }
  const productId = product.id
  if (replaces?.productId === productId && sells(replaces, wanted)) {
    return { kind: 'use_price', priceId: replaces.id, productId, variable: null, ...wanted }
  }
  const former = findFormer(
    prices,
    (price) =>
      price.productId === productId &&
      price.metadata[PLAN_METADATA] === wanted.planKey &&
      price.meterId === null &&
      sells(price, wanted),
  )
  return former === null
    ? { kind: 'create_price', productId, replaces, ...wanted }
    : { kind: 'reuse_price', priceId: former.id, productId, replaces, ...wanted }
}

/** What a plan's overage costs; a plan that nobody can subscribe to bills none. */
function usageSteps({ catalog, stripe, problems }: Planning, plan: Plan): UsageStep[] {
  return plan.prices.size === 0 ? [] : usagePriceSteps({ catalog, ...stripe, problems }, plan)
}

function productSteps(plan: Plan, product: ProductSnapshot | null): PushStep[] {
  const { key: planKey, name, description } = plan
  if (product === null) return [{ kind: 'create_product', planKey, name, description }]
  if (product.name === name && (product.description ?? '') === description) return []
  return [{ kind: 'update_product', planKey, productId: product.id, name, description }]
}

type Given = { readonly variable: string; readonly priceId: string }

function givenPriceId({ priceVariable }: PlanPrice, variables: Planning['variables']): Given | null {
  const priceId = priceVariable === null ? undefined : variables[priceVariable]
  return priceVariable === null || priceId === undefined || priceId === '' ? null : { variable: priceVariable, priceId }
}

/** A price that somebody made at Stripe and named in a variable: its own amount counts, its interval must be the plan's. */
function adoptPrice({ stripe, problems }: Planning, plan: Plan, given: Given & { price: PlanPrice }): PushStep[] {
  const { price, variable, priceId } = given
  const found = stripe.prices.find(({ id }) => id === priceId)
  if (found === undefined) {
    problems.push(`${variable} names the price ${priceId}, which is not at Stripe.`)
    return []
  }
  if (found.interval !== stripeIntervalOf(price.interval) || found.intervalCount !== 1) {
    problems.push(`${variable} names the price ${priceId}, which is not ${price.interval}, as the plan "${plan.key}" wants it.`)
    return []
  }
  return [
    {
      kind: 'use_price',
      planKey: plan.key,
      interval: price.interval,
      priceId,
      productId: found.productId,
      variable,
      amountMinor: found.unitAmountMinor ?? price.amountMinor,
      currency: found.currency,
    },
  ]
}

/** One price cannot sell two plans: nobody could tell what a subscription to it is. */
function findSharedPrices(steps: readonly PushStep[]): string[] {
  const used = new Map<string, string>()
  return steps.flatMap((step) => {
    if (step.kind !== 'use_price' && step.kind !== 'reuse_price') return []
    const place = `${step.planKey}, ${step.interval}`
    const other = used.get(step.priceId)
    used.set(step.priceId, place)
    return other === undefined ? [] : [`The price ${step.priceId} is named twice: for ${other} and for ${place}.`]
  })
}

function sells(price: PriceSnapshot, wanted: PushPrice): boolean {
  return (
    price.unitAmountMinor === wanted.amountMinor &&
    price.currency === wanted.currency &&
    price.interval === stripeIntervalOf(wanted.interval) &&
    price.intervalCount === 1
  )
}

/** The name under which the price of a plan is found at Stripe, whatever its id. */
export function lookupKeyOf({ planKey, interval }: Pick<PushPrice, 'planKey' | 'interval'>): string {
  return `tollgate:${planKey}:${interval}`
}

export function stripeIntervalOf(interval: PriceInterval): 'month' | 'year' {
  return interval === 'monthly' ? 'month' : 'year'
}

import type { Ctx } from '../engine/context.ts'
import type { Stored } from '../model/stored.ts'
import { isMetered, unitAmountOf } from '../resources/catalog/price-terms.ts'
import type { StoredSubscription } from '../resources/subscriptions/stored.ts'
import { formatUnitPrice, formatInterval } from './money.ts'
import type { PlanOption } from './portal-flow-view.ts'
import type { Portal } from './portal-session.ts'

type Price = Stored<'price'>

const knowsCurrency = (price: Price, currency: string): boolean =>
  price.currency === currency || price.currency_options?.[currency] !== undefined

/** The prices that a configuration offers; where it names none, every active recurring price that is licensed. */
function offered(ctx: Ctx, portal: Portal): Price[] {
  const products = portal.configuration.features.subscription_update.products ?? []
  if (products.length > 0) return products.flatMap(({ prices }) => prices.map((id) => ctx.require('price', id)))
  return [...ctx.store.all('price')].filter(
    (price) =>
      price.active && price.recurring !== null && !isMetered(price) && ctx.get('product', price.product)?.active === true,
  )
}

function describe(ctx: Ctx, price: Price, subscription: StoredSubscription): PlanOption {
  const unit = unitAmountOf(price, subscription.currency)
  const each = price.recurring === null ? '' : ` ${formatInterval(price.recurring.interval, price.recurring.interval_count)}`
  return {
    amount: `${unit === null ? 'Tiered price' : formatUnitPrice(unit, subscription.currency)}${each}`,
    current: subscription._.items[0]?.price === price.id,
    name: ctx.get('product', price.product)?.name ?? price.nickname ?? price.id,
    price: price.id,
  }
}

/** The plans that a subscription may change to, its own among them. Empty when the customer may not choose. */
export function planOptions(ctx: Ctx, portal: Portal, subscription: StoredSubscription): PlanOption[] {
  const { subscription_update: update } = portal.configuration.features
  if (
    !update.enabled ||
    !(update.default_allowed_updates.includes('price') || update.default_allowed_updates.includes('quantity'))
  )
    return []
  const own = subscription._.items[0]?.price
  const allowsPrice = update.default_allowed_updates.includes('price')
  const prices = offered(ctx, portal).filter(
    (price) => knowsCurrency(price, subscription.currency) && (price.id === own || (allowsPrice && price.active)),
  )
  return prices.map((price) => describe(ctx, price, subscription))
}

/** The bounds within which the customer may say how many; null when they may not. */
export function quantityBounds(
  ctx: Ctx,
  portal: Portal,
  priceId: string,
): { readonly min: number; readonly max: number | null } | null {
  const { subscription_update: update } = portal.configuration.features
  const price = ctx.require('price', priceId)
  if (!update.default_allowed_updates.includes('quantity') || isMetered(price)) return null
  const products = update.products ?? []
  if (products.length === 0) return { max: null, min: 1 }
  const entry = products.find(({ product }) => product === price.product)
  if (entry === undefined || !entry.adjustable_quantity.enabled) return null
  return { max: entry.adjustable_quantity.maximum, min: entry.adjustable_quantity.minimum }
}

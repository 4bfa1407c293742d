/** The items that an update asks for: kept, changed, added and removed ones. */
import { type Anchor, type Recurrence } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { StoredSubscriptionItem } from '../../model/billing.ts'
import type { Params } from '../../wire.gen.ts'
import { markDiscountEnded } from '../catalog/discount-rules.ts'
import { isMetered, recurrenceOf } from '../catalog/price-terms.ts'
import {
  checkedTaxRates,
  countingFrom,
  itemDiscounts,
  itemPeriod,
  newItem,
  quantityOf,
  resolveRecurringPrice,
  withPeriod,
} from './items-params.ts'
import type { StoredSubscription } from './stored.ts'

export type ItemParam = NonNullable<Params['POST /v1/subscriptions/{id}']['items']>[number]

/** One item's change: `before` is null for an added one, `after` for a removed one. */
export interface ItemChange {
  readonly before: StoredSubscriptionItem | null
  readonly after: StoredSubscriptionItem | null
}

export interface ItemChanges {
  readonly items: readonly StoredSubscriptionItem[]
  /** Those whose price or quantity differs: they are prorated. */
  readonly changes: readonly ItemChange[]
  /** Some item is billed at another interval than before. */
  readonly changesInterval: boolean
  /** Items whose metered usage is dropped instead of billed. */
  readonly clearedUsage: ReadonlySet<string>
}

/** Applies item parameters to a subscription's items. Periods of new and re-priced items follow the anchor. */
export function changeItems(
  ctx: Ctx,
  subscription: StoredSubscription,
  params: readonly ItemParam[],
  anchor: Anchor,
  now: number,
): ItemChanges {
  let items: readonly StoredSubscriptionItem[] = subscription._.items
  const changes: ItemChange[] = []
  const clearedUsage = new Set<string>()
  let changesInterval = false
  for (const [index, param] of params.entries()) {
    const at = `items[${index}]`
    const before = param.id === undefined ? null : (items.find((item) => item.id === param.id) ?? null)
    if (param.id !== undefined && before === null) throw noSuch('subscription_item', param.id, `${at}[id]`)
    if (before !== null && param.clear_usage === true) clearedUsage.add(before.id)
    const after = nextItem(ctx, subscription, before, param, { at, anchor, now })
    if (before !== null && after !== null) changesInterval ||= !sameRecurrence(ctx, before, after)
    if (isPriced(before, after)) changes.push({ before, after })
    items = replaced(items, before, after)
  }
  return { items, changes, changesInterval, clearedUsage }
}

function replaced(
  items: readonly StoredSubscriptionItem[],
  before: StoredSubscriptionItem | null,
  after: StoredSubscriptionItem | null,
): readonly StoredSubscriptionItem[] {
  if (before === null) return after === null ? items : [...items, after]
  return items.flatMap((item) => (item.id !== before.id ? [item] : after === null ? [] : [after]))
}

function isPriced(before: StoredSubscriptionItem | null, after: StoredSubscriptionItem | null): boolean {
  return before?.price !== after?.price || before?.quantity !== after?.quantity
}

function sameRecurrence(ctx: Ctx, before: StoredSubscriptionItem, after: StoredSubscriptionItem): boolean {
  const one: Recurrence = recurrenceOf(ctx.require('price', before.price))
  const other = recurrenceOf(ctx.require('price', after.price))
  return one.interval === other.interval && one.count === other.count
}

function nextItem(
  ctx: Ctx,
  subscription: StoredSubscription,
  before: StoredSubscriptionItem | null,
  param: ItemParam,
  place: { at: string; anchor: Anchor; now: number },
): StoredSubscriptionItem | null {
  if (param.deleted === true) {
    if (before === null) throw invalidRequest('You must pass the `id` of an item to delete it.', { param: `${place.at}[id]` })
    return null
  }
  const owner = { id: subscription.id, customer: subscription.customer, currency: subscription.currency }
  if (before === null) {
    const {
      id: _id,
      clear_usage: _clear,
      deleted: _deleted,
      billing_thresholds: _thresholds,
      discounts,
      metadata,
      ...rest
    } = param
    const item = newItem(
      ctx,
      {
        ...rest,
        ...(discounts === undefined || discounts === '' ? {} : { discounts }),
        ...(metadata === undefined || metadata === '' ? {} : { metadata }),
      },
      owner,
      place.at,
    )
    return countingFrom(ctx, periodFor(ctx, subscription, item, place), place.now)
  }
  return changedItem(ctx, subscription, before, param, place)
}

function changedItem(
  ctx: Ctx,
  subscription: StoredSubscription,
  before: StoredSubscriptionItem,
  param: ItemParam,
  place: { at: string; anchor: Anchor; now: number },
): StoredSubscriptionItem {
  const owner = { id: subscription.id, customer: subscription.customer, currency: subscription.currency }
  const asked = resolveRecurringPrice(ctx, param, place.at)
  const isSwapped = asked !== null && asked.id !== before.price
  const price = asked ?? ctx.require('price', before.price)
  const { quantity: oldQuantity, ...base } = before
  // A swapped price without a quantity starts at one again: docs.stripe.com/billing/subscriptions/change-price.
  const quantity = param.quantity ?? (isSwapped || isMetered(price) ? undefined : oldQuantity)
  const discounts = param.discounts === undefined ? before.discounts : itemDiscounts(ctx, param.discounts, owner, before.id)
  for (const id of before.discounts) if (!discounts.includes(id)) markDiscountEnded(ctx, id)
  const item: StoredSubscriptionItem = {
    ...base,
    ...quantityOf(price, quantity, place.at),
    price: price.id,
    metadata: mergeMetadata(before.metadata, param.metadata),
    discounts,
    tax_rates: param.tax_rates === undefined ? before.tax_rates : checkedTaxRates(ctx, param.tax_rates),
  }
  const timed = sameRecurrence(ctx, before, item) ? item : periodFor(ctx, subscription, item, place)
  return isSwapped ? countingFrom(ctx, timed, place.now) : timed
}

/** The running trial, or the period of the anchor that holds now. */
function periodFor(
  ctx: Ctx,
  subscription: StoredSubscription,
  item: StoredSubscriptionItem,
  place: { anchor: Anchor; now: number },
): StoredSubscriptionItem {
  if (subscription.status === 'trialing' && subscription.trial_end !== null) {
    return withPeriod(item, { start: subscription.trial_start ?? place.now, end: subscription.trial_end })
  }
  return withPeriod(item, itemPeriod(ctx, place.anchor, item, place.now))
}

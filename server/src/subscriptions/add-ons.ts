import type { AddOn, Catalog } from '../catalog/catalog.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { NEXT_INVOICE } from '../stripe/gateway/invoice-previews.ts'
import type { StripeMutations } from '../stripe/gateway/mutations.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { performIntent, type FinishedIntent } from '../stripe/intents/intents.ts'
import { readOrganization, timeOf } from '../stripe/organizations.ts'
import { followChange, prorationTime, runExclusively, wasHeard, type Asker } from './actions.ts'
import { callOff, payAndSwitch } from './execute.ts'
import { chargedOf } from './next-invoice.ts'
import { readTakenAlong } from './pending-items.ts'
import type { AddOnItem, BillingState, CurrentSubscription } from './plan-change.ts'
import { requireSubscription } from './rules.ts'
import { readBillingState } from './state.ts'

export type AddOnRequest = {
  readonly addOnKey: string
  /** 0 ends it. */
  readonly quantity: number
}

export type ListedAddOn = {
  readonly addOn: AddOn
  /** How many the subscription has. */
  readonly quantity: number
  /** Whether the present catalog has it; of one that it has no more, fewer can be had. */
  readonly purchasable: boolean
}

/** What the present catalog has, then by their keys what else the subscription has, as it was last declared. */
export async function listAddOns(
  { catalogs }: Pick<BillingContext, 'catalogs'>,
  subscription: Pick<CurrentSubscription, 'addOnItems'> | null,
): Promise<readonly ListedAddOn[]> {
  const quantities = new Map(subscription?.addOnItems.map(({ addOnKey, quantity }) => [addOnKey, quantity]))
  const { addOns } = catalogs.current.catalog
  const listed = [...addOns.values()].map((addOn) => ({ addOn, quantity: quantities.get(addOn.key) ?? 0, purchasable: true }))
  for (const key of [...quantities.keys()].toSorted()) {
    const addOn = addOns.has(key) ? undefined : await catalogs.addOn(key)
    if (addOn !== undefined) listed.push({ addOn, quantity: quantities.get(key)!, purchasable: false })
  }
  return listed
}

/** A change of an add-on, worked out but not carried out. */
export type AddOnChange = {
  readonly subscription: CurrentSubscription
  readonly from: number
  readonly to: number
  readonly items: NonNullable<StripeMutations['update_subscription']['items']>
  /** More is paid in this moment, the rest of the period only; less is credited on the next invoice. */
  readonly invoiceNow: boolean
}

/**
 * Works out what a request means: fewer of it at any time, more while the catalog has it. Pure.
 * @throws DomainError `not_found`, `subscription_missing`, `invalid_request`, `plan_not_offered`, `conflict`, `nothing_to_change`
 */
function computeAddOn(state: BillingState, { addOns }: Catalog, { addOnKey, quantity }: AddOnRequest): AddOnChange {
  const addOn = addOns.get(addOnKey)
  const present = state.subscription?.addOnItems.find((item) => item.addOnKey === addOnKey) ?? null
  if (addOn === undefined && present === null) {
    throw new DomainError('not_found', `There is no add-on "${addOnKey}".`, { add_on: addOnKey })
  }
  const subscription = requireSubscription(state)
  const from = present?.quantity ?? 0
  if (quantity > from) checkMoreOf(addOn, { addOnKey, quantity })
  if (!['active', 'trialing', 'past_due'].includes(subscription.status)) {
    throw new DomainError('conflict', `A subscription that is ${subscription.status} takes no add-ons.`)
  }
  if (subscription.scheduledAt !== null) {
    throw new DomainError('conflict', 'A change of the plan is scheduled; take it back first.')
  }
  if (from === quantity) throw new DomainError('nothing_to_change', `There are ${quantity} of it already.`)
  const items = [itemOf(state, subscription, { present, addOnKey, quantity })]
  return { subscription, from, to: quantity, items, invoiceNow: quantity > from && subscription.status !== 'trialing' }
}

function checkMoreOf(addOn: AddOn | undefined, { addOnKey, quantity }: AddOnRequest): void {
  if (addOn === undefined) throw new DomainError('plan_not_offered', `The add-on "${addOnKey}" is no longer sold.`)
  if (quantity > addOn.maxQuantity) {
    throw new DomainError('invalid_request', `At most ${addOn.maxQuantity} of it can be had.`, { field: 'quantity' })
  }
}

type Wanted = { readonly present: AddOnItem | null; readonly addOnKey: string; readonly quantity: number }

function itemOf(state: BillingState, subscription: CurrentSubscription, { present, addOnKey, quantity }: Wanted) {
  // Who has it keeps the price at which they bought it.
  if (present !== null) {
    const { itemId, priceId } = present
    return quantity === 0 ? { itemId, priceId, quantity: null, removed: true as const } : { itemId, priceId, quantity }
  }
  const { interval, currency } = subscription
  const offers = state.offers.filter((offer) => offer.interval === interval && addOnKey in offer.addOnPriceIds)
  if (offers.length === 0) throw new DomainError('plan_not_offered', `The add-on "${addOnKey}" cannot be bought ${interval}.`)
  const offer = offers.find((each) => each.currency === currency)
  if (offer !== undefined) return { itemId: null, priceId: offer.addOnPriceIds[addOnKey]!, quantity }
  const sentence = `The add-on "${addOnKey}" is sold in ${offers[0]!.currency}, and the subscription is paid in ${currency}, which Stripe cannot change.`
  throw new DomainError('plan_not_offered', sentence, { add_on: addOnKey })
}

/** Adds, changes or ends an add-on, and answers when account and grants have followed. @throws those of `computeAddOn` and of Stripe */
export async function changeAddOn(
  context: BillingContext,
  { organizationId, request, prorationAt }: { organizationId: string; request: AddOnRequest; prorationAt: Instant | null },
  asker: Asker,
): Promise<void> {
  await runExclusively(context, organizationId, async (session, finished) => {
    const now = timeOf(await readOrganization(session, organizationId), context.clock)
    const state = await readBillingState(context, session, organizationId)
    if ((await wasHeard(session, organizationId, asker)) || isDoneAlready(state, request, finished)) {
      return followChange(context, session, organizationId)
    }
    const change = computeAddOn(state, context.catalogs.current.catalog, request)
    const at = prorationTime(prorationAt, now)
    const params = paramsOf(change, at)
    const audit = {
      ...asker,
      action: 'add_on.changed',
      target: request.addOnKey,
      before: { quantity: change.from },
      after: { quantity: change.to },
    }
    const step = 'update_subscription' as const
    const execution = { context, session, organizationId, prorationAt: at, telling: { step, audit, isTold: false } }
    await callOff(execution, change.subscription)
    if (change.invoiceNow) await payAndSwitch(execution, params, change.subscription)
    else await performIntent(context, session, { organizationId, kind: step, params, audit })
    await followChange(context, session, organizationId)
  })
}

/** Whether the very change was asked for before and its answer was lost. */
function isDoneAlready(state: BillingState, { addOnKey, quantity }: AddOnRequest, finished: readonly FinishedIntent[]): boolean {
  const present = state.subscription?.addOnItems.find((item) => item.addOnKey === addOnKey)?.quantity ?? 0
  return (
    present === quantity &&
    finished.some(({ intent: { audit } }) => audit?.action === 'add_on.changed' && audit.target === addOnKey)
  )
}

function paramsOf({ subscription, items, invoiceNow }: AddOnChange, at: Instant): StripeMutations['update_subscription'] {
  return {
    subscriptionId: subscription.id,
    items,
    prorationBehavior: invoiceNow ? 'always_invoice' : 'create_prorations',
    ...(subscription.status === 'trialing' ? {} : { prorationAtUnix: toUnix(at) }),
  }
}

export type AddOnPreview = {
  readonly change: AddOnChange
  readonly currency: string
  readonly dueNowMinor: number
  readonly creditMinor: number
  readonly prorationAt: Instant
}

/** What a change of an add-on would mean, with Stripe's own amounts. Changes nothing. */
export async function previewAddOn(
  context: BillingContext,
  organizationId: string,
  request: AddOnRequest,
): Promise<AddOnPreview> {
  const { reads } = requireGateway(context)
  const organization = await readOrganization(context.db, organizationId)
  const state = await readBillingState(context, context.db, organizationId)
  const { catalog } = context.catalogs.current
  const change = computeAddOn(state, catalog, request)
  const now = timeOf(organization, context.clock)
  const prorationAt = new Date(Math.floor(now.getTime() / 1000) * 1000)
  if (change.subscription.status === 'trialing' || organization.customerId === null) {
    return { change, currency: catalog.currency, dueNowMinor: 0, creditMinor: 0, prorationAt }
  }
  const invoice = await reads.previewInvoice({
    ...NEXT_INVOICE,
    customerId: organization.customerId,
    subscriptionId: change.subscription.id,
    items: change.items,
    prorationBehavior: change.invoiceNow ? 'always_invoice' : 'create_prorations',
    prorationAtUnix: toUnix(prorationAt),
    invoiceItems: await readTakenAlong(context, organizationId, change.subscription),
  })
  const prorations = invoice.lines.filter(({ proration }) => proration).reduce((sum, { amountMinor }) => sum + amountMinor, 0)
  return {
    change,
    currency: invoice.currency,
    dueNowMinor: change.invoiceNow ? chargedOf(invoice) : 0,
    creditMinor: change.invoiceNow ? 0 : Math.max(0, -prorations),
    prorationAt,
  }
}

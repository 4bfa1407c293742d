import { roundHalfUp } from '../lib/apportion.ts'
import { settleInvoice } from '../lib/money.ts'
import type { BillingContext } from '../stripe/context.ts'
import { isNoneUpcoming } from '../stripe/gateway/errors.ts'
import type { StripeReads } from '../stripe/gateway/gateway.ts'
import { NEXT_INVOICE, type InvoicePreview } from '../stripe/gateway/invoice-previews.ts'
import { askBriefly } from '../stripe/intents/ask-briefly.ts'
import { findUsagePrices } from '../stripe/push/push-usage-prices.ts'
import { readUninvoicedUse } from './lines.ts'
import {
  findForetold,
  findRenewing,
  storeForetold,
  type DiscountedLine,
  type Foretold,
  type Renewing,
  type TakenOff,
} from './upcoming-store.ts'

/**
 * What the next invoice comes to by now, in minor units (KF-9): plan, seats, add-ons, what a change of plan left to be settled,
 * discounts and credits as Stripe works them out, with the overage as it is counted here. 0 when none is coming.
 *
 * Stripe is asked once after each change of the mirror; its answer is kept. While it is away, or takes long, the one before holds, or what the mirror
 * knows: so this read works without it.
 */
export async function readUpcomingMinor(context: BillingContext, organizationId: string): Promise<number> {
  const renewing = await findRenewing(context.db, organizationId)
  if (renewing === null) return 0
  const foretold = (await foretell(context, organizationId, renewing)) ?? fromMirror(renewing)
  const totalMinor = foretold.totalMinor + (await countedSince(context, organizationId, foretold, renewing))
  const { currency, renews } = renewing
  return dueOf({ totalMinor, balanceMinor: foretold.balanceMinor, currency }, { comes: renews || totalMinor !== 0 })
}

/** What an invoice comes to, in minor units, and the customer's balance before it. */
export type InvoiceSum = Pick<Foretold, 'totalMinor' | 'balanceMinor'> & { readonly currency: string }

/**
 * What an invoice that Stripe foretells, or where it foretells none the use alone, comes to with all that is counted here by now:
 * after discounts, and the balance that comes off. Minor units.
 */
export async function withUseByNow(
  context: BillingContext,
  organizationId: string,
  invoice: InvoicePreview | null,
): Promise<InvoiceSum> {
  const renewing = await findRenewing(context.db, organizationId)
  const currency = renewing?.currency ?? invoice?.currency ?? context.catalogs.current.catalog.currency
  if (renewing === null) {
    return { totalMinor: invoice?.totalMinor ?? 0, balanceMinor: invoice?.startingBalanceMinor ?? 0, currency }
  }
  const foretold = invoice === null ? noneForetold(renewing) : await toForetold(context, invoice, renewing)
  const since = await countedSince(context, organizationId, foretold, renewing)
  return { totalMinor: foretold.totalMinor + since, balanceMinor: foretold.balanceMinor, currency }
}

/** What an invoice charges. Without one that comes a customer's balance, a debt of theirs too, stays where it is. */
export function dueOf({ totalMinor, balanceMinor, currency }: InvoiceSum, { comes }: { readonly comes: boolean }): number {
  return comes ? settleInvoice({ amountMinor: totalMinor + balanceMinor, currency }).dueMinor : 0
}

async function countedSince(
  context: BillingContext,
  organizationId: string,
  { lines, discounts }: Foretold,
  { subscriptionId, items }: Renewing,
): Promise<number> {
  const usage = await readUninvoicedUse(context, { organizationId, subscriptionId })
  const counted = usage.flatMap(({ parts, priceId }) => {
    const { productId, itemId } = [...lines, ...items].find((known) => known.priceId === priceId) ?? UNKNOWN
    return parts.map(({ amountMinor }) => ({ amountMinor, productId, itemId }))
  })
  const fixed = lines.filter(({ isMetered }) => !isMetered)
  return lessDiscounts([...fixed, ...counted], discounts) - lessDiscounts(lines, discounts)
}

const UNKNOWN = { productId: null, itemId: null }

function noneForetold({ balanceMinor, discounts }: Renewing): Foretold {
  return { totalMinor: 0, balanceMinor, lines: [], discounts }
}

function fromMirror({ renews, items, discounts, balanceMinor }: Renewing): Foretold {
  const lines = items.filter(({ isMetered, isDue }) => renews && isDue && !isMetered)
  return { totalMinor: lessDiscounts(lines, discounts), balanceMinor, lines, discounts }
}

/**
 * What lines come to after discounts, each off what those before it left of the lines that it is for. A percentage is taken off each line and rounded there, as
 * Stripe does; an amount comes off all of them in proportion, down to nothing. Pure.
 */
export function lessDiscounts(lines: readonly DiscountedLine[], discounts: readonly TakenOff[]): number {
  const left = lines.map(({ amountMinor }) => amountMinor)
  for (const discount of discounts) {
    const indexes = lines.flatMap((line, index) => (left[index]! > 0 && isFor(line, discount) ? [index] : []))
    const amounts = indexes.map((index) => left[index]!)
    const taken = takenOff(amounts, discount)
    for (const [at, index] of indexes.entries()) left[index] = amounts[at]! - taken[at]!
  }
  return sum(left)
}

function isFor({ productId, itemId }: DiscountedLine, discount: TakenOff): boolean {
  if (discount.itemId !== null && discount.itemId !== itemId) return false
  return discount.products === null || (productId !== null && discount.products.includes(productId))
}

function takenOff(amounts: readonly number[], { percentOff, amountOffMinor }: TakenOff): number[] {
  if (percentOff !== null) {
    const basisPoints = BigInt(Math.round(percentOff * 100))
    return amounts.map((amount) => Number(roundHalfUp(BigInt(amount) * basisPoints, 10_000n)))
  }
  const total = sum(amounts)
  const off = Math.min(amountOffMinor, total)
  // Each has its share rounded down, and the last has the rest.
  const shares = amounts.map((amount) => Number((BigInt(off) * BigInt(amount)) / BigInt(total)))
  return shares.map((share, index) => (index === shares.length - 1 ? share + off - sum(shares) : share))
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0)
}

/** Who has been asked and has not answered: a Stripe that hangs is not asked again by every reader. */
const asked = new WeakMap<StripeReads, Map<string, Promise<Foretold>>>()

async function foretell(context: BillingContext, organizationId: string, renewing: Renewing): Promise<Foretold | null> {
  const { db, gateway } = context
  const known = await findForetold(db, organizationId)
  if (known?.isCurrent === true || gateway === null) return known
  const { reads } = gateway
  const asking = asked.get(reads) ?? new Map<string, Promise<Foretold>>()
  asked.set(reads, asking)
  const answer = asking.get(organizationId) ?? askAndKeep(context, reads, organizationId, renewing)
  asking.set(organizationId, answer)
  const ended = (): boolean => asking.delete(organizationId)
  answer.then(ended, ended)
  return (await askBriefly(answer)) ?? known
}

async function askAndKeep(
  context: BillingContext,
  reads: StripeReads,
  organizationId: string,
  renewing: Renewing,
): Promise<Foretold> {
  const computedAt = context.clock.now()
  const foretold = await askStripe(context, reads, renewing)
  await storeForetold(context.db, { organizationId, computedAt }, foretold)
  return foretold
}

async function askStripe(context: BillingContext, reads: StripeReads, renewing: Renewing): Promise<Foretold> {
  const { customerId, subscriptionId } = renewing
  try {
    return await toForetold(context, await reads.previewInvoice({ ...NEXT_INVOICE, customerId, subscriptionId }), renewing)
  } catch (error) {
    // Of a subscription that ends, Stripe foretells what waits to be settled, or nothing; what was counted since is invoiced all the same.
    if (isNoneUpcoming(error)) return noneForetold(renewing)
    throw error
  }
}

async function toForetold({ db }: BillingContext, invoice: InvoicePreview, { discounts }: Renewing): Promise<Foretold> {
  const priceIds = invoice.lines.flatMap(({ priceId }) => (priceId === null ? [] : [priceId]))
  const metered = await findUsagePrices(db, priceIds)
  const lines = invoice.lines.flatMap(({ amountMinor, priceId, usageLineId, productId, itemId, discountable }) => {
    const isMetered = usageLineId !== null || (priceId !== null && metered.has(priceId))
    return isMetered || discountable ? [{ amountMinor, priceId, productId, itemId, isMetered }] : []
  })
  const { totalMinor, startingBalanceMinor: balanceMinor } = invoice
  // An invoice tells those of the whole of it, which come off after those of items.
  const ofItems = discounts.filter(({ itemId }) => itemId !== null)
  const ofAll = invoice.discounts.filter(({ endsAt }) => endsAt === null || endsAt > invoice.periodEnd)
  return { totalMinor, balanceMinor, lines, discounts: [...ofItems, ...ofAll].map(toTakenOff) }
}

function toTakenOff({ itemId, products, percentOff, amountOffMinor }: TakenOff): TakenOff {
  return { itemId, products, percentOff, amountOffMinor }
}

import { roundHalfUp } from '../lib/apportion.ts'
import type { BillingContext } from '../stripe/context.ts'
import { isNoneUpcoming } from '../stripe/gateway/errors.ts'
import type { StripeReads } from '../stripe/gateway/gateway.ts'
import { NEXT_INVOICE, type InvoicePreview } from '../stripe/gateway/invoice-previews.ts'
import { askBriefly } from '../stripe/intents/ask-briefly.ts'
import { findUsagePrices } from '../stripe/push/push-usage-prices.ts'
import { readUninvoicedUse } from './lines.ts'
import { findForetold, findRenewing, storeForetold, type Foretold, type Renewing, type TakenOff } from './upcoming-store.ts'

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
  return dueOf({ totalMinor, balanceMinor: foretold.balanceMinor }, { comes: renewing.renews || totalMinor !== 0 })
}

/**
 * What an invoice that Stripe foretells, or where it foretells none the use alone, comes to with all that is counted here by now:
 * after discounts, and the balance that comes off. Minor units.
 */
export async function withUseByNow(
  context: BillingContext,
  organizationId: string,
  invoice: InvoicePreview | null,
): Promise<Pick<Foretold, 'totalMinor' | 'balanceMinor'>> {
  const renewing = await findRenewing(context.db, organizationId)
  if (renewing === null) return { totalMinor: invoice?.totalMinor ?? 0, balanceMinor: invoice?.startingBalanceMinor ?? 0 }
  const foretold = invoice === null ? noneForetold(renewing) : await toForetold(context, invoice)
  const since = await countedSince(context, organizationId, foretold, renewing)
  return { totalMinor: foretold.totalMinor + since, balanceMinor: foretold.balanceMinor }
}

/** What an invoice charges. Without one that comes a customer's balance, a debt of theirs too, stays where it is. */
export function dueOf(
  { totalMinor, balanceMinor }: Pick<Foretold, 'totalMinor' | 'balanceMinor'>,
  { comes }: { readonly comes: boolean },
): number {
  return comes ? Math.max(0, totalMinor + balanceMinor) : 0
}

async function countedSince(
  context: BillingContext,
  organizationId: string,
  { subtotalMinor, meteredMinor }: Foretold,
  { subscriptionId, discounts }: Renewing,
): Promise<number> {
  const usage = await readUninvoicedUse(context, { organizationId, subscriptionId })
  const counted = usage.flatMap(({ parts }) => parts.map(({ amountMinor }) => amountMinor))
  const fixed = subtotalMinor - sum(meteredMinor)
  return lessDiscounts([fixed, ...counted], discounts) - lessDiscounts([fixed, ...meteredMinor], discounts)
}

function noneForetold({ balanceMinor }: Renewing): Foretold {
  return { subtotalMinor: 0, totalMinor: 0, meteredMinor: [], balanceMinor }
}

function fromMirror({ renews, itemsMinor, discounts, balanceMinor }: Renewing): Foretold {
  const subtotalMinor = renews ? itemsMinor : 0
  return { subtotalMinor, totalMinor: lessDiscounts([subtotalMinor], discounts), meteredMinor: [], balanceMinor }
}

/**
 * What lines come to after discounts, each off what the one before it left. A percentage is taken off each line and rounded there, as
 * Stripe does; an amount comes off their sum, down to nothing. Pure.
 */
export function lessDiscounts(linesMinor: readonly number[], discounts: readonly TakenOff[]): number {
  let lines = linesMinor
  for (const { percent, amountMinor } of discounts) {
    if (percent === null) lines = [lessAmount(sum(lines), amountMinor ?? 0)]
    else lines = lines.map((line) => line - Number(roundHalfUp(BigInt(line) * BigInt(Math.round(percent * 100)), 10_000n)))
  }
  return sum(lines)
}

function lessAmount(fromMinor: number, offMinor: number): number {
  return Math.max(Math.min(fromMinor, 0), fromMinor - offMinor)
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
    return await toForetold(context, await reads.previewInvoice({ ...NEXT_INVOICE, customerId, subscriptionId }))
  } catch (error) {
    // Of a subscription that ends, Stripe foretells what waits to be settled, or nothing; what was counted since is invoiced all the same.
    if (isNoneUpcoming(error)) return noneForetold(renewing)
    throw error
  }
}

async function toForetold({ db }: BillingContext, invoice: InvoicePreview): Promise<Foretold> {
  const priceIds = invoice.lines.flatMap(({ priceId }) => (priceId === null ? [] : [priceId]))
  const metered = await findUsagePrices(db, priceIds)
  const meteredMinor = invoice.lines.flatMap(({ priceId, amountMinor }) =>
    priceId !== null && metered.has(priceId) ? [amountMinor] : [],
  )
  const { subtotalMinor, totalMinor, startingBalanceMinor: startingMinor } = invoice
  return { subtotalMinor, totalMinor, meteredMinor, balanceMinor: startingMinor }
}

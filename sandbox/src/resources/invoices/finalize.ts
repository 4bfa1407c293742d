/** From draft to open: number, customer balance, credits, once-only discounts. */
import { minimumChargeAmount } from '../../billing/currencies.ts'
import { settleBalance } from '../../billing/invoice-totals.ts'
import { invoiceNumber } from '../../billing/numbering.ts'
import { DAY_SECONDS } from '../../billing/periods.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'
import { type Announce, announceNow } from '../announce.ts'
import { isOnce, markDiscountEnded } from '../catalog/discount-rules.ts'
import { changeBalance } from '../customers/customer-balance.ts'
import { customerFields, type StoredInvoice, totalsPatch } from './compose.ts'
import { availableCredits, drawCredits } from './credits.ts'
import { withKnownTax } from './tax-location.ts'
import { withPresentUsage } from './usage.ts'

export interface FinalizeOptions {
  readonly announce?: Announce
  readonly autoAdvance?: boolean
  /** For `send_invoice`: days until it is due. */
  readonly daysUntilDue?: number | null
}

/** Finalizes a draft. An invoice with nothing to pay is paid by the caller (`settleIfNothingDue`). Emits `invoice.finalized`. */
export function finalizeInvoice(ctx: Ctx, id: string, options: FinalizeOptions = {}): StoredInvoice {
  const found = ctx.require('invoice', id)
  if (found.status !== 'draft') {
    throw invalidRequest("This invoice is already finalized, you can't re-finalize a non-draft invoice.", {
      code: 'invoice_not_editable',
    })
  }
  if (found.customer === null) throw new Error(`Invoice ${id} has no customer`)
  const customer = ctx.require('customer', found.customer)
  const draft = withKnownTax(ctx, { ...withPresentUsage(ctx, found), ...customerFields(ctx, customer) })
  const now = ctx.now(customer.id)
  const starting = { ...draft, starting_balance: customer.balance }
  const totalled = { ...starting, ...totalsPatch(ctx, starting, availableCredits(ctx, starting, now)) }
  const balance = settleBalance({
    total: totalled.total,
    startingBalance: customer.balance,
    minimum: minimumChargeAmount(draft.currency),
  })
  const opened = ctx.update('invoice', id, {
    ...totalled,
    ...drawCredits(ctx, totalled),
    ...numberPatch(ctx, customer, draft),
    amount_due: balance.amountDue,
    amount_remaining: balance.amountDue,
    ending_balance: balance.endingBalance,
    auto_advance: options.autoAdvance ?? draft.auto_advance ?? false,
    automatically_finalizes_at: null,
    next_payment_attempt: null,
    due_date: dueDate(draft, now, options.daysUntilDue ?? null),
    effective_at: draft.effective_at ?? now,
    hosted_invoice_url: `${ctx.baseUrl}/i/${id}`,
    invoice_pdf: `${ctx.baseUrl}/i/${id}/pdf`,
    last_finalization_error: null,
    status: 'open',
    status_transitions: { ...draft.status_transitions, finalized_at: now },
    webhooks_delivered_at: now,
  })
  applyBalance(ctx, opened, customer, balance)
  const announce = options.announce ?? announceNow(ctx)
  announce('invoice.finalized', opened)
  consumeOnceDiscounts(ctx, opened)
  return opened
}

function numberPatch(ctx: Ctx, customer: Stored<'customer'>, draft: StoredInvoice): Partial<StoredInvoice> {
  if (draft.number !== null) return {}
  const sequence = customer.next_invoice_sequence ?? 1
  ctx.update('customer', customer.id, { next_invoice_sequence: sequence + 1 })
  // Stripe announces the currency that a customer is bound to, and not the growing number.
  if (customer.currency !== draft.currency) ctx.change('customer', customer.id, { currency: draft.currency }, 'customer.updated')
  return { number: invoiceNumber(customer.invoice_prefix ?? customer.id.slice(-8).toUpperCase(), sequence) }
}

function dueDate(draft: StoredInvoice, now: number, daysUntilDue: number | null): number | null {
  if (draft.collection_method !== 'send_invoice') return null
  return draft.due_date ?? now + (daysUntilDue ?? 30) * DAY_SECONDS
}

function applyBalance(
  ctx: Ctx,
  invoice: StoredInvoice,
  customer: Stored<'customer'>,
  settled: { endingBalance: number; movedBelowMinimum: boolean },
): void {
  const amount = settled.endingBalance - customer.balance
  if (amount === 0) return
  const before = ctx.present(ctx.require('customer', customer.id))
  changeBalance(ctx, customer.id, {
    amount,
    currency: invoice.currency,
    type: settled.movedBelowMinimum ? 'invoice_too_small' : 'applied_to_invoice',
    invoice: invoice.id,
  })
  ctx.emit('customer.updated', ctx.require('customer', customer.id), { before })
}

/** A `once` coupon ends with the first finalized invoice that it could take something off. */
function consumeOnceDiscounts(ctx: Ctx, invoice: StoredInvoice): void {
  const used = new Set((invoice.total_discount_amounts ?? []).map(({ discount }) => discount))
  const ids = [...invoice.discounts, ...invoice._.lines.flatMap((line) => line.discounts)].filter((id) => used.has(id))
  const spent = new Set(
    ids.filter((id) => {
      const discount = ctx.get('discount', id)
      return discount !== undefined && isOnce(ctx, discount)
    }),
  )
  if (spent.size === 0) return
  for (const id of spent) markDiscountEnded(ctx, id, invoice.id)
  const left = (list: readonly string[]): string[] => list.filter((id) => !spent.has(id))
  const subscription = invoice._.subscription === null ? undefined : ctx.get('subscription', invoice._.subscription)
  if (subscription !== undefined) {
    const items = subscription._.items.map((item) => ({ ...item, discounts: left(item.discounts) }))
    const patch = { discounts: left(subscription.discounts), _: { ...subscription._, items } }
    // A subscription that was never announced has nothing to tell of yet.
    if (invoice.billing_reason === 'subscription_create') ctx.update('subscription', subscription.id, patch)
    else ctx.change('subscription', subscription.id, patch, 'customer.subscription.updated')
  }
  const holder = invoice.customer === null ? undefined : ctx.get('customer', invoice.customer)
  if (holder?.discount != null && spent.has(holder.discount))
    ctx.change('customer', holder.id, { discount: null }, 'customer.updated')
}

/** Ways in which an invoice ends without being paid. */
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { changeBalance } from '../customers/customer-balance.ts'
import { cancelIntentsOf, followWaivedInvoice } from '../subscriptions/status.ts'
import type { StoredSubscription } from '../subscriptions/stored.ts'
import type { StoredInvoice } from './compose.ts'
import { returnCredits } from './credits.ts'

type UncollectibleReason = NonNullable<NonNullable<StoredInvoice['status_details']>['uncollectible']>['reason']

/** Voids an open or uncollectible invoice: nobody owes it any more. Its customer balance and credits come back. */
export function voidInvoice(ctx: Ctx, id: string): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status !== 'open' && invoice.status !== 'uncollectible') {
    throw invalidRequest(`You can only void an open or uncollectible invoice. This invoice is ${invoice.status ?? 'a draft'}.`)
  }
  cancelIntentsOf(ctx, id)
  const voided = ctx.change(
    'invoice',
    id,
    {
      auto_advance: false,
      next_payment_attempt: null,
      amount_remaining: 0,
      status: 'void',
      status_transitions: { ...invoice.status_transitions, voided_at: ctx.nowOf(invoice) },
      _: { ...invoice._, retryAt: null },
    },
    'invoice.voided',
  )
  returnBalance(ctx, voided)
  returnCredits(ctx, voided)
  followWaivedInvoice(ctx, voided)
  return voided
}

/** Drops a change that waits for its payment: its invoice is voided, and that calls it off. */
export function dropPendingUpdate(ctx: Ctx, { _: { pendingUpdate } }: StoredSubscription): void {
  if (pendingUpdate !== null) voidInvoice(ctx, pendingUpdate.invoice)
}

/** What the customer's balance paid of a voided invoice goes back to it. */
function returnBalance(ctx: Ctx, invoice: StoredInvoice): void {
  const applied = (invoice.ending_balance ?? invoice.starting_balance) - invoice.starting_balance
  if (applied === 0 || invoice.customer === null) return
  const before = ctx.present(ctx.require('customer', invoice.customer))
  changeBalance(ctx, invoice.customer, {
    amount: -applied,
    currency: invoice.currency,
    type: 'unapplied_from_invoice',
    invoice: invoice.id,
  })
  ctx.emit('customer.updated', ctx.require('customer', invoice.customer), { before })
}

/** Writes an open invoice off: it can still be paid, but nobody counts on it. */
export function markUncollectible(ctx: Ctx, id: string, reason: UncollectibleReason = 'user_forgiven'): StoredInvoice {
  const invoice = ctx.require('invoice', id)
  if (invoice.status !== 'open') {
    throw invalidRequest(`You can only mark an open invoice as uncollectible. This invoice is ${invoice.status ?? 'a draft'}.`)
  }
  const written = ctx.change(
    'invoice',
    id,
    {
      auto_advance: false,
      next_payment_attempt: null,
      status: 'uncollectible',
      status_details: { uncollectible: { reason } },
      status_transitions: { ...invoice.status_transitions, marked_uncollectible_at: ctx.nowOf(invoice) },
      _: { ...invoice._, retryAt: null },
    },
    'invoice.marked_uncollectible',
  )
  followWaivedInvoice(ctx, written)
  return written
}

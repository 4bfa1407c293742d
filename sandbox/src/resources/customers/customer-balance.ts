import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'

type BalanceTransaction = Stored<'customer_balance_transaction'>

/** A change of a customer's balance. `amount` in minor units: negative is a credit to the customer, positive a debit. */
export interface BalanceChange {
  readonly amount: number
  readonly currency: string
  readonly type: BalanceTransaction['type']
  readonly description?: string | null
  readonly invoice?: string | null
  readonly creditNote?: string | null
  readonly checkoutSession?: string | null
  readonly metadata?: Record<string, string>
}

/**
 * Changes a customer's balance and records the transaction, so that the balance is always the sum of its transactions. Sets the
 * customer's currency when it had none. Emits nothing: the caller announces `customer.updated` where Stripe does.
 */
export function changeBalance(ctx: Ctx, customerId: string, change: BalanceChange): BalanceTransaction {
  const customer = ctx.require('customer', customerId)
  const currency = change.currency.toLowerCase()
  requireCurrency(customer, currency)
  const endingBalance = customer.balance + change.amount
  ctx.update('customer', customerId, { balance: endingBalance, currency })
  return ctx.create('customer_balance_transaction', {
    id: ctx.newId('cbtxn', 24),
    object: 'customer_balance_transaction',
    amount: change.amount,
    checkout_session: change.checkoutSession ?? null,
    created: ctx.now(customerId),
    credit_note: change.creditNote ?? null,
    currency,
    customer: customerId,
    customer_account: null,
    description: change.description ?? null,
    ending_balance: endingBalance,
    invoice: change.invoice ?? null,
    livemode: false,
    metadata: change.metadata ?? {},
    type: change.type,
  })
}

/** Refuses a currency other than the one the customer is bound to: it never changes once set. */
export function requireCurrency(customer: Stored<'customer'>, currency: string): void {
  if (customer.currency === null || customer.currency === undefined || customer.currency === currency) return
  throw invalidRequest(
    `You cannot combine currencies on a single customer. This customer has an active subscription, subscription schedule, discount, quote, or invoice item with currency ${customer.currency}.`,
    { param: 'currency' },
  )
}

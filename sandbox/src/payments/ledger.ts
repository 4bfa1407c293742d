import type { Ctx } from '../engine/context.ts'
import type { Stored } from '../model/stored.ts'

export type BalanceTransaction = Stored<'balance_transaction'>

interface Movement {
  /** Gross, in minor units; negative for money that leaves. */
  readonly amount: number
  readonly availableOn: number
  readonly currency: string
  readonly customer: string | null
  readonly description: string | null
  readonly fee: number
  readonly feeDescription: string
  readonly reportingCategory: string
  readonly source: string
  readonly type: BalanceTransaction['type']
}

/** Records a movement on the account's balance. The object is never changed again; whether it is available follows from the time. */
export function recordBalanceTransaction(ctx: Ctx, movement: Movement): BalanceTransaction {
  const { amount, currency, fee } = movement
  const detail = { amount: fee, application: null, currency, description: movement.feeDescription, type: 'stripe_fee' }
  return ctx.create('balance_transaction', {
    id: ctx.newId('txn', 24),
    object: 'balance_transaction',
    amount,
    available_on: movement.availableOn,
    balance_type: 'payments',
    created: ctx.now(movement.customer),
    currency,
    description: movement.description,
    exchange_rate: null,
    fee,
    fee_details: fee === 0 ? [] : [detail],
    net: amount - fee,
    reporting_category: movement.reportingCategory,
    source: movement.source,
    type: movement.type,
    _: { customer: movement.customer },
  })
}

import type { Ctx } from '../../engine/context.ts'
import { timeRule, type TimeRule } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'

export type CreditGrant = Stored<'billing.credit_grant'>
type Transaction = Stored<'billing.credit_balance_transaction'>

/** A grant that may pay, and how much of it is left (minor units). */
export interface UsableGrant {
  readonly grant: string
  readonly available: number
  /** Only lines of these prices; null for every metered line. */
  readonly prices: readonly string[] | null
}

/**
 * The grants of a customer that may pay in a currency at a time, in the order in which they are drawn: priority (0 first), the earliest
 * to expire, promotional before paid, the earliest effective, the earliest created.
 * Source: docs.stripe.com/billing/subscriptions/usage-based/billing-credits.
 */
export function usableGrants(ctx: Ctx, customer: string, currency: string, now: number): UsableGrant[] {
  return ctx.store
    .by('billing.credit_grant', 'customer', customer)
    .filter((grant) => grant.amount.monetary?.currency === currency && grant._.remaining > 0 && isInForce(grant, now))
    .sort(compareGrants)
    .map((grant) => ({ grant: grant.id, available: grant._.remaining, prices: pricesOf(grant) }))
}

/** Pays an invoice's line from a grant; answers the id of the transaction. `amount` must not exceed what is left. */
export function drawCredit(ctx: Ctx, draw: { grant: string; amount: number; invoice: string; line: string }): string {
  const grant = ctx.require('billing.credit_grant', draw.grant)
  if (draw.amount > grant._.remaining)
    throw new RangeError(`The grant ${grant.id} has ${grant._.remaining} left, not ${draw.amount}.`)
  const applied = { invoice: draw.invoice, invoice_line_item: draw.line }
  const debit = { amount: monetary(grant, draw.amount), credits_applied: applied, type: 'credits_applied' as const }
  return record(ctx, grant, -draw.amount, { debit, type: 'debit' }).id
}

/** Gives back what a voided invoice's line was paid with. What a grant gets back after its end expires at once. */
export function returnCredit(ctx: Ctx, back: { grant: string; amount: number; invoice: string; line: string }): string {
  const grant = ctx.require('billing.credit_grant', back.grant)
  const voided = { invoice: back.invoice, invoice_line_item: back.line }
  const credit = {
    amount: monetary(grant, back.amount),
    credits_application_invoice_voided: voided,
    type: 'credits_application_invoice_voided' as const,
  }
  return record(ctx, grant, back.amount, { credit, type: 'credit' }).id
}

/** The first transaction of a grant. */
export function grantCredit(ctx: Ctx, grant: CreditGrant, amount: number): void {
  const credit = { amount: monetary(grant, amount), credits_application_invoice_voided: null, type: 'credits_granted' as const }
  record(ctx, grant, amount, { credit, type: 'credit' })
}

/** Takes what is left of a grant away, because it expires or is voided. */
export function dropCredit(ctx: Ctx, grant: CreditGrant, type: 'credits_expired' | 'credits_voided'): CreditGrant {
  const amount = grant._.remaining
  if (amount > 0)
    record(ctx, grant, -amount, { debit: { amount: monetary(grant, amount), credits_applied: null, type }, type: 'debit' })
  return ctx.require('billing.credit_grant', grant.id)
}

/** Expires what is left of a grant at its end. */
export const expireCredits: TimeRule = timeRule({
  name: 'credit grant: expire',
  object: 'billing.credit_grant',
  order: 10,
  due: (grant) => (grant._.remaining > 0 ? grant.expires_at : null),
  run: (grant, ctx) => {
    dropCredit(ctx, grant, 'credits_expired')
  },
})

/** True when the grant has begun, has not ended, and was not voided. */
export function isInForce(grant: CreditGrant, now: number): boolean {
  return (
    grant.voided_at === null &&
    (grant.effective_at ?? grant.created) <= now &&
    (grant.expires_at === null || grant.expires_at > now)
  )
}

function pricesOf(grant: CreditGrant): readonly string[] | null {
  const { prices } = grant.applicability_config.scope
  return prices === undefined ? null : prices.flatMap((price) => (price.id === null ? [] : [price.id]))
}

function compareGrants(left: CreditGrant, right: CreditGrant): number {
  const rank = (grant: CreditGrant) => [
    grant.priority ?? 50,
    grant.expires_at ?? Infinity,
    grant.category === 'promotional' ? 0 : 1,
    grant.effective_at ?? grant.created,
    grant.created,
  ]
  const rightRank = rank(right)
  return (
    rank(left)
      .map((value, at) => [value, rightRank[at] ?? 0] as const)
      .map(([a, b]) => (a === b ? 0 : a - b))
      .find((difference) => difference !== 0) ?? 0
  )
}

function monetary(grant: CreditGrant, value: number): CreditGrant['amount'] {
  return { monetary: { currency: grant.amount.monetary?.currency ?? 'usd', value }, type: 'monetary' }
}

function record(
  ctx: Ctx,
  grant: CreditGrant,
  change: number,
  kind: { credit: Transaction['credit']; type: 'credit' } | { debit: Transaction['debit']; type: 'debit' },
): Transaction {
  const now = ctx.now(grant.customer)
  ctx.update('billing.credit_grant', grant.id, { _: { remaining: grant._.remaining + change } })
  const effectiveAt = kind.type === 'credit' ? Math.max(now, grant.effective_at ?? now) : now
  return ctx.create(
    'billing.credit_balance_transaction',
    {
      id: `cbtxn_test_${ctx.token(24)}`,
      object: 'billing.credit_balance_transaction',
      created: now,
      credit: null,
      credit_grant: grant.id,
      debit: null,
      effective_at: effectiveAt,
      livemode: false,
      test_clock: grant.test_clock,
      ...kind,
      _: { customer: grant.customer },
    },
    'billing.credit_balance_transaction.created',
  )
}

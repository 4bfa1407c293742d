/**
 * The tax of payments that named a calculation (`hooks[inputs][tax][calculation]`): recorded when the payment succeeds, taken back by its
 * refunds. Source: docs.stripe.com/tax/payment-intent.
 */
import { refundedTax } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { noSuch } from '../../engine/errors.ts'
import { pageOf, wholeList } from '../../engine/lists.ts'
import { type Module, operation, presenter, reaction } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { TaxTransactionLineItem } from '../../wire.gen.ts'
import type { TaxCalculation } from './calculations.ts'

type Association = Stored<'tax.association'>
type Attempt = NonNullable<Association['tax_transaction_attempts']>[number]
type Transaction = Stored<'tax.transaction'>

/** The calculation that a payment names. */
function calculationOf(intent: Stored<'payment_intent'> | undefined): string | null {
  return intent?.hooks?.inputs?.tax?.calculation ?? null
}

/** The association of a payment with the calculation that it names now. */
function associate(ctx: Ctx, paymentIntent: string, calculation: string): Association {
  const known = ctx.store.lastBy('tax.association', 'payment_intent', paymentIntent)
  if (known !== undefined) return ctx.update('tax.association', known.id, { calculation })
  return ctx.create('tax.association', {
    id: ctx.newId('taxa', 24),
    object: 'tax.association',
    calculation,
    payment_intent: paymentIntent,
    tax_transaction_attempts: null,
  })
}

function note(ctx: Ctx, { id, tax_transaction_attempts: before }: Association, attempt: Attempt): void {
  ctx.update('tax.association', id, { tax_transaction_attempts: [...(before ?? []), attempt] })
}

const committed = (source: string, transaction: Transaction): Attempt => ({
  committed: { transaction: transaction.id },
  source,
  status: 'committed',
})

/** Why no transaction follows from a payment that succeeded; null where one does. */
function whyNot(
  ctx: Ctx,
  intent: Stored<'payment_intent'>,
  calculation: TaxCalculation,
): NonNullable<Attempt['errored']>['reason'] | null {
  const isTaken = ctx.store
    .by('tax.association', 'calculation', calculation.id)
    .some((other) => other.payment_intent !== intent.id && other.tax_transaction_attempts?.[0]?.status === 'committed')
  if (isTaken) return 'another_payment_associated_with_calculation'
  if (calculation.expires_at !== null && calculation.expires_at <= ctx.now(intent.customer)) return 'calculation_expired'
  return calculation.currency === intent.currency ? null : 'currency_mismatch'
}

function record(ctx: Ctx, intent: Stored<'payment_intent'>, association: Association): void {
  const calculation = ctx.require('tax.calculation', association.calculation)
  const reason = whyNot(ctx, intent, calculation)
  if (reason !== null) return note(ctx, association, { errored: { reason }, source: intent.id, status: 'errored' })
  const transaction = createTransaction(ctx, {
    of: calculation,
    items: calculation._.items.map(({ performance_location: _place, tax_breakdown: _parts, ...line }) => ({
      ...line,
      ...newLine(ctx, 'transaction'),
    })),
    reference: intent.id,
    reversal: null,
  })
  note(ctx, association, committed(intent.id, transaction))
}

/** Takes back what `share` of each line is: of a refund its part, of a refund that failed all that its own reversal took. */
function reverse(
  ctx: Ctx,
  {
    association,
    original,
    source,
    shares,
  }: {
    association: Association
    original: Transaction
    source: string
    shares: ReadonlyArray<{ readonly amount: number; readonly tax: number }>
  },
): void {
  const transaction = createTransaction(ctx, {
    of: original,
    items: original._.items.map((line, index) => ({
      ...line,
      ...newLine(ctx, 'reversal'),
      amount: -(shares[index]?.amount ?? 0),
      amount_tax: -(shares[index]?.tax ?? 0),
      reversal: { original_line_item: line.id },
    })),
    reference: original.type === 'reversal' ? `${source} failed` : source,
    reversal: { original_transaction: original.id },
  })
  note(ctx, association, committed(source, transaction))
}

function newLine(
  ctx: Ctx,
  type: 'reversal' | 'transaction',
): Pick<TaxTransactionLineItem, 'id' | 'livemode' | 'object' | 'reversal' | 'type'> {
  return { id: ctx.newId('tax_li', 14), object: 'tax.transaction_line_item', livemode: false, reversal: null, type }
}

function createTransaction(
  ctx: Ctx,
  {
    of,
    items,
    reference,
    reversal,
  }: {
    of: Pick<Transaction, 'currency' | 'customer' | 'customer_details' | 'ship_from_details' | 'shipping_cost' | 'tax_date'>
    items: readonly TaxTransactionLineItem[]
  } & Pick<Transaction, 'reference' | 'reversal'>,
): Transaction {
  const { currency, customer, customer_details, ship_from_details, shipping_cost, tax_date } = of
  const now = ctx.now(customer)
  return ctx.create('tax.transaction', {
    id: ctx.newId('tax', 24),
    object: 'tax.transaction',
    created: now,
    currency,
    customer,
    customer_details,
    livemode: false,
    metadata: {},
    posted_at: now,
    reference,
    reversal,
    ship_from_details,
    shipping_cost,
    tax_date,
    type: reversal === null ? 'transaction' : 'reversal',
    _: { items },
  })
}

/** The transaction that was made of a payment or of a refund of it. */
function transactionOf(ctx: Ctx, association: Association, source: string): Transaction | undefined {
  const attempt = association.tax_transaction_attempts?.find((each) => each.source === source && each.committed !== undefined)
  return attempt?.committed === undefined ? undefined : ctx.get('tax.transaction', attempt.committed.transaction)
}

const reactions = [
  reaction('payment_intent', (ctx, { before, after }) => {
    const calculation = calculationOf(after)
    if (after === undefined || calculation === null) return
    const isPaid = after.status === 'succeeded' && before?.status !== 'succeeded'
    if (!isPaid && calculationOf(before) === calculation) return
    const association = associate(ctx, after.id, calculation)
    if (isPaid) record(ctx, after, association)
  }),
  reaction('refund', (ctx, { before, after }) => {
    if (after?.payment_intent == null || before?.status === after.status) return
    const association = ctx.store.lastBy('tax.association', 'payment_intent', after.payment_intent)
    if (association === undefined) return
    const paid = transactionOf(ctx, association, after.payment_intent)
    const taken = transactionOf(ctx, association, after.id)
    if (after.status === 'succeeded' && paid !== undefined && taken === undefined) {
      const shares = refundedTax(paid._.items, after.amount)
      reverse(ctx, { association, original: paid, source: after.id, shares })
    } else if (after.status === 'failed' && taken !== undefined) {
      const shares = taken._.items.map(({ amount, amount_tax: tax }) => ({ amount, tax }))
      reverse(ctx, { association, original: taken, source: after.id, shares })
    }
  }),
]

const operations = [
  operation({
    on: 'GET /v1/tax/associations/find',
    takes: ['payment_intent'],
    run: (ctx, { payment_intent: intent }) => {
      const found = ctx.store.lastBy('tax.association', 'payment_intent', intent)
      if (found === undefined) throw noSuch('tax_association', intent, 'payment_intent')
      return found
    },
  }),
  operation({
    on: 'GET /v1/tax/transactions/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('tax.transaction', id),
  }),
  operation({
    on: 'GET /v1/tax/transactions/{id}/line_items',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) =>
      pageOf(ctx.require('tax.transaction', id)._.items, params, `/v1/tax/transactions/${id}/line_items`),
  }),
]

const presenters = [
  presenter('tax.transaction', {
    onExpand: {
      line_items: ({ id, _: { items } }) => wholeList([...items], `/v1/tax/transactions/${id}/line_items`),
    },
  }),
]

export const taxTransactionsModule: Module = { operations, presenters, reactions }

import { describe, expect, it } from 'vitest'
import { formatAmount } from './currencies.ts'
import { decimal } from './decimal.ts'
import { describeTrial } from './descriptions.ts'
import { applyDiscounts, type DiscountableLine } from './discounts.ts'
import { settleBalance } from './invoice-totals.ts'
import { invoiceNumber } from './numbering.ts'
import { boundary } from './periods.ts'
import { priceAmount } from './pricing.ts'
import { creditsOfDebits, type Debit, prorate } from './proration.ts'
import { WORKED_EXAMPLES, type WorkedExample } from './worked-examples.ts'

const at = (day: string): number => Date.parse(`${day}T10:00:00Z`) / 1000

function debitOf(amount: number, example: { period: { start: number; end: number } }): Debit {
  return { amount, period: example.period, quantity: 1, invoice: 'in_1', lines: ['il_1'], invoiceItem: null, price: 'price_1' }
}

const line = (amount: number, index: number): DiscountableLine => ({
  amount,
  discountable: true,
  product: null,
  itemDiscounts: [],
  itemKey: `line ${index}`,
})

/** What our rules make of an example, in the form of its `expect`. */
function outcomeOf(example: WorkedExample): unknown {
  switch (example.kind) {
    case 'proration':
      return prorate(example.amount, example.period, example.at)
    case 'price change': {
      const credit = prorate(-example.from, example.period, example.at)
      const debit = prorate(example.to, example.period, example.at)
      return [credit, debit, credit + debit]
    }
    case 'credit by mode': {
      const flexible = creditsOfDebits([debitOf(example.debited, example)], example.at).reduce(
        (sum, credit) => sum + credit.amount,
        0,
      )
      return { flexible, classic: prorate(-example.currentPrice, example.period, example.at) }
    }
    case 'price':
      return priceAmount(example.terms, decimal(example.quantity))
    case 'discounts':
      return applyDiscounts(example.lines.map(line), example.discounts).map((shares) =>
        shares.reduce((sum, { amount }) => sum + amount, 0),
      )
    case 'boundaries':
      return example.expect.map((_, n) =>
        new Date(boundary({ at: at(example.anchor) }, example.recurrence, n + 1) * 1000).toISOString().slice(0, 10),
      )
    case 'trial line':
      return describeTrial(example.product, decimal(example.quantity))
    case 'balance': {
      const { amountDue, endingBalance } = settleBalance(example)
      return { amountDue, endingBalance }
    }
    case 'number':
      return invoiceNumber(example.prefix, example.sequence)
    case 'amount text':
      return formatAmount(example.minor, example.currency)
  }
}

describe('worked examples of the documentation', () => {
  for (const example of WORKED_EXAMPLES) {
    it(`${example.kind}: ${example.name} (${example.source})`, () => {
      expect(outcomeOf(example)).toEqual(example.expect)
    })
  }
})

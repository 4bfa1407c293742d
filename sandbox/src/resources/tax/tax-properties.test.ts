/** Whatever is sold to whomever, each line has the tax that it should, and the sums are those of the lines. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { startTestSandbox } from '../../../test/contract.ts'

/** Tenths of a percent, as this test has them of its own. */
const TENTHS = { DE: 190, FI: 255, IE: 230, GB: 0 } as const

const lineOf = fc.record({
  amount: fc.integer({ min: 1, max: 1_000_000 }),
  behavior: fc.constantFrom('inclusive', 'exclusive', 'unspecified'),
  taxable: fc.constantFrom(true, true, true, false),
})
const saleOf = fc.record({
  country: fc.constantFrom('DE', 'FI', 'IE', 'GB'),
  exempt: fc.constantFrom('none', 'none', 'exempt', 'reverse'),
  hasVatId: fc.boolean(),
  percentOff: fc.constantFrom(null, 10, 33.3, 100),
  lines: fc.array(lineOf, { minLength: 1, maxLength: 6 }),
})
type Sale = typeof saleOf extends fc.Arbitrary<infer S> ? S : never

/** n / d to the nearest whole number, ties up; neither is negative. */
const nearest = (n: number, d: number): number => Math.floor((2 * n + d) / (2 * d))

/** What is taxed, in tenths of a percent: nothing where the customer or another country's business accounts for it. */
function tenthsOf(sale: Sale): number {
  const isAcross = sale.hasVatId && (sale.country === 'DE' || sale.country === 'FI')
  return sale.exempt !== 'none' || isAcross ? 0 : TENTHS[sale.country]
}

test('the tax of each line is its own, and totals add up', async () => {
  const { stripe } = await startTestSandbox()
  await stripe.tax.settings.update({ head_office: { address: { country: 'IE' } } })
  await stripe.tax.registrations.create({ active_from: 'now', country: 'IE', country_options: { ie: { type: 'oss_union' } } })
  await fc.assert(
    fc.asyncProperty(saleOf, async (sale) => {
      const { id: customer } = await stripe.customers.create({
        address: { country: sale.country },
        tax_exempt: sale.exempt,
        ...(sale.hasVatId ? { tax_id_data: [{ type: 'eu_vat', value: `${sale.country}123456789` }] } : {}),
      })
      const { percentOff } = sale
      const coupon = percentOff === null ? null : await stripe.coupons.create({ percent_off: percentOff, duration: 'once' })
      const draft = await stripe.invoices.create({
        customer,
        automatic_tax: { enabled: true },
        ...(coupon === null ? {} : { discounts: [{ coupon: coupon.id }] }),
      })
      for (const { amount, behavior, taxable } of sale.lines) {
        await stripe.invoiceItems.create({
          customer,
          invoice: draft.id,
          currency: 'usd',
          amount,
          tax_behavior: behavior,
          ...(taxable ? {} : { tax_code: 'txcd_00000000' }),
        })
      }
      const invoice = await stripe.invoices.finalizeInvoice(draft.id)

      const tenths = tenthsOf(sale)
      let [net, onTop, included] = [0, 0, 0]
      for (const [index, line] of sale.lines.entries()) {
        const shown = invoice.lines.data[index]
        const discount = (shown?.discount_amounts ?? []).reduce((sum, { amount }) => sum + amount, 0)
        expect(Math.abs(discount - (line.amount * (percentOff ?? 0)) / 100)).toBeLessThanOrEqual(1)
        const left = line.amount - discount
        const rate = line.taxable ? tenths : 0
        const isIncluded = line.behavior === 'inclusive'
        const tax = isIncluded ? nearest(left * rate, 1000 + rate) : nearest(left * rate, 1000)
        expect(shown?.taxes?.map((entry) => [entry.amount, entry.tax_behavior])).toEqual([
          [tax, isIncluded ? 'inclusive' : 'exclusive'],
        ])
        net += left
        if (isIncluded) included += tax
        else onTop += tax
      }
      expect(invoice.total).toBe(net + onTop)
      expect(invoice.total_excluding_tax).toBe(net - included)
      expect((invoice.total_taxes ?? []).reduce((sum, { amount }) => sum + amount, 0)).toBe(onTop + included)
    }),
    { numRuns: 40 },
  )
})

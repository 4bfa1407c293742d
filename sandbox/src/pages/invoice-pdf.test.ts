import { describe, expect, it } from 'vitest'
import { renderInvoicePdf } from './invoice-pdf.ts'
import type { InvoiceView } from './invoice-view.ts'

const invoice: InvoiceView = {
  number: 'ABCD-0001',
  status: 'open',
  currency: 'usd',
  issuedAt: 1_795_224_900,
  dueAt: null,
  paidAt: null,
  from: 'Sandbox',
  to: ['Customer', 'customer@example.com'],
  memo: null,
  footer: 'Thank you.',
  lines: [
    {
      description: '1 × Pro (at $29.00 / month)',
      period: { start: 1_795_224_900, end: 1_797_816_900 },
      quantity: '1',
      amount: 2900,
    },
  ],
  sums: [{ label: 'Amount due', amount: 2900, strong: true }],
  amountRemaining: 2900,
  amountTotal: 2900,
  underWayWith: null,
}

const pagesOf = (pdf: Buffer): number => pdf.toString('latin1').match(/\/Type \/Page\n/g)?.length ?? 0

describe('the invoice as PDF', () => {
  it('is a finished PDF with the date of the sandbox clock', async () => {
    const pdf = await renderInvoicePdf(invoice, 1_795_224_900)
    expect(pdf.subarray(0, 5).toString()).toBe('%PDF-')
    expect(pdf.subarray(-6).toString()).toContain('%%EOF')
    expect(pdf.toString('latin1')).toContain('(D:20261121013500Z)')
    expect(pagesOf(pdf)).toBe(1)
  })

  it('goes on to further pages when the lines do not fit on one', async () => {
    const line = invoice.lines[0]
    if (line === undefined) throw new Error('the sample has a line')
    const long = { ...invoice, lines: Array.from({ length: 60 }, () => line) }
    expect(pagesOf(await renderInvoicePdf(long, 1_795_224_900))).toBeGreaterThan(1)
  })
})

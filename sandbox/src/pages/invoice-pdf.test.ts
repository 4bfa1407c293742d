import { inflateSync } from 'node:zlib'
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

/** The words of a PDF, whose fonts are those that every reader has. */
function wordsOf(pdf: Buffer): string[] {
  const streams = [...pdf.toString('latin1').matchAll(/FlateDecode[^]*?stream\n([^]*?)\nendstream/g)]
  return streams.flatMap(([, stream]) => {
    const content = inflateSync(Buffer.from(stream!, 'latin1')).toString('latin1')
    return [...content.matchAll(/\[(.*)\] TJ/g)].map(([, shown]) => {
      const hex = [...shown!.matchAll(/<([0-9a-f]+)>/g)].map(([, piece]) => piece).join('')
      return new TextDecoder('windows-1252').decode(Buffer.from(hex, 'hex'))
    })
  })
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

  it('writes euro, rupee and won so that they can be told apart, and dashes and quotes as they are', async () => {
    const line = { amount: 2900, description: 'The owner’s plan – 1 × “Pro” • Łódź', period: null, quantity: '1' }
    const words = async (currency: string) => wordsOf(await renderInvoicePdf({ ...invoice, currency, lines: [line] }, 0))
    expect(await words('eur')).toContain('€29.00')
    expect(await words('eur')).toContain('The owner’s plan – 1 × “Pro” • ?ód?')
    expect(await words('inr')).toContain('INR 29.00')
    expect(await words('krw')).toContain('KRW 2,900')
  })

  it('goes on to further pages when the lines do not fit on one', async () => {
    const line = invoice.lines[0]
    if (line === undefined) throw new Error('the sample has a line')
    const long = { ...invoice, lines: Array.from({ length: 60 }, () => line) }
    expect(pagesOf(await renderInvoicePdf(long, 1_795_224_900))).toBeGreaterThan(1)
  })
})

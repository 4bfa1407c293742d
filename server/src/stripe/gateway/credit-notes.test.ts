import { expect, test } from 'vitest'
import { createCreditNoteReader, withCreditNotes } from './credit-notes.ts'
import type { InvoiceSnapshot } from './snapshots.ts'

type Reads = Parameters<typeof createCreditNoteReader>[0]
type Note = Awaited<ReturnType<Reads['listNotes']>>['data'][number]
type Line = Note['lines']['data'][number]

const line = (id: string, fields: Partial<Line> = {}): Line => ({
  id,
  amount: 10,
  pretax_credit_amounts: [],
  taxes: null,
  ...fields,
})
const note = (id: string, lines: Note['lines'], status = 'issued'): Note => ({
  id,
  status,
  lines,
  out_of_band_amount: null,
  refunds: [],
})

test('all lines of all notes count, by the line of the invoice that they are of, with discounts and tax on top; no void note does', async () => {
  const all = [line('a', { invoice_line_item: 'il_1' }), line('b', { invoice_line_item: 'il_2', amount: 5 }), line('c')]
  const taxed = line('d', {
    invoice_line_item: 'il_1',
    amount: 100,
    pretax_credit_amounts: [{ amount: 30 }, { amount: 20 }],
    taxes: [
      { amount: 9, tax_behavior: 'exclusive' },
      { amount: 4, tax_behavior: 'inclusive' },
    ],
  })
  const pages: Record<string, Note> = {
    cn_long: note('cn_long', { data: all.slice(0, 1), has_more: true }),
    cn_taxed: note('cn_taxed', { data: [taxed], has_more: false }),
    cn_void: note('cn_void', { data: [line('e', { invoice_line_item: 'il_1' })], has_more: false }, 'void'),
  }
  const read = createCreditNoteReader({
    listNotes: async ({ invoice, starting_after: after }) => {
      expect(invoice).toBe('in_1')
      const left = Object.values(pages).slice(after === undefined ? 0 : Object.keys(pages).indexOf(after) + 1)
      return { data: left.slice(0, 1), has_more: left.length > 1 }
    },
    listLines: async (id, { starting_after: after }) => {
      expect(id).toBe('cn_long')
      return after === undefined ? { data: all.slice(0, 2), has_more: true } : { data: all.slice(2), has_more: false }
    },
  })
  expect(withCreditNotes({} as InvoiceSnapshot, await read('in_1')).creditedLines).toEqual({ il_1: 10 + 59, il_2: 5 })
})

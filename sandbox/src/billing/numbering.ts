/** Numbers that people see: invoices and credit notes. Source: docs.stripe.com/invoicing/customize#invoice-numbering. */

/** `ABCD1234-0001`: the customer's prefix and their next number, at least four digits. */
export function invoiceNumber(prefix: string, sequence: number): string {
  return `${prefix}-${sequence.toString().padStart(4, '0')}`
}

/** `ABCD1234-0001-CN-01`: the n-th credit note of an invoice, counting from 1. */
export function creditNoteNumber(invoice: string, n: number): string {
  return `${invoice}-CN-${n.toString().padStart(2, '0')}`
}

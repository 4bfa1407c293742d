import type { Stripe } from 'stripe'
import { readOrganization } from '../src/stripe/organizations.ts'
import { USE_CATALOG } from './use-catalog.ts'
import { testUse, type TestUse } from './used.ts'

export type TestCredits = TestUse & {
  readonly customerOf: (organizationId: string) => Promise<string>
  /** What was given back at Stripe for use that was taken back, oldest first. */
  readonly givenTo: (organizationId: string) => Promise<number[]>
  readonly newestInvoiceOf: (organizationId: string) => Promise<Stripe.Invoice>
  /** An organization of which a month with 200 calls over is paid, 140 of them by one use: 1140, of which 140 is use, or 98 what that one use cost. */
  readonly paidMonth: () => Promise<{ id: string; began: Date; key: string }>
}

/** Use that is billed, and what of it is taken back. Call it once at the top of a test file. */
export function testCredits(): TestCredits {
  const billing = testUse(USE_CATALOG)
  const customerOf = async (id: string) => (await readOrganization(billing.database.db, id)).customerId!
  return Object.assign(Object.create(billing) as TestUse, {
    customerOf,
    async givenTo(id: string) {
      const customer = await customerOf(id)
      return billing.sandbox
        .all('customer_balance_transaction')
        .filter((each) => each.customer === customer && each.metadata?.['tollgate_use_credit'] !== undefined)
        .map(({ amount }) => -amount)
    },
    async newestInvoiceOf(id: string) {
      return (await billing.stripe.invoices.list({ customer: await customerOf(id), limit: 1 })).data[0]!
    },
    async paidMonth() {
      const id = await billing.customer('starter')
      const began = await billing.nowOf(id)
      const key = `${id} mistaken`
      await billing.use(id, 'calls', 160)
      await billing.use(id, 'calls', 140, { key })
      await billing.advance(id, '33d')
      return { id, began, key }
    },
  })
}

/** Customers, prices and clocks that billing tests begin with. */
import type { Stripe } from 'stripe'
import { NOW, startTestSandbox, type TestSandbox } from './contract.ts'
import type { SandboxOptions } from '../src/index.ts'

export interface BillingBench extends TestSandbox {
  /** A product with a monthly price, in cents. */
  readonly price: (amount: number, options?: Partial<Stripe.PriceCreateParams> & { name?: string }) => Promise<Stripe.Price>
  /** A customer on a test clock that stands at `NOW`, with a card as default (null for none). */
  readonly customer: (card?: string | null) => Promise<{ id: string; clock: string; card: string | null }>
  /** Moves a test clock and waits until everything that follows has happened. */
  readonly advance: (clock: string, to: number) => Promise<void>
  /** Types of the events since the mark that the last call of `mark` set. */
  readonly mark: () => void
  readonly since: () => string[]
}

/** A sandbox for one billing test. */
export async function startBillingBench(options: SandboxOptions = {}): Promise<BillingBench> {
  const bench = await startTestSandbox(options)
  const { stripe, sandbox } = bench
  let seen = 0
  return {
    ...bench,
    async price(amount, { name = 'Pro', ...params } = {}) {
      const product = await stripe.products.create({ name })
      return stripe.prices.create({
        currency: 'usd',
        product: product.id,
        recurring: { interval: 'month' },
        ...(params.billing_scheme === 'tiered' ? {} : { unit_amount: amount }),
        ...params,
      })
    },
    async customer(card = 'pm_card_visa') {
      const clock = await stripe.testHelpers.testClocks.create({ frozen_time: NOW })
      const customer = await stripe.customers.create({ email: 'ada@example.com', test_clock: clock.id })
      if (card === null) return { id: customer.id, clock: clock.id, card: null }
      const method = await stripe.paymentMethods.attach(card, { customer: customer.id })
      await stripe.customers.update(customer.id, { invoice_settings: { default_payment_method: method.id } })
      return { id: customer.id, clock: clock.id, card: method.id }
    },
    async advance(clock, to) {
      await stripe.testHelpers.testClocks.advance(clock, { frozen_time: to })
      await sandbox.settled()
    },
    mark: () => {
      seen = sandbox.all('event').length
    },
    since: () => bench.eventTypes(seen).filter((type) => !type.startsWith('test_helpers.')),
  }
}

/** Unix seconds of an instant in text. */
export const at = (text: string): number => Date.parse(text) / 1000

export { NOW } from './contract.ts'

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Stripe } from 'stripe'
import { startTestSandbox, type TestSandbox } from '../../test/contract.ts'
import { idOf } from '../../test/ids.ts'

const cards = [
  'pm_card_visa',
  'pm_card_visa_chargeDeclined',
  'pm_card_threeDSecure2Required',
  'pm_card_threeDSecureRequiredChargeDeclined',
  'pm_card_createDispute',
  'pm_card_pendingRefund',
] as const

type Step =
  | { readonly kind: 'confirm'; readonly card: (typeof cards)[number]; readonly offSession: boolean }
  | { readonly kind: 'challenge'; readonly outcome: 'complete' | 'fail' }
  | { readonly kind: 'capture'; readonly amount: number }
  | { readonly kind: 'refund'; readonly amount: number }
  | { readonly kind: 'cancel' }
  | { readonly kind: 'update'; readonly amount: number }

const amount = fc.integer({ max: 2500, min: 1 })
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ card: fc.constantFrom(...cards), kind: fc.constant('confirm' as const), offSession: fc.boolean() }),
  fc.record({ kind: fc.constant('challenge' as const), outcome: fc.constantFrom('complete' as const, 'fail' as const) }),
  fc.record({ amount, kind: fc.constant('capture' as const) }),
  fc.record({ amount, kind: fc.constant('refund' as const) }),
  fc.constant({ kind: 'cancel' as const }),
  fc.record({ amount, kind: fc.constant('update' as const) }),
)

async function carryOut({ sandbox, stripe }: TestSandbox, intent: Stripe.PaymentIntent, { ...asked }: Step): Promise<unknown> {
  switch (asked.kind) {
    case 'confirm':
      return stripe.paymentIntents.confirm(intent.id, { off_session: asked.offSession, payment_method: asked.card })
    case 'challenge': {
      const body = new URLSearchParams({ outcome: asked.outcome })
      return fetch(`${sandbox.url}/3ds/${intent.client_secret ?? ''}`, { body, method: 'POST' })
    }
    case 'capture':
      return stripe.paymentIntents.capture(intent.id, { amount_to_capture: asked.amount })
    case 'refund':
      return stripe.refunds.create({ amount: asked.amount, payment_intent: intent.id })
    case 'cancel':
      return stripe.paymentIntents.cancel(intent.id)
    case 'update':
      return stripe.paymentIntents.update(intent.id, { amount: asked.amount })
  }
}

/** A refusal is a normal answer; anything else than a refusal is a fault of the sandbox. */
async function attempt(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError) || (error.statusCode ?? 500) >= 500) throw error
  }
}

/** What must hold of an intent, its charges, refunds and movements, whatever happened before. */
async function checkBooks({ events, stripe }: TestSandbox, id: string): Promise<void> {
  const intent = await stripe.paymentIntents.retrieve(id)
  const charges = (await stripe.charges.list({ payment_intent: id })).data
  const refunds = (await stripe.refunds.list({ payment_intent: id })).data
  const paid = charges.filter((charge) => charge.paid)
  expect(paid.length).toBeLessThanOrEqual(1)
  expect(intent.amount_received).toBe(intent.status === 'succeeded' ? (paid[0]?.amount_captured ?? -1) : 0)
  expect(intent.amount_capturable).toBe(intent.status === 'requires_capture' ? intent.amount : 0)
  expect((intent.next_action === null) === (intent.status !== 'requires_action')).toBe(true)
  const needsMethod = intent.status === 'requires_payment_method' || intent.status === 'canceled'
  expect(intent.payment_method !== null || needsMethod).toBe(true)

  const back = refunds.reduce((sum, refund) => sum + refund.amount, 0)
  for (const charge of paid) {
    const released = charge.captured ? charge.amount - charge.amount_captured : charge.amount_refunded
    expect(charge.amount_refunded).toBe(back + released)
    expect(charge.refunded).toBe(charge.amount_refunded === charge.amount)
    const gross = (await stripe.balanceTransactions.list({ source: charge.id })).data.reduce(
      (sum, movement) => sum + movement.amount,
      0,
    )
    expect(gross).toBe(charge.amount_captured)
  }
  const told = events().filter(
    (event) => event.type.startsWith('payment_intent.') && (event.data.object as { id: string }).id === id,
  )
  expect(told.at(-1)?.data.object).toMatchObject({ status: intent.status })
}

/** What is left of a payment can always be given back, and then nothing is left. */
async function checkFullRefund(test: TestSandbox, id: string): Promise<void> {
  const charges = (await test.stripe.charges.list({ payment_intent: id })).data
  for (const charge of charges.filter(({ captured, disputed, paid, refunded }) => paid && captured && !disputed && !refunded)) {
    await test.stripe.refunds.create({ charge: charge.id })
    expect(await test.stripe.charges.retrieve(charge.id)).toMatchObject({ amount_refunded: charge.amount, refunded: true })
    await checkBooks(test, id)
  }
}

it('keeps the books of a payment straight, whatever is asked in whatever order', async () => {
  const test = await startTestSandbox()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 8, minLength: 1 }), fc.boolean(), async (steps, manual) => {
      const intent = await test.stripe.paymentIntents.create({
        amount: 1000,
        automatic_payment_methods: { allow_redirects: 'never', enabled: true },
        capture_method: manual ? 'manual' : 'automatic_async',
        currency: 'usd',
      })
      for (const asked of steps) {
        await attempt(carryOut(test, intent, asked))
        await checkBooks(test, idOf(intent))
      }
      await checkFullRefund(test, intent.id)
    }),
    { numRuns: 60 },
  )
})

import { Stripe } from 'stripe'

/** The error with which Stripe's client refuses; fails when the request is answered. */
export async function refusal(request: Promise<unknown>): Promise<Stripe.errors.StripeError> {
  try {
    await request
  } catch (error) {
    if (error instanceof Stripe.errors.StripeError) return error
    throw error
  }
  throw new Error('The request was answered, but should have been refused')
}

import { StripeCallError } from '../gateway/errors.ts'

/** How long a read that works without Stripe waits for it: Stripe answers in well under a second. */
const PATIENCE_MS = 2_000

/**
 * What Stripe says beside the mirror, for reads that work without it: undefined when it is away, or does not answer soon. What was asked goes
 * on by itself.
 * @throws what is no failure of Stripe's
 */
export async function askBriefly<Answer>(asked: Promise<Answer>): Promise<Answer | undefined> {
  const heard = asked.catch((error: unknown) => {
    if (error instanceof StripeCallError) return undefined
    throw error
  })
  let timer: NodeJS.Timeout | undefined
  const impatience = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS, undefined)
  })
  try {
    return await Promise.race([heard, impatience])
  } finally {
    clearTimeout(timer)
  }
}

import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { StripeCallError } from '../gateway/errors.ts'
import type { StripeReads } from '../gateway/gateway.ts'
import { fetchState, RECENT_SCOPE } from './fetch.ts'

let unheard: unknown[]
const note = (reason: unknown) => void unheard.push(reason)

beforeEach(() => {
  unheard = []
  process.on('unhandledRejection', note)
})
afterEach(() => {
  process.off('unhandledRejection', note)
})

test.each([true, false])(
  'a Stripe that is away is one failure, and ends no server by another that nobody hears (charges: %s)',
  async (charges) => {
    const away = () => Promise.reject(new StripeCallError('stripe_unavailable', 'Stripe is away.', 'unanswered'))
    const reads = new Proxy({}, { get: () => away }) as StripeReads
    const scope = { ...RECENT_SCOPE, customer: false, paymentMethods: true, charges }
    const fetched = fetchState(reads, 'cus_1', scope, { invoices: [], disputedChargeIds: [] })
    await expect(fetched).rejects.toMatchObject({ code: 'stripe_unavailable' })
    await setImmediate()
    expect(unheard).toEqual([])
  },
)

import { expect } from 'vitest'
import { ManualClock, type Instant } from '../src/lib/clock.ts'
import type { BillingContext } from '../src/stripe/context.ts'
import { startTestClock } from '../src/stripe/test-clock.ts'
import type { TestBilling } from './billing.ts'

/** When clocks start: a month of 31 days and a year of 365 begin there. */
export const START = new Date('2026-03-10T12:00:00Z')

/**
 * Puts an organization on a clock of its own that starts at the same time on whatever day the test runs: `31d` is a month later then, as
 * it is not from 31 January.
 */
export async function startClock(context: BillingContext, organizationId: string, at: Instant = START): Promise<void> {
  await startTestClock({ ...context, clock: new ManualClock(at) }, organizationId)
}

/** Organizations that live on clocks of their own, and how these are moved. */
export function testClocks(billing: TestBilling) {
  /** A new organization on a clock of its own; answers its id. */
  const onClock = async (id: string): Promise<string> => {
    await billing.createOrganization(id)
    await startClock(billing.context, id)
    return id
  }
  /** Moves a clock, e.g. by `31d`, or to a time, until all that follows is handled. */
  const advance = async (id: string, to: string | Date): Promise<void> => {
    const move = typeof to === 'string' ? { by: to } : { to: to.toISOString() }
    const moved = await billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, move)
    expect(moved.status, JSON.stringify(moved.body)).toBe(200)
  }
  return { onClock, advance }
}

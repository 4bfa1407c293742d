import { expect } from 'vitest'
import { startTestClock } from '../src/stripe/test-clock.ts'
import type { TestBilling } from './billing.ts'

/** Organizations that live on clocks of their own, and how these are moved. */
export function testClocks(billing: TestBilling) {
  /** A new organization on a clock of its own; answers its id. */
  const onClock = async (id: string): Promise<string> => {
    await billing.createOrganization(id)
    await startTestClock(billing.context, id)
    return id
  }
  /** Moves a clock, e.g. by `31d`, until all that follows is handled. */
  const advance = async (id: string, by: string): Promise<void> => {
    const moved = await billing.call('operator', 'POST', `/api/v1/organizations/${id}/clock/advance`, { by })
    expect(moved.status, JSON.stringify(moved.body)).toBe(200)
  }
  return { onClock, advance }
}

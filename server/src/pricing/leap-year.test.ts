import { expect, test } from 'vitest'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { startClock } from '../../test/test-clocks.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { advanceTestClock } from '../stripe/test-clock.ts'
import { readStatement } from './statement.ts'

const billing = testUse(USE_CATALOG)

test('a year from 29 February: use is included and billed in the same months, also after its renewal', async () => {
  const id = await billing.createOrganization('leap')
  await startClock(billing.context, id, new Date('2028-02-29T12:00:00Z'))
  const moveTo = (to: Date) => advanceTestClock(billing.context, id, { to })
  const body = { tier: 'starter', interval: 'yearly', payment_method_id: 'pm_card_visa' }
  expect((await billing.call(id, 'POST', '/api/v1/billing/subscribe', body)).status).toBe(200)
  const days: (readonly string[])[] = []
  for (let month = 0; month < 15; month += 1) {
    const { balance } = await billing.use(id, 'calls', 130)
    const { period } = await readStatement(billing.context, { organizationId: id, at: null })
    expect({ start: balance.periodStart, end: balance.periodEnd }).toEqual(period)
    days.push([period.start.toISOString().slice(0, 10), period.end.toISOString().slice(0, 10)])
    await moveTo(new Date(period.end.getTime() + 90 * MINUTE_MS))
  }
  expect(days[0]).toEqual(['2028-02-29', '2028-03-29'])
  expect(days.slice(12)).toEqual([
    ['2029-02-28', '2029-03-29'],
    ['2029-03-29', '2029-04-29'],
    ['2029-04-29', '2029-05-29'],
  ])
  const last = await readStatement(billing.context, { organizationId: id, at: new Date('2029-03-28T13:30:00Z') })
  expect(last.usage.find(({ balanceKey }) => balanceKey === 'calls')).toMatchObject({ amountMinor: 21, quantity: 30_000_000n })
})

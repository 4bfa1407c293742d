import { expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testMetering } from '../../test/metering.ts'
import { writeAside } from '../../test/under-lock.ts'
import { MICRO } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'
import type { RecordRequest } from './usage.ts'

const SOFT = { amount: 100, period: 'calendar_month', limit: 'soft' } as const
const fixture = testMetering({
  meters: { calls: {}, tokens: {} },
  plans: { free: { name: 'Free', allowances: { calls: SOFT, tokens: SOFT } } },
  defaultPlan: 'free',
})

const use = (organizationId: string, meter: string, quantity: number): RecordRequest => ({
  verb: 'track',
  organizationId,
  meter,
  quantity: BigInt(quantity) * MICRO,
  idempotencyKey: `${meter} ${quantity}`,
  occurredAt: null,
  properties: null,
})

test('use is counted also by grants that somebody changes without the account’s lock while the group is on its way', async () => {
  const organization = await fixture.newOrganization()
  await fixture.metering().submit([use(organization, 'calls', 150), use(organization, 'tokens', 1)])
  const { db } = fixture.database
  const waits = `select from pg_stat_activity where application_name = 'tollgate usage' and wait_event_type = 'Lock'`
  const counted = await writeAside(db, async (tx) => {
    await tx.query(`update grants set priority = priority where organization_id = $1`, [organization])
    const group = fixture.metering().submit([use(organization, 'calls', 7), use(organization, 'tokens', 2)])
    await vi.waitFor(async () => expect((await db.query(waits)).rowCount).toBeGreaterThan(0), PATIENCE)
    return { group }
  })
  expect((await counted.group).map(({ kind }) => kind)).toEqual(['answer', 'answer'])
  const { rows } = await db.query(
    `select balance, (used / 1000000)::int as used, (overage / 1000000)::int as overage from grants where organization_id = $1 order by 1`,
    [organization],
  )
  expect(rows).toEqual([
    { balance: 'calls', used: 100, overage: 57 },
    { balance: 'tokens', used: 3, overage: 0 },
  ])
  expect(await listImbalances(db, 10)).toEqual([])
})

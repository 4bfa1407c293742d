import { expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator } from '../../test/purchases.ts'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { readOrganization } from '../stripe/organizations.ts'
import { finishChanges } from '../subscriptions/jobs.ts'
import { readStatement } from './statement.ts'

const billing = testUse(USE_CATALOG)

test.each([
  ['pro', 'starter', 'monthly'],
  ['starter', 'pro', 'monthly'],
  ['pro', 'starter', 'yearly'],
] as const)(
  'a plan (%s, then %s, %s) that comes after its period has begun bills each use once, as the statements say',
  async (from, to, interval) => {
    const id = await billing.customer(from, interval)
    const began = await billing.nowOf(id)
    const use = () => billing.use(id, 'calls', 260)
    await use()
    await billing.succeed(id, 'upgrade', { new_tier: to, interval: 'monthly', at: 'period_end' })
    const dying = failing(billing.context, 'before', 'pause_subscription', KILLED)
    await expect(changeByOperator(dying, id, { kind: 'pause' })).rejects.toThrow('killed')
    // As if it had died a moment earlier, before the pause was written down.
    await billing.context.db.query(`delete from stripe_intents where organization_id = $1 and state = 'pending'`, [id])
    await billing.advance(id, interval === 'yearly' ? '366d' : '32d')
    await use()
    await finishChanges(billing.later(5 * MINUTE_MS))
    expect(await billing.subscriptionOf(id)).toMatchObject({ plan: to, scheduled_change: null })
    await use()
    await billing.advance(id, '32d')
    await billing.advance(id, '32d')
    let ours = 0
    for (let at = began; at <= (await billing.nowOf(id));) {
      const statement = await readStatement(billing.context, { organizationId: id, at })
      ours += statement.totalMinor
      at = statement.period.end
    }
    const { customerId } = await readOrganization(billing.context.db, id)
    const invoices = billing.sandbox.all('invoice').filter(({ customer, status }) => customer === customerId && status !== 'void')
    expect(ours).toBe(invoices.reduce((sum, { total }) => sum + total, 0))
  },
)

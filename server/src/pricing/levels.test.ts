import { expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { advanceTestClock } from '../stripe/test-clock.ts'
import { readStatement, type Statement } from './statement.ts'

const billing = testUse(await importCatalogDefinition('examples/kali-forensics/billing.config.ts'))
const BASE_FEE = 10_000

async function statementsFrom(organizationId: string, began: Date): Promise<Statement[]> {
  const statements: Statement[] = []
  const now = await billing.nowOf(organizationId)
  for (let at = began; at <= now; at = statements.at(-1)!.period.end) {
    statements.push(await readStatement(billing.context, { organizationId, at }))
  }
  return statements
}

/** What Stripe has charged for exactly one period. */
async function chargedFor(organizationId: string, { start, end }: Statement['period']): Promise<number> {
  const { rows } = await billing.database.db.query<{ customer: string }>(
    'select stripe_customer_id as customer from organizations where id = $1',
    [organizationId],
  )
  return billing.sandbox
    .all('invoice')
    .filter(({ customer }) => customer === rows[0]!.customer)
    .flatMap((invoice) => invoice._.lines)
    .filter(({ period }) => period.start === start.getTime() / 1000 && period.end === end.getTime() / 1000)
    .reduce((sum, { amount }) => sum + amount, 0)
}

test.each(['monthly', 'yearly'] as const)(
  'KF-1 agents of a %s subscription are billed each month at the level that stands, told again or not',
  async (interval) => {
    const tenant = await billing.customer('standard', interval)
    const began = await billing.nowOf(tenant)
    for (const agents of [3, 2]) await billing.use(tenant, 'agent', agents)
    await billing.advance(tenant, '63d')
    await billing.use(tenant, 'agent', 1)
    await billing.advance(tenant, '62d')
    const statements = await statementsFrom(tenant, began)
    const agents = statements.map(({ usage }) => usage.filter(({ balanceKey }) => balanceKey === 'agent'))
    const ended = statements.slice(0, -1)
    const quantities = ended.map((_, index) => agents[index]!.map(({ quantity }) => quantityToJson(quantity)))
    expect(quantities).toEqual([[3], [2], [2], [1]])
    for (const [index, statement] of ended.entries()) {
      const base = interval === 'monthly' ? BASE_FEE : 0
      expect(await chargedFor(tenant, statement.period)).toBe(base + [3, 2, 2, 1][index]! * 5000)
      expect(agents[index]![0]!.amountMinor).toBe([3, 2, 2, 1][index]! * 5000)
    }
  },
)

test('KF-1 the statement, its lines, the summary and the report of use know a level from the first moment of the month', async () => {
  const tenant = await billing.customer('standard')
  await billing.use(tenant, 'agent', 3)
  const { period } = await readStatement(billing.context, { organizationId: tenant, at: null })
  // Without the job, which tells levels once a minute, and without what a move of the clock tells.
  await advanceTestClock(billing.context, tenant, { to: period.end })
  const statement = await billing.ask('GET', '/api/v1/billing/statement', undefined, tenant)
  expect(statement.body['period']).toMatchObject({ start: period.end.toISOString() })
  const [line] = (statement.body['usage'] as Record<string, unknown>[]).filter(({ balance }) => balance === 'agent')
  expect(line).toMatchObject({ quantity: 3, amount_minor: 15_000 })
  const summary = await billing.ask('GET', `/api/v1/billing/usage/tenant/${tenant}/summary`, undefined, tenant)
  expect(summary.body['usage']).toMatchObject({ agent: { quantity: 3, cost_cents: 15_000 } })
})

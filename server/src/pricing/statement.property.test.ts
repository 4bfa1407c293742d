import fc from 'fast-check'
import { expect, test } from 'vitest'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { reportNow } from './actions.ts'
import { giveDueCredits } from './credits.ts'
import { readStatement, type Statement } from './statement.ts'

const billing = testUse(USE_CATALOG)

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('use' as const),
      meter: fc.constantFrom('calls', 'tokens', 'agents'),
      quantity: fc.integer({ min: 0, max: 400_000 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('correct' as const), part: fc.integer({ min: 1, max: 100 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('advance' as const), hours: fc.integer({ min: 1, max: 24 * 40 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('report' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('switch' as const),
      plan: fc.constantFrom('starter', 'pro'),
      interval: fc.constantFrom('monthly', 'yearly'),
      at: fc.constantFrom('now', 'period_end'),
      quantity: fc.integer({ min: 1, max: 3 }),
    }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/** Which part of a step's quantity each meter is used by: calls in fractions, agents in single ones. */
const AMOUNT = { calls: 1_000n, tokens: 10_000n, agents: 50_000_000_000n }

async function take(id: string, each: Step, used: { key: string; quantity: number }[]): Promise<void> {
  switch (each.kind) {
    case 'use': {
      const micro =
        each.meter === 'agents' ? BigInt(each.quantity % 12) * 1_000_000n : BigInt(each.quantity) * AMOUNT[each.meter as 'calls']
      const quantity = `${micro / 1_000_000n}.${(micro % 1_000_000n).toString().padStart(6, '0')}`
      const key = `${id}-${used.length}`
      await billing.use(id, each.meter, quantity, { key })
      if (each.meter === 'calls') used.push({ key, quantity: Math.floor(Number(micro) / 1_000_000) })
      else used.push({ key: '', quantity: 0 })
      return
    }
    case 'correct': {
      const last = used.findLast(({ key, quantity }) => key !== '' && quantity > 0)
      if (last === undefined) return
      const back = Math.ceil((last.quantity * each.part) / 100)
      last.quantity -= back
      await billing.correct(id, last.key, -back)
      return
    }
    case 'advance':
      return billing.advance(id, `${each.hours}h`)
    case 'report':
      return reportNow(billing.context, id)
    case 'switch': {
      const { plan: new_tier, interval, at, quantity } = each
      const answer = await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier, interval, at, quantity })
      if (![200, 409].includes(answer.status)) throw new Error(JSON.stringify(answer.body))
    }
  }
}

/** The statements of all periods from a time until now. */
async function statementsFrom(organizationId: string, from: Date, until: Date): Promise<Statement[]> {
  const statements: Statement[] = []
  for (let at = from; at <= until;) {
    const statement = await readStatement(billing.context, { organizationId, at })
    statements.push(statement)
    expect(statement.period.end.getTime()).toBeGreaterThan(at.getTime())
    at = statement.period.end
  }
  return statements
}

test('our statements and Stripe’s invoices are equal to the cent, whatever is used and however the plan changes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('starter', 'pro'), fc.array(step, { minLength: 3, maxLength: 14 }), async (plan, steps) => {
      const id = await billing.customer(plan)
      const began = await billing.nowOf(id)
      const used: { key: string; quantity: number }[] = []
      for (const each of steps) await take(id, each, used)
      // A level would stand, and be billed, in each period that follows.
      await billing.use(id, 'agents', 0)
      // Two quiet periods, so that everything that was used is on an invoice.
      await billing.advance(id, '32d')
      await billing.advance(id, '32d')
      await giveDueCredits(billing.context)
      const statements = await statementsFrom(id, began, await billing.nowOf(id))
      const { rows } = await billing.database.db.query<{ customer: string }>(
        'select stripe_customer_id as customer from organizations where id = $1',
        [id],
      )
      const invoices = billing.sandbox.all('invoice').filter(({ customer }) => customer === rows[0]!.customer)
      expect(invoices.every(({ status }) => status !== 'draft')).toBe(true)
      // Each line of use: what we say is what Stripe charged for that time.
      for (const { amountMinor, period } of statements.flatMap(({ usage }) => usage).filter((line) => line.amountMinor > 0)) {
        const [start, end] = [period.start.getTime() / 1000, period.end.getTime() / 1000]
        const lines = invoices
          .flatMap((invoice) => invoice._.lines)
          .filter((line) => line.period.start === start && line.period.end === end)
        expect(
          lines.length,
          `a line from ${period.start.toISOString()} to ${period.end.toISOString()} over ${amountMinor}`,
        ).toBeGreaterThan(0)
      }
      const ours = statements.reduce((sum, { totalMinor }) => sum + totalMinor, 0)
      const theirs = invoices.reduce((sum, { total }) => sum + total, 0)
      expect(ours).toBe(theirs)
      // What was taken back of lines that were paid has come back, each to the cent.
      const credited = statements.reduce((sum, { creditedMinor }) => sum + creditedMinor, 0)
      const given = billing.sandbox
        .all('customer_balance_transaction')
        .filter(({ customer, metadata }) => customer === rows[0]!.customer && metadata?.['tollgate_use_credit'] !== undefined)
        .reduce((sum, { amount }) => sum - amount, 0)
      expect(given).toBe(credited)
    }),
    { numRuns: 50, endOnFailure: true },
  )
}, 600_000)
